"""Has a window of rows drifted from the reference of a model version? One rule, for files and for live windows.

A feature drifts when the adjusted p-value of one of its tests is under the threshold AND that test's effect is over the
floor; the window drifts when any feature does. The adjustment (Benjamini-Hochberg) is over all tests of all features,
so that many features do not add up to false alarms; the floor keeps large windows from alarming on what matters little.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from msgspec import UNSET, UnsetType, structs

from models.binning import Counts
from models.reference import Reference
from monitoring.drift_report import (
    DriftReport,
    DriftScore,
    DriftThresholds,
    PredictionDrift,
    ShareChange,
    Status,
    severity_of,
)
from monitoring.drift_statistics import Comparison, Segments, benjamini_hochberg, compare, two_proportions
from monitoring.drift_words import describe_part, describe_share
from monitoring.window_profile import Layout, Part, WindowProfile

_DAY = 86_400.0
#: Shorter spans of dates hold hours or weekdays unevenly, whatever happens.
_LEAST_SPAN = {"hour": 2.0 * _DAY, "weekday": 14.0 * _DAY}
_TEST_NAMES = {"values": "distribution", "levels": "distribution", "score": "distribution", "class": "distribution"}


@dataclass(frozen=True, slots=True)
class _Test:
    """One entry of the adjustment. `part` is the distribution's position in the layout; -1 for a share."""

    owner: str
    name: str
    part: int
    statistic: float
    p_value: float
    effect: float
    adjusted: float = 1.0
    drifted: bool = False
    share: ShareChange | None = None

    @property
    def is_share(self) -> bool:
        return self.part < 0


