"""UUIDv7 (RFC 9562): identifiers that sort by the time at which they were made."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_RANDOM_BITS = 74
_STEP_BITS = 32
_LOW_BITS = 62
_LOW_MASK = (1 << _LOW_BITS) - 1
_VARIANT = 2 << _LOW_BITS
_DRAWN_BYTES = 4096
_LENGTH = 36
#: From this many on they are made together, unless the low bits would carry.
_MANY = 8


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
            first = self._next()
            if count == 1:
                return [_text(*first)]
            if count < _MANY or first[1] & _LOW_MASK > _LOW_MASK - (count << _STEP_BITS):
                return [_text(*first), *(_text(*self._next()) for _ in range(count - 1))]
            steps = np.frombuffer(self._random_bytes(4 * (count - 1)), dtype=np.uint32).astype(np.uint64) + np.uint64(1)
            self._random += int(steps.sum())
            return _texts(first, steps)

    def _forget(self) -> None:
        self._lock = threading.Lock()  # the parent's may have been held at the fork
        self._moment, self._random = 0, 0
        self._process = os.getpid()
        self._drawn, self._used = b"", 0

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
        """That many random bits, from a block that is drawn ahead: a system call an identifier would cost more."""
        size, start = (count + 7) // 8, self._used
        if start + size > len(self._drawn):
            self._drawn, start = self._random_bytes(_DRAWN_BYTES), 0
        self._used = start + size
        return int.from_bytes(self._drawn[start : self._used], "big") & ((1 << count) - 1)


def _text(moment: int, random: int) -> str:
    """48 bits of time, version 7, 12 random bits, the variant, 62 random bits."""
    high, low = random >> _LOW_BITS, random & _LOW_MASK
    digits = f"{moment << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _texts(first: tuple[int, int], steps: NDArray[np.uint64]) -> list[str]:
    """The first identifier and one after each step; only the low bits differ."""
    lows = np.cumsum(np.concatenate([np.array([_VARIANT | first[1] & _LOW_MASK], dtype=np.uint64), steps]))
    digits = np.frombuffer(lows.astype(">u8").tobytes().hex().encode(), dtype=np.uint8).reshape(-1, 16)
    letters = np.empty((len(lows), _LENGTH), dtype=np.uint8)
    letters[:] = np.frombuffer(_text(*first).encode(), dtype=np.uint8)
    letters[:, 19:23], letters[:, 24:] = digits[:, :4], digits[:, 4:]
    text = letters.tobytes().decode()
    return [text[start : start + _LENGTH] for start in range(0, len(text), _LENGTH)]


_SHARED = IdSource()


def uuid7() -> str:
    """One identifier from the process's own source."""
    return _SHARED.take(1)[0]
