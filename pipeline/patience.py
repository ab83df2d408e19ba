"""How long something that has failed is left alone: for longer each time, and for as long as the attempt had taken.

So a part that was away for a moment is asked again at once, and one that hangs until a time-out costs half the time of
who asks it, whatever else that has to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Patience:
    """`shortest` and `longest` in seconds; the wait after a failure doubles from one to the other, and is never shorter
    than the attempt was."""

    shortest: float
    longest: float = 10.0
    seconds: Callable[[], float] = time.monotonic
    _wait: float = 0.0
    _due: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until it may be tried again; 0.0 when it may now."""
        return max(0.0, self._due - self.seconds())

    @contextmanager
    def attempt(self, failure: type[Exception] = Exception) -> Iterator[None]:
        """The block is an attempt, which has failed when it raises a `failure`; other errors say nothing of it."""
        started = self.seconds()
        try:
            yield
        except failure:
            ended = self.seconds()
            self._wait = max(self.shortest, min(self.longest, 2.0 * self._wait))
            self._due = ended + max(self._wait, ended - started)
            raise
        except Exception:
            self._wait = self._due = 0.0
            raise
        self._wait = self._due = 0.0
