"""UUIDv7 (RFC 9562): identifiers that sort by the time at which they were made."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_RANDOM_BITS = 74
_STEP_BITS = 32


class IdSource:
    """Makes UUIDv7 texts that increase strictly within a process, also when the clock stands still or goes back.

    Within one millisecond (and while the clock is behind) the 74 random bits grow by a random step of up to 2**32; each
    process that is forked begins with fresh bits, so workers never repeat one another. Safe to share between threads.
    """

    def __init__(
        self,
        milliseconds: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._milliseconds = milliseconds
        self._random_bytes = random_bytes
        self._forget()

    def take(self, count: int) -> list[str]:
        """`count` identifiers in increasing order."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            return [_text(*self._next()) for _ in range(count)]

    def _forget(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held at the fork
        self._moment, self._random = 0, 0
        self._process = os.getpid()

    def _next(self) -> tuple[int, int]:
        now = self._milliseconds()
        if now > self._moment:
            # The top bit starts at 0, which leaves room to count up within the millisecond.
            self._moment, self._random = now, self._bits(_RANDOM_BITS - 1)
        else:
            self._random += 1 + self._bits(_STEP_BITS)
            if self._random >> _RANDOM_BITS:
                self._moment, self._random = self._moment + 1, self._bits(_RANDOM_BITS - 1)
        return self._moment, self._random

    def _bits(self, count: int) -> int:
        return int.from_bytes(self._random_bytes((count + 7) // 8), "big") & ((1 << count) - 1)


def _text(moment: int, random: int) -> str:
    """48 bits of time, version 7, 12 random bits, the variant, 62 random bits."""
    high, low = random >> 62, random & ((1 << 62) - 1)
    digits = f"{moment << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_SHARED = IdSource()


def uuid7() -> str:
    """One identifier from the process's own source."""
    return _SHARED.take(1)[0]
