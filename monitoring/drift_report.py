"""The values of a drift check, as `drift --json` prints them. Every number in them is finite."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from config.settings import Settings

Severity = Literal["none", "low", "medium", "high", "critical"]
Status = Literal["ok", "few_rows", "not_enough_data"]
#: Effects at which each severity begins.
_SEVERITY_STEPS: tuple[tuple[float, Severity], ...] = ((0.4, "critical"), (0.2, "high"), (0.1, "medium"), (0.0, "low"))


class DriftThresholds(Struct, frozen=True, kw_only=True):
    """What counts as drift; the defaults are those that were simulated."""

    #: Adjusted p-value below which a difference is no accident.
    p_value: float = 0.01
    #: Effect (KS distance or total variation, 0..1) below which a difference does not matter.
    effect: float = 0.05
    #: The same for missing and unseen shares, as Cohen's h.
    share_effect: float = 0.2
    #: Fewer rows give no answer; with fewer than `advised_rows` the report says how little the answer is worth.
    least_rows: int = 50
    advised_rows: int = 500

    @classmethod
    def from_settings(cls, settings: Settings) -> DriftThresholds:
        return cls(p_value=settings.data_quality.drift_threshold)


class ShareChange(Struct, frozen=True, kw_only=True):
    """A share of rows, in the reference (for unseen levels: what is expected) and in the window."""

    reference: float
    window: float
    p_value: float = 1.0
    adjusted_p_value: float = 1.0
    #: Cohen's h without its sign.
    cohens_h: float = 0.0
    drift_detected: bool = False


class DriftScore(Struct, frozen=True, kw_only=True):
    """The verdict on one feature or score; `statistic` to `effect` are those of `test`, the one that decided."""

    kind: str
    #: "distribution", "hour", "weekday", "lag", "missing", "unseen", or "none" when nothing could be compared.
    test: str
    #: KS distance of numbers, chi-squared of levels, z of shares.
    statistic: float
    p_value: float
    adjusted_p_value: float
    #: 0..1. Of shares: Cohen's h, scaled so that both floors are one.
    effect: float
    psi: float
    severity: Severity
    drift_detected: bool
    #: False when fewer values than `least_rows` were there on one side; shares are compared all the same.
    compared: bool
    #: Direction and size for people; empty without drift.
    words: str = ""
    ks_statistic: float | UnsetType = UNSET
    wasserstein: float | UnsetType = UNSET
    mean: tuple[float, float] | UnsetType = UNSET
    missing: ShareChange | UnsetType = UNSET
    unseen: ShareChange | UnsetType = UNSET
    #: Infinite values in the window; they count as missing, as they do for the model.
    infinite: int = 0
    #: The feature's share (0..1) of what the model reads; UNSET where that is not known, and of scores.
    importance: float | UnsetType = UNSET

    @property
    def weight(self) -> tuple[float, float]:
        """What ranks drift, higher is worse: effect times importance, or the effect where importances are not known."""
        return self.effect * (1.0 if self.importance is UNSET else self.importance), self.effect


class PredictionDrift(Struct, frozen=True, kw_only=True):
    """The same rule on the model's scores and predicted classes, against those on held-out rows."""

    timestamp: str
    overall_drift: bool
    drift_score: float
    severity: Severity
    drifted_scores: list[str]
    scores: dict[str, DriftScore]
    status: Status
    note: str
    rows: int
    reference_rows: int


class DriftReport(Struct, frozen=True, kw_only=True):
    """The verdict on a window."""

    timestamp: str
    overall_drift: bool
    #: Mean effect over the features, 0..1.
    drift_score: float
    severity: Severity
    #: What matters most first: by effect times importance.
    drifted_features: list[str]
    feature_scores: dict[str, DriftScore]
    status: Status
    #: How much the answer is worth, when it is worth little; else empty.
    note: str
    rows: int
    reference_rows: int
    thresholds: DriftThresholds
    #: Features whose values the window does not have, which take no part: the log hashes or drops them.
    withheld: list[str] = []
    #: None when the window has no answers of the model, or the reference none to compare them with.
    prediction_drift: PredictionDrift | None = None


def severity_of(effect: float) -> Severity:
    """Severity of something that has drifted, by its effect."""
    return next(severity for least, severity in _SEVERITY_STEPS if effect >= least)
