"""What the scheduler could not do, as incidents: reported when it begins or changes, not at every look."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.alerts import Alerts
from monitoring.incidents import Finding


@dataclass
class _Outage:
    #: By the monotonic clock, as a wall clock may be set meanwhile.
    began: float
    #: What is to be reported once the store, which may be what is away, takes it.
    untold: tuple[str, str] | None = None


@dataclass
class Troubles:
    """`tolerated` is how many seconds something may be away for; what is in service stays, and what is logged waits."""

    alerts: Alerts
    tolerated: float
    seconds: Callable[[], float] = time.monotonic
    #: The cause that was last reported, by subject; empty when it is settled.
    _known: dict[str, str] = field(default_factory=dict)
    _outages: dict[str, _Outage] = field(default_factory=dict)

    def report(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """`mend` is the next command to type."""
        if self._known.get(subject) != cause:
            self.count(subject, cause, mend, now)

    def tolerate(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """Reports what has lasted: a shorter outage is nobody's concern."""
        outage = self._outages.setdefault(subject, _Outage(self.seconds()))
        if self.seconds() - outage.began >= self.tolerated:
            outage.untold = (cause, mend)
            self.report(subject, cause, mend, now)
            outage.untold = None

    def count(self, subject: str, cause: str, mend: str, now: datetime) -> None:
        """Reports also what was reported before: it has happened again."""
        finding = Finding(kind="pipeline", severity="high", cause=cause, next=mend, subject=subject)
        self.alerts.report(finding, now)
        self._known[subject] = cause

    def settle(self, subject: str, now: datetime) -> None:
        """It is well; an outage that could not be told while it lasted is told now, as one that is over."""
        outage = self._outages.get(subject)
        if outage is not None and outage.untold is not None:
            cause, mend = outage.untold
            minutes = (self.seconds() - outage.began) / 60.0
            self.count(subject, f"for {minutes:,.0f} minutes, until now: {cause}", mend, now)
            outage.untold = None
        if self._known.get(subject) != "":
            self.alerts.settle(("pipeline",), None, (), now, subject=subject)
            self._known[subject] = ""
        self._outages.pop(subject, None)