class DriftDetector:
    """Compares windows with one reference. Keep it: what it needs of the reference is made once."""

    def __init__(self, reference: Reference, thresholds: DriftThresholds | None = None) -> None:
        self.reference = reference
        self.layout = Layout(reference)
        self.thresholds = thresholds or DriftThresholds()
        self._segments = Segments(self.layout)

    def detect(self, window: WindowProfile, now: datetime) -> DriftReport:
        """The verdict on a window. Raises ValueError when it was counted in the bins of another reference."""
        if window.identity != self.layout.identity:
            raise ValueError("the window was counted in the bins of another reference")
        comparison = compare(self._segments, window.counts, self.thresholds.least_rows)
        scores = self._feature_scores(window, comparison)
        drifted = _drifted(scores)
        return DriftReport(
            timestamp=now.isoformat(),
            overall_drift=bool(drifted),
            drift_score=_mean_effect(scores),
            severity=scores[drifted[0]].severity if drifted else "none",
            drifted_features=drifted,
            feature_scores=scores,
            status=self._status(window.rows),
            note=self._note(window.rows, self.reference.rows, len(scores)),
            rows=window.rows,
            reference_rows=self.reference.rows,
            thresholds=self.thresholds,
            prediction_drift=self._prediction_drift(window, comparison, now),
        )

    def _feature_scores(self, window: WindowProfile, comparison: Comparison) -> dict[str, DriftScore]:
        missing, unseen = self._missing(window), self._unseen(window)
        tests: list[_Test] = []
        if window.rows >= self.thresholds.least_rows:
            tested = [
                i for i, part in enumerate(self.layout.parts) if part.feature >= 0 and self._is_tested(part, window)
            ]
            tests = [*self._distribution_tests(tested, comparison), *missing.tests(), *unseen.tests()]
        judged = _by_owner(self._judge(tests))
        return {
            owner: structs.replace(
                self._score(owner, first, judged.get(owner, []), comparison, window),
                missing=missing.change(owner, judged),
                unseen=unseen.change(owner, judged),
                infinite=int(window.infinite[self.layout.parts[first].feature]),
            )
            for first, owner in self._owners(features=True)
        }

    def _prediction_drift(self, window: WindowProfile, comparison: Comparison, now: datetime) -> PredictionDrift | None:
        if self.reference.scores is None or not window.scored_rows:
            return None
        tested = [i for i, part in enumerate(self.layout.parts) if part.feature < 0]
        enough = window.scored_rows >= self.thresholds.least_rows
        judged = _by_owner(self._judge(self._distribution_tests(tested if enough else [], comparison)))
        scores = {
            owner: self._score(owner, first, judged.get(owner, []), comparison, window)
            for first, owner in self._owners(features=False)
        }
        drifted = _drifted(scores)
        return PredictionDrift(
            timestamp=now.isoformat(),
            overall_drift=bool(drifted),
            drift_score=_mean_effect(scores),
            severity=scores[drifted[0]].severity if drifted else "none",
            drifted_scores=drifted,
            scores=scores,
            status=self._status(window.scored_rows),
            note=self._note(window.scored_rows, self.reference.scores.rows, len(scores)),
            rows=window.scored_rows,
            reference_rows=self.reference.scores.rows,
        )

    def _owners(self, features: bool) -> Iterator[tuple[int, str]]:
        """Each feature (or each score) with the position of its first distribution."""
        seen: set[str] = set()
        for index, part in enumerate(self.layout.parts):
            if (part.feature >= 0) is features and part.owner not in seen:
                seen.add(part.owner)
                yield index, part.owner

    def _is_tested(self, part: Part, window: WindowProfile) -> bool:
        """Hours and weekdays only of dates that span enough of them, or that are all one moment."""
        least = _LEAST_SPAN.get(part.name)
        dates = self.reference.features[part.feature].dates
        if least is None or dates is None:
            return True
        span = float(window.latest[part.feature] - window.earliest[part.feature])
        return dates.latest - dates.earliest >= least and (span >= least or span == 0.0)

    def _distribution_tests(self, tested: Sequence[int], comparison: Comparison) -> list[_Test]:
        statistic = np.where(self._segments.ordered, comparison.ks, comparison.chi_squared)
        return [
            _Test(
                owner=self.layout.parts[index].owner,
                name=_TEST_NAMES.get(self.layout.parts[index].name, self.layout.parts[index].name),
                part=index,
                statistic=float(statistic[index]),
                p_value=float(comparison.p_value[index]),
                effect=float(comparison.effect[index]),
            )
            for index in tested
            if comparison.compared[index]
        ]

    def _missing(self, window: WindowProfile) -> _Shares:
        names = [feature.name for feature in self.reference.features]
        rows, rows_now = np.full(len(names), self.reference.rows), np.full(len(names), window.rows)
        return _Shares("missing", names, self.layout.missing, rows, window.missing + window.infinite, rows_now)

    def _unseen(self, window: WindowProfile) -> _Shares:
        parts = [part for part in self.layout.parts if part.levels is not None]
        rare = [part.levels.rare_rows for part in parts if part.levels is not None]
        unseen = [window.counts[part.stop - 1] for part in parts]
        known = [sum(part.counts) for part in parts]
        rows_now = [window.counts[part.start : part.stop].sum() for part in parts]
        counts = [np.array(column, dtype=np.int64) for column in (rare, known, unseen, rows_now)]
        return _Shares("unseen", [part.owner for part in parts], *counts)

    def _judge(self, tests: Sequence[_Test]) -> list[_Test]:
        """Adjusts the p-values of one family of tests and says which fired."""
        adjusted = benjamini_hochberg(np.array([test.p_value for test in tests])).tolist()
        return [
            replace(test, adjusted=value, drifted=value < self.thresholds.p_value and test.effect >= self._floor(test))
            for test, value in zip(tests, adjusted, strict=True)
        ]

    def _floor(self, test: _Test) -> float:
        return self.thresholds.share_effect if test.is_share else self.thresholds.effect

    def _effect(self, test: _Test) -> float:
        """The effect on the one scale of the report: Cohen's h is scaled so that its floor meets the other."""
        scale = self.thresholds.effect / self.thresholds.share_effect if test.is_share else 1.0
        return min(1.0, test.effect * scale)

    def _score(
        self, owner: str, first: int, tests: Sequence[_Test], comparison: Comparison, window: WindowProfile
    ) -> DriftScore:
        """The verdict on one owner: that of the test which fired with the largest effect, else of its distribution."""
        part = self.layout.parts[first]
        fired = [test for test in tests if test.drifted]
        leading = max(fired or tests[:1], key=self._effect, default=_NOT_TESTED)
        effect = self._effect(leading)
        shown = leading.part if leading.part >= 0 else first
        numeric = part.name in ("values", "score")
        return DriftScore(
            kind=self._kind(part),
            test=leading.name,
            statistic=leading.statistic,
            p_value=leading.p_value,
            adjusted_p_value=leading.adjusted,
            effect=effect,
            psi=float(comparison.psi[shown]),
            severity=severity_of(effect) if fired else "none",
            drift_detected=bool(fired),
            compared=any(not test.is_share for test in tests),
            words="; ".join(dict.fromkeys(self._words(test, window) for test in sorted(fired, key=self._effect)[::-1])),
            ks_statistic=float(comparison.ks[first]) if numeric else UNSET,
            wasserstein=float(comparison.wasserstein[first]) if numeric else UNSET,
            mean=self._means(first, part, comparison, window) if numeric else UNSET,
        )

    def _kind(self, part: Part) -> str:
        if part.feature >= 0:
            return self.reference.features[part.feature].kind
        return "numeric" if part.name == "score" else "categorical"

    def _means(self, index: int, part: Part, comparison: Comparison, window: WindowProfile) -> tuple[float, float]:
        """Mean in the reference and in the window; the latter of values clipped to the reference's range."""
        rows = int(comparison.window_rows[index])
        before = part.numbers.mean if part.numbers is not None else 0.0
        total = max(-sys.float_info.max, min(sys.float_info.max, float(window.sums[index])))
        return before, total / rows if rows else 0.0

    def _words(self, test: _Test, window: WindowProfile) -> str:
        if test.share is not None:
            return describe_share(test.owner, test.name, test.share)
        part = self.layout.parts[test.part]
        return describe_part(part, window.counts[part.start : part.stop])

    def _status(self, rows: int) -> Status:
        if rows < self.thresholds.least_rows:
            return "not_enough_data"
        return "few_rows" if rows < self.thresholds.advised_rows else "ok"

    def _note(self, rows: int, reference_rows: int, tests: int) -> str:
        status, limits = self._status(rows), self.thresholds
        if status == "ok":
            return ""
        if status == "not_enough_data":
            return f"not enough data: {rows} rows, and drift is told from accident from {limits.least_rows} rows on"
        unseen = _detectable(rows, reference_rows, tests, limits.p_value)
        return (
            f"only {rows} rows: differences of less than about {unseen:.2f} (as an effect, 0 to 1) go unseen; "
            f"{limits.advised_rows} rows or more are worth much more"
        )


