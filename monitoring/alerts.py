"""Alerts: incidents as files under `alerts/`, one for each, rewritten while the incident lives.

`Alerts.of(settings, store)` also puts what deserves an alert into the outbox, from where the scheduler sends it. A
file's name is fixed when its incident opens and never used again; its content is always one whole JSON document.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from config.home import under_home
from config.settings import Settings
from monitoring.alert_policy import AlertPolicy
from monitoring.incidents import Finding, Incident, IncidentKind, Incidents, fingerprint_of
from monitoring.plain_json import encode_pretty
from monitoring.store import Store

#: What is said of one model version, and is of no interest once another one serves.
MODEL_KINDS: tuple[IncidentKind, ...] = (
    "data_drift", "prediction_drift", "performance_drift", "concept_drift", "data_quality"
)  # fmt: skip


class Settled(Struct, frozen=True, kw_only=True):
    """What a round of checks changed."""

    opened: tuple[Incident, ...] = ()
    #: Seen before, and still there.
    continuing: tuple[Incident, ...] = ()
    resolved: tuple[Incident, ...] = ()


class Alerts:
    """Opens, counts and resolves incidents, and keeps their files."""

    def __init__(self, incidents: Incidents, directory: Path) -> None:
        self._incidents = incidents
        self._directory = directory

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Self:
        """Those of the state root, told to the configured channels."""
        return cls(Incidents(store, AlertPolicy(settings)), under_home("alerts"))

    def report(self, finding: Finding, at: datetime) -> Incident:
        """One incident for one cause: a finding seen before is counted, not reported anew."""
        return self._written(self._incidents.report(finding, at))

    def settle(
        self,
        checked: tuple[IncidentKind, ...],
        model_version: str | None,
        findings: Iterable[Finding],
        at: datetime,
        *,
        subject: str | None = None,
    ) -> Settled:
        """Reports the findings of a round of checks, and resolves what the round looked for and no longer found.

        Args:
            checked: the kinds that were looked for; a check that could not decide (too few rows) is not in it, so that
                its incidents stay.
            model_version: the version that was checked; incidents of other versions stay.
            subject: only incidents about it are resolved; None means about anything.
        """
        reported = [self.report(finding, at) for finding in findings]
        found = {incident.fingerprint for incident in reported}
        gone = [
            incident
            for incident in self._incidents.unresolved(checked)
            if incident.model_version == model_version
            and incident.fingerprint not in found
            and (subject is None or incident.fingerprint == fingerprint_of(incident.kind, model_version, subject))
        ]
        return Settled(
            opened=tuple(incident for incident in reported if incident.count == 1),
            continuing=tuple(incident for incident in reported if incident.count > 1),
            resolved=tuple(self._resolved(gone, at, "a check no longer finds it")),
        )

    def resolve_superseded(self, champion: str, at: datetime) -> list[Incident]:
        """Resolves what was said of models that are no longer in service."""
        open_ones = self._incidents.unresolved(MODEL_KINDS)
        gone = [one for one in open_ones if one.model_version not in (None, champion)]
        return self._resolved(gone, at, f"version {champion} is in service")

    def acknowledge(
        self, incident_id: int, at: datetime, who: str | None = None, why: str | None = None
    ) -> Incident | None:
        """Somebody works on it; None when there is no open incident of that id."""
        incident = self._incidents.acknowledge(incident_id, at, who, why)
        return None if incident is None else self._written(incident)

    def resolve(
        self, incident_id: int, at: datetime, who: str | None = None, why: str | None = None
    ) -> Incident | None:
        """None when there is no unresolved incident of that id."""
        incident = self._incidents.resolve(incident_id, at, who, why)
        return None if incident is None else self._written(incident)

    def record_action(self, incident_id: int, at: datetime, action: str, **detail: Any) -> None:
        """What was done about it, in a few words; raises IncidentError when there is no such incident."""
        self._incidents.record_action(incident_id, at, action, **detail)

    def path_of(self, incident: Incident) -> Path:
        """Unique: the time and cause tell incidents of a store apart whose numbers began anew."""
        opened = incident.opened_at.strftime("%Y%m%dT%H%M%S%fZ")
        return self._directory / f"alert_{opened}_{incident.kind}_{incident.id}_{incident.fingerprint[:8]}.json"

    def _resolved(self, incidents: Iterable[Incident], at: datetime, why: str) -> list[Incident]:
        changed = (self.resolve(incident.id, at, why=why) for incident in incidents)
        return [incident for incident in changed if incident is not None]

    def _written(self, incident: Incident) -> Incident:
        write_whole(self.path_of(incident), encode_pretty(incident))
        return incident


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file at once: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
