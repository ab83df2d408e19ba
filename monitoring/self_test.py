"""How often does the drift check, as it is configured, cry wolf, and what does it find? Tried on resampled windows.

Windows like the live ones are drawn from the champion's reference (`monitoring.resampling`), quiet and with drifts
injected into one feature each, and put through the same detector as live windows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Literal

import numpy as np
from msgspec import Struct

from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftThresholds
from monitoring.injected_drifts import DRIFTS, SCORE_SHIFT, Drift
from monitoring.intervals import wilson_interval
from monitoring.resampling import DrawnWindow, Resampler

DEFAULT_ROWS, DEFAULT_WINDOWS = 1_000, 300
#: Of quiet windows flagged, and of drifts found: what a configuration should keep to.
MOST_FALSE_ALARMS, LEAST_FOUND = 0.01, 0.9
#: Probability under which a rate on the wrong side of these is no accident of the few windows tried.
_ACCIDENT = 0.025
#: Seconds of work after which no new window is begun; what was measured by then is the answer.
MOST_SECONDS = 60.0
#: Seconds of silence before people are told how far it is.
TELL_AFTER = 2.0
_SET_P_VALUE = "python main.py monitors set data_drift --threshold p_value="
#: Features named that a drift was missed in, for each drift.
_NAMED_FEATURES = 10

RowsFrom = Literal["option", "live window", "default"]
Verdict = Literal["sensible", "false_alarms", "misses", "not_enough_data"]


class Rate(Struct, frozen=True, kw_only=True):
    """A share of windows, with its 95 % Wilson interval."""

    count: int
    of: int
    share: float
    low: float
    high: float

    @classmethod
    def of_windows(cls, count: int, of: int) -> Rate:
        low, high = wilson_interval(count, of)
        share = count / of  # the interval holds it, but for the last digit
        return cls(count=count, of=of, share=share, low=min(low, share), high=max(high, share))


class DetectionRate(Struct, frozen=True, kw_only=True):
    """One kind of drift, injected into one feature a window, each in its turn."""

    label: str
    #: Features that this drift makes sense for.
    features: int
    #: Windows in which the injected feature was named, and windows that were flagged for whatever reason.
    found: Rate
    flagged: Rate
    #: Features in which it was missed at least every other time, at most 10 of them.
    missed_in: list[str]


class SelfTest(Struct, frozen=True, kw_only=True):
    """What `monitor --self-test --json` prints."""

    timestamp: str
    model_version: str
    rows: int
    rows_from: RowsFrom
    reference_rows: int
    features: int
    #: Quiet windows tried; fewer than were asked for when the time was over.
    windows: int
    windows_asked: int
    seconds: float
    seed: int
    thresholds: DriftThresholds
    false_alarms: Rate
    #: The same of prediction drift, and the scores shifted; None where the reference has no scores.
    prediction_false_alarms: Rate | None
    prediction_shift: DetectionRate | None
    drifts: dict[str, DetectionRate]
    verdict: Verdict
    #: Whether the configuration is sensible, and what to change.
    advice: str


class _Tally:
    """Counts of one kind of drift while windows go through."""

    def __init__(self, drift: Drift, owners: list[str]) -> None:
        self.drift = drift
        self.owners = owners
        self.flagged = 0
        self.tried: dict[str, int] = {}
        self.found: dict[str, int] = {}

    def add(self, owner: str, flagged: bool, named: Collection[str]) -> None:
        self.flagged += flagged
        self.tried[owner] = self.tried.get(owner, 0) + 1
        self.found[owner] = self.found.get(owner, 0) + (owner in named)

    def rate(self) -> DetectionRate:
        tried, found = sum(self.tried.values()), sum(self.found.values())
        missed = [owner for owner in self.owners if 2 * self.found.get(owner, 0) <= self.tried.get(owner, 0) > 0]
        return DetectionRate(
            label=self.drift.label,
            features=len(self.owners),
            found=Rate.of_windows(found, tried),
            flagged=Rate.of_windows(self.flagged, tried),
            missed_in=missed[:_NAMED_FEATURES],
        )


class SelfTester:
    """Tries one detector; every random number comes from `seed`."""

    def __init__(
        self, detector: DriftDetector, rows: int, *, withheld: Collection[str] = frozenset(), seed: int = 0
    ) -> None:
        self.detector, self.rows, self.seed = detector, rows, seed
        self._withheld = withheld
        self._rng = np.random.default_rng(seed)
        self._resampler = Resampler(detector.layout, rows)
        self.windows = self._false_alarms = self._prediction_alarms = 0
        self._tallies = [
            _Tally(drift, [name for name in self._resampler.owners(drift) if name not in withheld]) for drift in DRIFTS
        ]
        self._scores = _Tally(SCORE_SHIFT, self._resampler.owners(SCORE_SHIFT, scores=True))

    def try_window(self, now: datetime) -> None:
        """One quiet window, and the same one once more for each kind of drift."""
        drawn = self._resampler.draw(self._rng)
        report = self.detector.detect(drawn.profile, now, self._withheld)
        self._false_alarms += report.overall_drift
        self._prediction_alarms += report.prediction_drift is not None and report.prediction_drift.overall_drift
        for tally in self._tallies:
            self._try_drift(tally, drawn, now)
        self._try_scores(drawn, now)
        self.windows += 1

    def _try_drift(self, tally: _Tally, drawn: DrawnWindow, now: datetime) -> None:
        if tally.owners:
            owner = tally.owners[self.windows % len(tally.owners)]
            window = self._resampler.inject(drawn, owner, tally.drift, self._rng)
            report = self.detector.detect(window, now, self._withheld)
            tally.add(owner, report.overall_drift, report.drifted_features)

    def _try_scores(self, drawn: DrawnWindow, now: datetime) -> None:
        if self._scores.owners:
            owner = self._scores.owners[self.windows % len(self._scores.owners)]
            window = self._resampler.inject(drawn, owner, self._scores.drift, self._rng)
            report = self.detector.detect(window, now, self._withheld).prediction_drift
            if report is not None:
                self._scores.add(owner, report.overall_drift, report.drifted_scores)

    def result(self, now: datetime, version: str, rows_from: RowsFrom, asked: int, seconds: float) -> SelfTest:
        """The rates of the windows tried so far, at least one."""
        false_alarms = Rate.of_windows(self._false_alarms, self.windows)
        drifts = {tally.drift.name: tally.rate() for tally in self._tallies if tally.owners}
        scored = self.detector.reference.scores is not None
        predictions = Rate.of_windows(self._prediction_alarms, self.windows) if scored else None
        score_shift = self._scores.rate() if self._scores.tried else None
        missed = [one for one in (*drifts.values(), score_shift) if one is not None and found_too_seldom(one.found)]
        verdict = _verdict(self.rows, self.detector.thresholds, (false_alarms, predictions), missed)
        return SelfTest(
            timestamp=now.isoformat(),
            model_version=version,
            rows=self.rows,
            rows_from=rows_from,
            reference_rows=self.detector.reference.rows,
            features=len(self.detector.reference.features) - len(self._withheld),
            windows=self.windows,
            windows_asked=asked,
            seconds=round(seconds, 3),
            seed=self.seed,
            thresholds=self.detector.thresholds,
            false_alarms=false_alarms,
            prediction_false_alarms=predictions,
            prediction_shift=score_shift,
            drifts=drifts,
            verdict=verdict,
            advice=_advice(verdict, self.rows, self.detector, missed),
        )


def run_self_test(
    tester: SelfTester,
    version: str,
    now: datetime,
    *,
    rows_from: RowsFrom,
    windows: int,
    clock: Callable[[], float],
    tell: Callable[[str], None] | None = None,
) -> SelfTest:
    """Tries `windows` windows, or as many as there is time for.

    Args:
        clock: seconds, from any beginning.
        tell: hears how far it is when that takes longer than `TELL_AFTER` seconds.
    """
    began = told = clock()
    while tester.windows < windows and (not tester.windows or clock() - began < MOST_SECONDS):
        tester.try_window(now)
        if tell is not None and clock() - told >= TELL_AFTER:
            told = clock()
            tell(f"self-test: {tester.windows} of {windows} windows, {told - began:.0f} s")
    return tester.result(now, version, rows_from, windows, clock() - began)


def alarms_too_often(rate: Rate) -> bool:
    """Whether so many alarms are no accident where the rate is `MOST_FALSE_ALARMS` (exact binomial tail)."""
    from scipy.special import bdtrc

    return rate.count > 0 and float(bdtrc(rate.count - 1, rate.of, MOST_FALSE_ALARMS)) < _ACCIDENT


def found_too_seldom(rate: Rate) -> bool:
    """Whether so few are no accident where `LEAST_FOUND` of them are found."""
    from scipy.special import bdtr

    return float(bdtr(rate.count, rate.of, LEAST_FOUND)) < _ACCIDENT


def _verdict(
    rows: int, thresholds: DriftThresholds, alarms: Collection[Rate | None], missed: Collection[DetectionRate]
) -> Verdict:
    if rows < thresholds.least_rows:
        return "not_enough_data"
    if any(rate is not None and alarms_too_often(rate) for rate in alarms):
        return "false_alarms"
    return "misses" if missed else "sensible"


def _advice(verdict: Verdict, rows: int, detector: DriftDetector, missed: Collection[DetectionRate]) -> str:
    thresholds = detector.thresholds
    key = f"the p-value of drift (now {thresholds.p_value:g}): {_SET_P_VALUE}"
    larger = f"{_rounded(2 * max(rows, thresholds.advised_rows // 2)):,}"
    if verdict == "not_enough_data":
        return (
            f"Windows of {rows} rows give no verdict at all: raise monitoring.drift_detection_frequency until a window "
            f"holds {thresholds.advised_rows} rows or more."
        )
    if verdict == "false_alarms":
        return (
            f"The configuration is not sensible: it alarms on quiet windows of {rows:,} rows too often; lower {key}"
            f"{min(0.01, thresholds.p_value / 10.0):g}"
        )
    if verdict == "sensible":
        return f"The configuration is sensible for windows of {rows:,} rows: nothing needs to be changed."
    labels = ", ".join(drift.label for drift in missed)
    return f"The configuration is quiet, but misses too much of: {labels}; {_remedy(rows, detector, key, larger)}"


def _remedy(rows: int, detector: DriftDetector, key: str, larger: str) -> str:
    if detector.thresholds.p_value < DriftThresholds().p_value:
        return f"raise {key}{DriftThresholds().p_value:g}"
    if detector.reference.rows < rows:
        return f"train on more rows than the {detector.reference.rows:,} that the windows are compared with"
    return f"raise monitoring.drift_detection_frequency until a window holds {larger} rows or more"


def _rounded(rows: int) -> int:
    """To two figures, upwards."""
    step = int(10 ** max(0, len(str(rows)) - 2))
    return -(-rows // step) * step
