"""When the scheduler does what it does every few seconds, by the monotonic clock.

By a wall clock that is set back, by hand or at the end of summer, nothing would be done until it has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class _Entry:
    name: str
    seconds: float
    action: Callable[[], object]
    due: float


@dataclass
class Timetable:
    seconds: Callable[[], float] = time.monotonic
    entries: list[_Entry] = field(default_factory=list)

    def every(self, seconds: float, name: str, action: Callable[[], object]) -> None:
        """From now on, the first time after `seconds`."""
        self.entries.append(_Entry(name, seconds, action, self.seconds() + seconds))

    def run_due(self) -> None:
        """Does what is due, each once, however often it was missed; the next time counts from the end of it."""
        for entry in self.entries:
            if self.seconds() >= entry.due:
                self._run(entry)

    def run_all(self) -> None:
        """Does everything now."""
        for entry in self.entries:
            self._run(entry)

    def _run(self, entry: _Entry) -> None:
        try:
            entry.action()
        finally:
            entry.due = self.seconds() + entry.seconds