class _Shares:
    """Shares of rows (missing, or of unseen levels) by feature: counts of the reference, then of the window."""

    def __init__(self, what: str, owners: list[str], count: Counts, rows: Counts, count_now: Counts, rows_now: Counts):
        self.what = what
        self.positions = {owner: index for index, owner in enumerate(owners)}
        self.before = (count / np.maximum(rows, 1)).tolist()
        self.after = (count_now / np.maximum(rows_now, 1)).tolist()
        z, p, h = two_proportions(count, rows, count_now, rows_now)
        self.z, self.p, self.h = z.tolist(), p.tolist(), h.tolist()

    def tests(self) -> Iterator[_Test]:
        """Tests of the shares that differ; of unseen levels only of more than expected: training rows show fewer."""
        for owner, i in self.positions.items():
            if self.z[i] > 0.0 or (self.z[i] < 0.0 and self.what == "missing"):
                share = ShareChange(reference=self.before[i], window=self.after[i])
                yield _Test(owner, self.what, -1, self.z[i], self.p[i], abs(self.h[i]), share=share)

    def change(self, owner: str, judged: Mapping[str, Sequence[_Test]]) -> ShareChange | UnsetType:
        """How the share of `owner` changed, with the verdict where it was tested; UNSET where it has none."""
        index = self.positions.get(owner)
        if index is None:
            return UNSET
        for test in judged.get(owner, ()):
            if test.name == self.what:
                return ShareChange(
                    reference=self.before[index],
                    window=self.after[index],
                    p_value=test.p_value,
                    adjusted_p_value=test.adjusted,
                    cohens_h=test.effect,
                    drift_detected=test.drifted,
                )
        return ShareChange(reference=self.before[index], window=self.after[index])


_NOT_TESTED = _Test(owner="", name="none", part=-1, statistic=0.0, p_value=1.0, effect=0.0)


def detect(
    reference: Reference, window: WindowProfile, now: datetime, thresholds: DriftThresholds | None = None
) -> DriftReport:
    """`DriftDetector(reference, thresholds).detect(window, now)`, for callers that check one window."""
    return DriftDetector(reference, thresholds).detect(window, now)


def _by_owner(tests: Iterable[_Test]) -> dict[str, list[_Test]]:
    owners: dict[str, list[_Test]] = {}
    for test in tests:
        owners.setdefault(test.owner, []).append(test)
    return owners


def _drifted(scores: Mapping[str, DriftScore]) -> list[str]:
    return sorted(
        (name for name, score in scores.items() if score.drift_detected), key=lambda name: -scores[name].effect
    )


def _mean_effect(scores: Mapping[str, DriftScore]) -> float:
    return sum(score.effect for score in scores.values()) / len(scores) if scores else 0.0


def _detectable(rows: int, reference_rows: int, tests: int, p_value: float) -> float:
    """The KS distance whose p-value (of two tests) passes the adjustment as the only drift among `tests`."""
    effective = rows * reference_rows / max(1, rows + reference_rows)
    return min(1.0, math.sqrt(math.log(4.0 * max(1, tests) / p_value) / (2.0 * max(1.0, effective))))
