"""Has a window of rows drifted from the reference of a model version? One rule, for files and for live windows.

A feature drifts when the adjusted p-value of one of its tests is under the threshold AND that test's effect is over the
floor; the window drifts when any feature does. The adjustment (Benjamini-Hochberg) is over all tests of all features,
so that many features do not add up to false alarms; the floor keeps large windows from alarming on what matters little.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from msgspec import UNSET, structs

from models.reference import Reference
from monitoring.drift_report import (
    DriftReport,
    DriftScore,
    DriftThresholds,
    PredictionDrift,
    Severity,
    Status,
    severity_of,
)
from monitoring.drift_statistics import Comparison, Segments, benjamini_hochberg, compare
from monitoring.drift_tests import NOT_TESTED, DriftTest, by_owner, missing_shares, unseen_shares
from monitoring.drift_words import describe_part, describe_share
from monitoring.window_profile import Layout, Part, WindowProfile

_DAY = 86_400.0
#: Shorter spans of dates hold hours or weekdays unevenly, whatever happens.
_LEAST_SPAN = {"hour": 2.0 * _DAY, "weekday": 14.0 * _DAY}
_TEST_NAMES = {"values": "distribution", "levels": "distribution", "score": "distribution", "class": "distribution"}


class DriftDetector:
    """Compares windows with one reference. Keep it: what it needs of the reference is made once."""

    def __init__(self, reference: Reference, thresholds: DriftThresholds | None = None) -> None:
        self.reference = reference
        self.layout = Layout(reference)
        self.thresholds = thresholds or DriftThresholds()
        self._segments = Segments(self.layout)

    def detect(self, window: WindowProfile, now: datetime, withheld: Collection[str] = frozenset()) -> DriftReport:
        """The verdict on a window. Raises ValueError when it was counted in the bins of another reference.

        Args:
            withheld: features whose values the window does not have (hashed or dropped in the log): they take no part.
        """
        if window.identity != self.layout.identity:
            raise ValueError("the window was counted in the bins of another reference")
        comparison = compare(self._segments, window.counts, self.thresholds.least_rows)
        scores = self._feature_scores(window, comparison, withheld)
        drifted = _drifted(scores)
        return DriftReport(
            timestamp=now.isoformat(),
            overall_drift=bool(drifted),
            drift_score=_mean_effect(scores),
            severity=_severity(scores, drifted),
            drifted_features=drifted,
            feature_scores=scores,
            status=self._status(window.rows),
            note=self._note(window.rows, self.reference.rows, len(scores)),
            rows=window.rows,
            reference_rows=self.reference.rows,
            thresholds=self.thresholds,
            withheld=sorted(withheld),
            prediction_drift=self._prediction_drift(window, comparison, now),
        )

    def _feature_scores(
        self, window: WindowProfile, comparison: Comparison, withheld: Collection[str]
    ) -> dict[str, DriftScore]:
        missing, unseen = missing_shares(self.layout, window), unseen_shares(self.layout, window)
        tests: list[DriftTest] = []
        if window.rows >= self.thresholds.least_rows:
            tested = [
                i
                for i, part in enumerate(self.layout.parts)
                if part.feature >= 0 and self._is_tested(part, window, withheld)
            ]
            tests = [*self._distribution_tests(tested, comparison), *missing.tests(), *unseen.tests()]
        judged = by_owner(self._judge([test for test in tests if test.owner not in withheld]))
        return {
            owner: structs.replace(
                self._score(owner, first, judged.get(owner, []), comparison, window),
                missing=missing.change(owner, judged),
                unseen=unseen.change(owner, judged),
                infinite=int(window.infinite[self.layout.parts[first].feature]),
                importance=self.reference.importance.get(owner, UNSET),
            )
            for first, owner in self._owners(features=True)
            if owner not in withheld
        }

    def _prediction_drift(self, window: WindowProfile, comparison: Comparison, now: datetime) -> PredictionDrift | None:
        if self.reference.scores is None or not window.scored_rows:
            return None
        tested = [i for i, part in enumerate(self.layout.parts) if part.feature < 0]
        enough = window.scored_rows >= self.thresholds.least_rows
        judged = by_owner(self._judge(self._distribution_tests(tested if enough else [], comparison)))
        scores = {
            owner: self._score(owner, first, judged.get(owner, []), comparison, window)
            for first, owner in self._owners(features=False)
        }
        drifted = _drifted(scores)
        return PredictionDrift(
            timestamp=now.isoformat(),
            overall_drift=bool(drifted),
            drift_score=_mean_effect(scores),
            severity=_severity(scores, drifted),
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

    def _is_tested(self, part: Part, window: WindowProfile, withheld: Collection[str]) -> bool:
        """Hours and weekdays only of dates that span enough of them, or that are all one moment; lags to a row's latest
        date only where every date is known."""
        if part.name == "lag" and not self.reference.lag_to_moment:
            return not any(feature.dates and feature.name in withheld for feature in self.reference.features)
        least = _LEAST_SPAN.get(part.name)
        dates = self.reference.features[part.feature].dates
        if least is None or dates is None:
            return True
        span = float(window.latest[part.feature] - window.earliest[part.feature])
        return dates.latest - dates.earliest >= least and (span >= least or span == 0.0)

    def _distribution_tests(self, tested: Sequence[int], comparison: Comparison) -> list[DriftTest]:
        statistic = np.where(self._segments.ordered, comparison.ks, comparison.chi_squared)
        return [
            DriftTest(
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

    def _judge(self, tests: Sequence[DriftTest]) -> list[DriftTest]:
        """Adjusts the p-values of one family of tests and says which fired."""
        adjusted = benjamini_hochberg(np.array([test.p_value for test in tests])).tolist()
        return [
            replace(test, adjusted=value, drifted=value < self.thresholds.p_value and test.effect >= self._floor(test))
            for test, value in zip(tests, adjusted, strict=True)
        ]

    def _floor(self, test: DriftTest) -> float:
        return self.thresholds.share_effect if test.is_share else self.thresholds.effect

    def _effect(self, test: DriftTest) -> float:
        """The effect on the one scale of the report: Cohen's h is scaled so that its floor meets the other."""
        floors = self.thresholds.effect, self.thresholds.share_effect
        scale = floors[0] / floors[1] if test.is_share and floors[1] else 1.0
        return min(1.0, test.effect * scale)

    def _score(
        self, owner: str, first: int, tests: Sequence[DriftTest], comparison: Comparison, window: WindowProfile
    ) -> DriftScore:
        """The verdict on one owner: that of the test which fired with the largest effect, else of its distribution."""
        part = self.layout.parts[first]
        fired = [test for test in tests if test.drifted]
        leading = max(fired or tests[:1], key=self._effect, default=NOT_TESTED)
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

    def _words(self, test: DriftTest, window: WindowProfile) -> str:
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


def _drifted(scores: Mapping[str, DriftScore]) -> list[str]:
    """What has drifted, what matters most first."""
    found = [name for name, score in scores.items() if score.drift_detected]
    return sorted(found, key=lambda name: scores[name].weight, reverse=True)


def _severity(scores: Mapping[str, DriftScore], drifted: Sequence[str]) -> Severity:
    """That of the largest effect, whatever it means to the model: importance ranks, and excuses nothing."""
    return severity_of(max(scores[name].effect for name in drifted)) if drifted else "none"


def _mean_effect(scores: Mapping[str, DriftScore]) -> float:
    return sum(score.effect for score in scores.values()) / len(scores) if scores else 0.0


def _detectable(rows: int, reference_rows: int, tests: int, p_value: float) -> float:
    """The KS distance whose p-value (of two tests) passes the adjustment as the only drift among `tests`."""
    effective = rows * reference_rows / max(1, rows + reference_rows)
    return min(1.0, math.sqrt(math.log(4.0 * max(1, tests) / p_value) / (2.0 * max(1.0, effective))))
