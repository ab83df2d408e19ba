"""The gate: whether a new model takes the place of the one in service, told on the rows that both held out.

promote         it is better, by enough and surely enough; or the champion is stale and it is surely not much worse
first           nothing comparable was in service
keep            no gain on these rows, or none that would be worth it
undecided       it scored better, but these rows cannot tell: a shadow run or an experiment can
incompatible    it refuses rows that the champion accepts
not_comparable  it answers another question
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from config.settings import PromotionSettings, Settings
from models.metrics import METRICS, Labels, Metric, Numbers
from pipeline.paired_bootstrap import Pair, resampled_gains

Decision = Literal["promote", "first", "keep", "undecided", "incompatible", "not_comparable"]
#: A gain of this many standard errors is found four times in five (at the confidence of 0.95).
DETECTABLE = 2.5
#: Below this share of resamples that define the metric, they say nothing of it.
ENOUGH_DEFINED = 0.9


class GateDecision(Struct, frozen=True, kw_only=True):
    """What was decided and why; plain JSON when encoded.

    `difference` is the gain from champion to challenger in the metric's units, positive for better whatever the
    metric's direction; `interval` its central bootstrap interval at the configured confidence; `probability_better` the
    share of resamples with a gain; `detectable_gain` what these rows could have found. None: nothing was compared.
    """

    decision: Decision
    reason: str
    metric: str
    champion_score: float | None = None
    challenger_score: float | None = None
    difference: float | None = None
    probability_better: float | None = None
    interval: tuple[float, float] | None = None
    detectable_gain: float | None = None
    rows: int = 0


def first_decision(settings: Settings, reason: str) -> GateDecision:
    """Nothing stands against the new model; `reason` says why."""
    return GateDecision(decision="first", reason=reason, metric=settings.model_selection.metric)


def refused_decision(
    settings: Settings, decision: Literal["incompatible", "not_comparable"], reason: str, version: str
) -> GateDecision:
    """The new model cannot stand in for the champion; `reason` begins with 'it'."""
    hint = f"; `models promote {version} --force --why …` replaces it all the same"
    return GateDecision(decision=decision, reason=f"{reason}{hint}", metric=settings.model_selection.metric)


def compare_on_rows(
    settings: Settings,
    y: Labels,
    champion: NDArray[np.floating[Any]],
    challenger: NDArray[np.floating[Any]],
    champion_age_days: float = 0.0,
) -> GateDecision:
    """The gate on rows that neither model was trained on.

    Args:
        y: (n,) class indices.
        champion: (n, k) its probabilities, in the same order of classes as `challenger`.
        champion_age_days: Over `promotion.stale_after_days`, not being much worse is enough.
    """
    metric = METRICS[settings.model_selection.metric]
    pair = Pair(y, np.asarray(champion, dtype=np.float64), np.asarray(challenger, dtype=np.float64))
    evidence = _evidence(metric, pair, settings.promotion, settings.data_split.random_state)
    if isinstance(evidence, str):
        return GateDecision(decision="undecided", reason=evidence, metric=metric.name, rows=len(y))
    decision, reason = _decide(evidence, settings.promotion, champion_age_days)
    return GateDecision(
        decision=decision,
        reason=reason,
        metric=metric.name,
        champion_score=evidence.champion,
        challenger_score=evidence.challenger,
        difference=evidence.gain,
        probability_better=evidence.probability_above(0.0),
        interval=(evidence.low, evidence.high),
        detectable_gain=evidence.detectable,
        rows=len(y),
    )


@dataclass(frozen=True)
class _Evidence:
    champion: float
    challenger: float
    gain: float
    gains: Numbers  # of the resamples
    confidence: float

    def probability_above(self, bound: float) -> float:
        return float(np.mean(self.gains > bound))

    @property
    def low(self) -> float:
        return float(np.quantile(self.gains, (1 - self.confidence) / 2))

    @property
    def high(self) -> float:
        return float(np.quantile(self.gains, (1 + self.confidence) / 2))

    @property
    def detectable(self) -> float:
        return float(DETECTABLE * np.std(self.gains))


def _evidence(metric: Metric, pair: Pair, promotion: PromotionSettings, seed: int) -> _Evidence | str:
    """What the rows say, or why they say nothing."""
    if not len(pair):
        return "no row was held out by both models; a shadow run or an experiment can tell"
    before, after = metric.score(pair.y, pair.champion), metric.score(pair.y, pair.challenger)
    if before is None or after is None:
        return f"the {len(pair)} rows that both models held out do not define {metric.name}"
    gains = resampled_gains(metric, pair, promotion.bootstrap_samples, seed)
    defined = gains[np.isfinite(gains)]
    if len(defined) < ENOUGH_DEFINED * len(gains):
        return f"the {len(pair)} rows that both models held out are too few to resample {metric.name}"
    return _Evidence(before, after, pair.gain(metric), defined, promotion.confidence)


def _decide(evidence: _Evidence, rule: PromotionSettings, age_days: float) -> tuple[Decision, str]:
    gain, better = evidence.gain, evidence.probability_above(0.0)
    seen = f"gain {gain:+.4f}, {evidence.confidence:.0%} interval {evidence.low:+.4f} to {evidence.high:+.4f}"
    if gain >= rule.minimum_gain and better >= rule.confidence:
        return "promote", f"better with probability {better:.3f} ({seen})"
    not_worse = evidence.probability_above(-rule.stale_margin)
    if age_days > rule.stale_after_days and not_worse >= rule.confidence:
        return "promote", (
            f"the champion is {age_days:.0f} days old, and the new model is not worse by {rule.stale_margin:g} "
            f"with probability {not_worse:.3f} ({seen})"
        )
    if gain <= 0:
        return "keep", f"no gain over the champion ({seen})"
    if evidence.high < rule.minimum_gain:
        return "keep", f"the gain is under the {rule.minimum_gain:g} that a change is worth ({seen})"
    return "undecided", (
        f"it scored better, but these rows cannot tell a gain under {evidence.detectable:.4f} from chance ({seen}); "
        "a shadow run or an experiment can"
    )
