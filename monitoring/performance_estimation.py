"""Accuracy without labels: what the error model expects of a window, and whether labels have borne it out.

Each logged row has an estimate c, the chance that its answer is right. The accuracy of n rows is estimated as A = Σc/n;
what will turn out lies within A ± 1.96·√(Σc(1 − c)/n² + a(1 − a)/N) in 95 of 100 windows: the first term is the chance
in the outcomes of n independent rows (a Poisson binomial), the second what the error model itself cannot know, having
been fitted on N rows of which the share a was right. A constant does as well while nothing moves; estimates are for
when something does. They know nothing of a change in what rows mean: that is `monitoring.concept_drift`.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Select, case, func, select

from models.error_model import ErrorModelProfile
from monitoring.store import Store
from monitoring.tables import outcome_counts, window_profiles
from monitoring.window_records import hour_start

#: Fewer estimated rows give no answer, and fewer labels do not judge the estimate.
LEAST_ROWS, LEAST_LABELS = 50, 200
#: The newest labelled rows that judge the estimate: at least so many, where the last 30 days have them.
JUDGING_LABELS, JUDGING_DAYS = 1_000, 30
#: It has been wrong when it is off by more than this and no accident (two-sided p under 0.001).
LARGEST_GAP, _WRONG_Z = 0.025, 3.2905
_Z = 1.959964
_MILLION = 1_000_000

EstimateStatus = Literal["ok", "switched_off", "not_enough_data", "no_error_model"]
Verdict = Literal["right", "wrong", "unproven"]


class LabelledEstimates(Struct, frozen=True, kw_only=True):
    """Rows that have both an estimate and an outcome."""

    labels: int
    right: int
    #: Sum of the estimates, and of c(1 - c).
    expected: float
    variance: float

    @property
    def realised(self) -> float:
        return self.right / self.labels

    @property
    def estimated(self) -> float:
        return self.expected / self.labels

    def z(self, profile: ErrorModelProfile) -> float:
        """(realised - estimated) / √(Σc(1 - c)/n² + a(1 - a)/N): how many standard errors more was right."""
        gap = self.realised - self.estimated
        error = standard_error(self.labels, self.variance, profile)
        return gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0


class EstimateCheck(Struct, frozen=True, kw_only=True):
    """What the newest labels said of the estimate."""

    verdict: Verdict
    labels: int
    since: datetime | None = None
    realised: float | None = None
    estimated: float | None = None
    z: float | None = None


class PerformanceEstimate(Struct, frozen=True, kw_only=True):
    """The estimated accuracy of a window; `accuracy` and `interval` are there when the status is ok."""

    timestamp: datetime
    model_version: str
    window_from: datetime
    window_to: datetime
    status: EstimateStatus
    #: Rows with an estimate, and without one.
    rows: int
    unestimated_rows: int
    accuracy: float | None
    interval: tuple[float, float] | None
    check: EstimateCheck
    words: str


def estimate_performance(
    store: Store, version: str, since: datetime, until: datetime, now: datetime, profile: ErrorModelProfile | None
) -> PerformanceEstimate:
    """Estimates the accuracy of the version's rows in all hours that touch [since, until), over all hosts and arms.

    `profile` is `error_model` of the version's reference.
    """
    total, rows, expected, variance = _window_sums(store, version, since, until)
    check = check_estimates(store, version, now, profile)
    status = _status(rows, check, profile)
    accuracy = interval = None
    if status == "ok" and profile is not None:
        accuracy = expected / rows
        margin = _Z * standard_error(rows, variance, profile)
        interval = (max(0.0, accuracy - margin), min(1.0, accuracy + margin))
    return PerformanceEstimate(
        timestamp=now,
        model_version=version,
        window_from=since,
        window_to=until,
        status=status,
        rows=rows,
        unestimated_rows=total - rows,
        accuracy=accuracy,
        interval=interval,
        check=check,
        words=_words(version, status, rows, accuracy, interval, check),
    )


def check_estimates(store: Store, version: str, now: datetime, profile: ErrorModelProfile | None) -> EstimateCheck:
    """Judges the estimate by the newest labelled rows: hour by hour backwards until there are enough of them."""
    if profile is None:
        return EstimateCheck(verdict="unproven", labels=0)
    newest, since = _newest_labels(store, version, now)
    if newest.labels < LEAST_LABELS:
        return EstimateCheck(verdict="unproven", labels=newest.labels, since=since)
    z = newest.z(profile)
    wrong = abs(newest.realised - newest.estimated) > LARGEST_GAP and abs(z) > _WRONG_Z
    return EstimateCheck(
        verdict="wrong" if wrong else "right",
        labels=newest.labels,
        since=since,
        realised=newest.realised,
        estimated=newest.estimated,
        z=z if math.isfinite(z) else None,
    )


def labelled_estimates(store: Store, version: str, since: datetime, until: datetime) -> LabelledEstimates:
    """Realised and estimated on the same rows, of predictions in all hours that touch [since, until)."""
    with store.reading() as connection:
        row = connection.execute(_labelled(version, since, until)).one()
    return _labelled_of(row)


def standard_error(rows: int, variance: float, profile: ErrorModelProfile) -> float:
    """Of realised less estimated accuracy over `rows` rows whose c(1 - c) sum up to `variance`."""
    a = profile.accuracy
    return math.sqrt(variance / rows**2 + a * (1.0 - a) / profile.rows)


def _window_sums(store: Store, version: str, since: datetime, until: datetime) -> tuple[int, int, float, float]:
    """Rows, estimated rows, Σc and Σc(1 - c)."""
    t = window_profiles.c
    sums = (t.rows, t.estimated_rows, t.estimate_millionths, t.estimate_variance_millionths)
    query = select(*(func.coalesce(func.sum(column), 0) for column in sums))
    with store.reading() as connection:
        row = connection.execute(
            query.where(t.model_version == version, t.hour >= hour_start(since), t.hour < until)
        ).one()
    return int(row[0]), int(row[1]), int(row[2]) / _MILLION, int(row[3]) / _MILLION


def _labelled(version: str, since: datetime, until: datetime) -> Select[Any]:
    t = outcome_counts.c
    right = case((t.predicted == t.actual, t.estimated_rows), else_=0)
    sums = (t.estimated_rows, right, t.estimate_millionths, t.estimate_variance_millionths)
    names = ("labels", "right", "expected", "variance")
    query = select(*(func.coalesce(func.sum(one), 0).label(name) for one, name in zip(sums, names, strict=True)))
    return query.where(t.model_version == version, t.hour >= hour_start(since), t.hour < until)


def _labelled_of(row: Any) -> LabelledEstimates:
    return LabelledEstimates(
        labels=int(row.labels),
        right=int(row.right),
        expected=int(row.expected) / _MILLION,
        variance=int(row.variance) / _MILLION,
    )


def _newest_labels(store: Store, version: str, now: datetime) -> tuple[LabelledEstimates, datetime | None]:
    """The newest labelled rows, and the hour that the oldest of them were predicted in."""
    hour = outcome_counts.c.hour
    query = _labelled(version, now - timedelta(days=JUDGING_DAYS), now + timedelta(hours=1))
    total, since = LabelledEstimates(labels=0, right=0, expected=0.0, variance=0.0), None
    with store.reading() as connection:
        for row in connection.execute(query.add_columns(hour).group_by(hour).order_by(hour.desc())):
            of_hour = _labelled_of(row)
            if not of_hour.labels:
                continue
            total, since = _sum(total, of_hour), row.hour
            if total.labels >= JUDGING_LABELS:
                break
    return total, since


def _sum(one: LabelledEstimates, other: LabelledEstimates) -> LabelledEstimates:
    return LabelledEstimates(
        labels=one.labels + other.labels,
        right=one.right + other.right,
        expected=one.expected + other.expected,
        variance=one.variance + other.variance,
    )


def _status(rows: int, check: EstimateCheck, profile: ErrorModelProfile | None) -> EstimateStatus:
    if profile is None:
        return "no_error_model"
    if check.verdict == "wrong":
        return "switched_off"
    return "ok" if rows >= LEAST_ROWS else "not_enough_data"


def _words(
    version: str,
    status: EstimateStatus,
    rows: int,
    accuracy: float | None,
    interval: tuple[float, float] | None,
    check: EstimateCheck,
) -> str:
    if accuracy is not None and interval is not None:
        said = f"Estimated accuracy {accuracy:.1%} ({interval[0]:.1%} to {interval[1]:.1%}) on {rows:,} rows"
        return f"{said}; {_borne_out(check)}."
    if status == "switched_off":
        return f"The estimate is switched off: {_borne_out(check)}. Accuracy needs outcomes until it is right again."
    if status == "not_enough_data":
        return f"{rows} estimated rows are too few to tell; {LEAST_ROWS} are needed."
    return (
        f"Version {version} has no error model: it was registered before there was one, or its held-out rows had too "
        "few mistakes to learn from. Accuracy needs outcomes; next: python main.py run registers one with it."
    )


def _borne_out(check: EstimateCheck) -> str:
    if check.realised is None or check.estimated is None:
        return f"no outcomes have borne it out yet ({check.labels} of the {LEAST_LABELS} needed)"
    return (
        f"on the newest {check.labels:,} rows with outcomes it said {check.estimated:.1%}, and {check.realised:.1%} "
        "turned out right"
    )
