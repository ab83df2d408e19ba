"""SIGTERM, SIGINT and SIGHUP end work as an exception in the main thread, so that every `finally` still runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: A fit cannot be stopped from outside, so what has not ended by itself after this long is ended with the process.
GRACE_SECONDS = 4.0
#: The scheduler and its child are often told both by the terminal and by each other: that is one word, not two.
REPEAT_SECONDS = 1.0

_last_acts: list[Callable[[], None]] = []


class Interrupted(BaseException):
    """A signal asked this process to end. No `except Exception` swallows it."""


def end_on_signals(grace: float = GRACE_SECONDS) -> None:
    """From now on SIGTERM, SIGINT and SIGHUP raise `Interrupted`, once; a later one ends the process at once.

    Args:
        grace: seconds after which a process that has not ended by itself is ended all the same, with exit code 1.
    """
    first: list[float] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if first:
            if time.monotonic() - first[0] > REPEAT_SECONDS:
                os._exit(1)
            return
        first.append(time.monotonic())
        threading.Thread(target=_end_after, args=(grace,), daemon=True).start()
        raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and means it
            signal.signal(number, interrupt)


@contextmanager
def last_act(act: Callable[[], None]) -> Iterator[None]:
    """Within the block, `act` runs before a process that does not end by itself is ended after the grace."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def _end_after(grace: float) -> None:
    time.sleep(grace)
    try:
        for act in reversed(_last_acts):
            act()
    finally:
        os._exit(1)
