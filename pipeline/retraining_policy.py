"""When the model in service is trained anew of itself: because of drift, or because it has grown worse.

Both need something to learn from (outcomes that have come back since the last run), a rest since that run, and the
prospect of a gain: what the model is known to have lost is what a new one may win back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from config.clock import has_elapsed
from config.settings import Settings
from monitoring.incidents import LOSS, Incident, IncidentKind, Incidents
from monitoring.labelled_reading import LabelledRows
from monitoring.run_records import RunRecords, Trigger
from monitoring.store import Store

#: Incidents that speak of each cause, the graver cause first.
CAUSES: dict[Literal["degradation", "drift"], tuple[IncidentKind, ...]] = {
    "degradation": ("performance_drift", "concept_drift"),
    "drift": ("data_drift", "prediction_drift"),
}


class Reason(Struct, frozen=True, kw_only=True):
    """Why a retraining is due, and the incidents that say so."""

    trigger: Trigger
    why: str
    incidents: tuple[int, ...] = ()


class RetrainingPolicy:
    """The policy of `retraining` in the settings, over what the store knows."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings.retraining
        self._incidents = Incidents(store)
        self._labels = LabelledRows(store)
        self._runs = RunRecords(store)

    def reason(self, champion: str | None, now: datetime) -> Reason | None:
        """Why `champion` is to be trained anew now; None when nothing speaks for it, or something against it."""
        found = self.cause(champion)
        if found is None or not self._has_rested(now) or not self.has_enough_labels():
            return None
        return found

    def cause(self, champion: str | None) -> Reason | None:
        """What speaks for a retraining, whether or not it is possible yet."""
        if champion is None:
            return None
        for trigger, kinds in CAUSES.items():
            if trigger in self._settings.triggers:
                worth = [one for one in self._incidents.unresolved(kinds) if self._is_worth_it(one, champion)]
                if worth:
                    return Reason(trigger=trigger, why=worth[0].cause, incidents=tuple(one.id for one in worth))
        return None

    def new_labels(self) -> int:
        """Outcomes that can be trained on and have come back since the last run that succeeded."""
        if not self._settings.use_feedback:
            return 0
        last = next(iter(self._runs.latest(1, "succeeded")), None)
        return self._labels.count_since(last.started_at if last else None)

    def has_enough_labels(self) -> bool:
        return self.new_labels() >= self._settings.minimum_labelled_rows

    def _is_worth_it(self, incident: Incident, champion: str) -> bool:
        loss = incident.evidence.get(LOSS)
        gain = float(loss) if isinstance(loss, int | float) else None
        worth = gain is None or gain >= self._settings.minimum_expected_gain
        return incident.model_version == champion and worth

    def _has_rested(self, now: datetime) -> bool:
        last = next(iter(self._runs.latest(1)), None)
        if last is None:
            return True
        return has_elapsed(timedelta(hours=self._settings.cool_down_hours), last.started_at, now)
