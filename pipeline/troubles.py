"""What the scheduler could not do, as incidents: reported when it begins or changes, not at every look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from monitoring.alerts import Alerts
from monitoring.incidents import Finding


@dataclass
class Troubles:
    alerts: Alerts
    #: The cause that was last reported, by subject; empty when it is settled.
    _known: dict[str, str] = field(default_factory=dict)

    def report(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """`mend` is the next command to type."""
        if self._known.get(subject) != cause:
            self.count(subject, cause, mend, now)

    def count(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """Reports also what was reported before: it has happened again."""
        finding = Finding(kind="pipeline", severity="high", cause=cause, next=mend, subject=subject)
        self.alerts.report(finding, now)
        self._known[subject] = cause

    def settle(self, subject: str, now: datetime) -> None:
        if self._known.get(subject) != "":
            self.alerts.settle(("pipeline",), None, (), now, subject=subject)
            self._known[subject] = ""
