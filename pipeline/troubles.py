"""What the scheduler could not do, as incidents: reported when it begins or changes, not at every look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from monitoring.alerts import Alerts
from monitoring.incidents import Finding

#: An MLflow or a store that was away for less: what is in service stays, and what is logged waits.
TOLERATED_OUTAGE = timedelta(minutes=5)


@dataclass
class Troubles:
    alerts: Alerts
    #: The cause that was last reported, by subject; empty when it is settled.
    _known: dict[str, str] = field(default_factory=dict)
    #: Since when a subject that may be in trouble for a while is.
    _since: dict[str, datetime] = field(default_factory=dict)

    def report(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """`mend` is the next command to type."""
        if self._known.get(subject) != cause:
            self.count(subject, cause, mend, now)

    def tolerate(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """Reports what has lasted: a shorter outage is nobody's concern."""
        if now - self._since.setdefault(subject, now) >= TOLERATED_OUTAGE:
            self.report(subject, cause, mend, now)

    def count(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """Reports also what was reported before: it has happened again."""
        finding = Finding(kind="pipeline", severity="high", cause=cause, next=mend, subject=subject)
        self.alerts.report(finding, now)
        self._known[subject] = cause

    def settle(self, subject: str, now: datetime) -> None:
        self._since.pop(subject, None)
        if self._known.get(subject) != "":
            self.alerts.settle(("pipeline",), None, (), now, subject=subject)
            self._known[subject] = ""
