"""How much is answered at once, and how often to whom.

The rate of a client (its key, or its address without keys) is held over all workers, by one number for it in shared
memory: the time until which it has used up what it may ask (the generic cell rate algorithm). Two clients share a
number by chance once in `CLIENTS`; two workers that write it in the same microsecond count one request for two.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from api.errors import RefusedError
from api.metrics import IN_FLIGHT, Metrics
from api.shared_counters import shared_directory
from config.settings import Settings

CLIENTS = 8192
#: A client may use up this many seconds' requests at once.
BURST_SECONDS = 1.0
_SECOND = 1_000_000_000


class Limits:
    """Bounds the requests that one worker answers at once: `enter` before each, `leave` after it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._most = settings.deployment.max_concurrent_requests
        self._counters = metrics.counters
        self._epoch = -1

    def enter(self) -> RefusedError | None:
        """None, or why the request is not answered now; `leave` is only called after None."""
        counters = self._counters
        if self._epoch != counters.epoch:
            self._slot, self._epoch = counters.slot(IN_FLIGHT.name), counters.epoch
        with counters.lock:
            if counters.values[self._slot] < self._most:
                counters.values[self._slot] += 1
                return None
        return RefusedError(503, "busy", "too many requests are being answered; try again", {"Retry-After": "1"})

    def leave(self) -> None:
        with self._counters.lock:
            self._counters.values[self._slot] -= 1


class RateLimit:
    """At most `per_second` requests of a client, over all workers; a burst of one second's worth at once."""

    def __init__(self, per_second: float, nanoseconds: Callable[[], int] = time.monotonic_ns) -> None:
        self._interval = int(_SECOND / per_second)
        self._window = max(int(BURST_SECONDS * _SECOND), self._interval)
        self._nanoseconds = nanoseconds
        self._process = 0
        self._use(memoryview(bytearray(16 + 8 * CLIENTS)))

    def attach(self, directory: Path | None = None) -> None:
        """Joins the other workers, once in each process; alone where no memory can be shared."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        folder = directory or shared_directory()
        shared = _shared(folder / "rates", 16 + 8 * CLIENTS) if folder else None
        if shared is not None:
            self._use(memoryview(shared))

    def take(self, client: str) -> float:
        """0.0 when the client may ask now, else the seconds until it may again."""
        place = self._place(client)
        now = self._nanoseconds()
        used_until = self._until[place]
        if not now < used_until <= now + self._window + self._interval:  # also what an earlier boot has left
            used_until = now
        if used_until + self._interval > now + self._window:
            return (used_until + self._interval - now - self._window) / _SECOND
        self._until[place] = used_until + self._interval
        return 0.0

    def _use(self, memory: memoryview) -> None:
        self._until = memory[16:].cast("q")
        if not any(memory[:16]):
            memory[:16] = secrets.token_bytes(16)
        self._secret = bytes(memory[:16])  # so that nobody can choose whose number to share
        self._places: dict[str, int] = {}

    def _place(self, client: str) -> int:
        place = self._places.get(client)
        if place is None:
            if len(self._places) > CLIENTS:
                self._places.clear()
            digest = hashlib.blake2b(client.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=8)
            place = self._places[client] = int.from_bytes(digest.digest(), "big") % CLIENTS
        return place


def _shared(path: Path, size: int) -> mmap.mmap | None:
    """A file's bytes as memory that processes share; None when there is no room for it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
