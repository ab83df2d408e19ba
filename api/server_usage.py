"""What this server uses and how it answers, as a line a minute in `logs/usage_YYYYMMDD.jsonl`, for monitoring to read.

Each worker notes its processor time and memory in the shared counters every few seconds, in the thread that looks at
the serving plan. Once a minute one of them, whichever comes first, writes a line with what all have counted since the
line before. What was written is a counter too: a worker that dies, by whatever hand, takes nothing of it along, and
the counters of a server that starts anew begin at 0 together. A kill of the whole server loses its last minute here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from api.auth import ROUTE_SCOPES
from api.metrics import CPU, MEMORY, REQUESTS
from api.shared_counters import Series, SharedCounters
from monitoring.prediction_log import DailyLog, LogError
from monitoring.usage_lines import USAGE_LOG, UsageLine

#: In the counters: what has been written of each count, and when (milliseconds of the machine's monotonic clock).
WRITTEN = "mlops_usage_written_total"
PREDICTING = frozenset(route for route, scope in ROUTE_SCOPES.items() if scope == "predict")
SAMPLE_SECONDS, WRITE_SECONDS = 5.0, 60.0
#: A line stands for no longer than this: before it nobody ran.
LONGEST_SECONDS = 300.0

logger = logging.getLogger(__name__)


class UsageMeter:
    """One worker's part; `tick` is called about once a second, from one thread."""

    def __init__(
        self,
        counters: SharedCounters,
        logs: Path,
        clock: Callable[[], datetime],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[], float] = time.process_time,
        memory_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._counters = counters
        self._log = DailyLog(logs, USAGE_LOG)
        self._clock = clock
        self._monotonic = monotonic
        self._cpu_seconds = cpu_seconds
        self._memory_bytes = memory_bytes or resident_bytes
        self._cpu_noted = 0.0
        self._sample_due = 0.0
        self._failing = False
        self._writing = threading.Lock()

    def tick(self) -> None:
        """Notes what is due, and writes a line when one is."""
        now = self._monotonic()
        if now < self._sample_due:
            return
        self._sample_due = now + SAMPLE_SECONDS
        self.sample()
        self.write(WRITE_SECONDS)

    def sample(self) -> None:
        """Notes this worker's processor time and memory."""
        cpu = self._cpu_seconds()
        self._add(CPU.name, round((cpu - self._cpu_noted) * CPU.divisor))
        self._cpu_noted = cpu
        self._counters.set(self._counters.slot(MEMORY.name), self._memory_bytes())

    def write(self, least_seconds: float = 0.0) -> None:
        """Writes a line with what is new, unless the last one is not so old, or another worker is at it."""
        with self._writing, _alone(self._counters.directory) as alone:
            if not alone:
                return
            blocks = list(self._counters.blocks())
            seconds = self._elapsed(blocks)
            if seconds < least_seconds:
                return
            line = _line(self._clock(), seconds, blocks)
            self._note(line, 1)
            try:
                self._log.append([msgspec.json.encode(line)], line.timestamp)
            except LogError as error:
                self._note(line, -1)  # it goes with the next line
                self._tell(error)
            else:
                self._failing = False

    def close(self) -> None:
        """The last line of this worker, when it ends in order."""
        with suppress(OSError, ValueError):
            self.sample()
            self.write()
        self._log.close()

    def _elapsed(self, blocks: list[tuple[bool, dict[Series, int]]]) -> float:
        """Seconds since the last line that any worker wrote; since the first look when there is none."""
        now = round(self._monotonic() * 1e3)
        last = max(values.get((WRITTEN, "at"), 0) for _, values in blocks)
        if last == 0 or last > now:  # the clock began anew with the machine
            self._counters.set(self._counters.slot(WRITTEN, "at"), max(1, now))
            return 0.0
        return min((now - last) / 1e3, LONGEST_SECONDS)

    def _note(self, line: UsageLine, sign: int) -> None:
        self._add(WRITTEN, sign * line.requests, "requests")
        self._add(WRITTEN, sign * line.errors, "errors")
        self._add(WRITTEN, sign * line.cpu_milliseconds * 1000, "cpu")
        at = round(self._monotonic() * 1e3)
        self._counters.set(self._counters.slot(WRITTEN, "at"), at if sign > 0 else at - round(line.seconds * 1e3))

    def _add(self, name: str, count: int, *labels: str) -> None:
        self._counters.add(self._counters.slot(name, *labels), count)

    def _tell(self, error: LogError) -> None:
        if not self._failing:
            logger.warning("%s; what the server uses is written when it is mended", error)
        self._failing = True


def resident_bytes() -> int:
    """Memory of this process that is in use now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _line(now: datetime, seconds: float, blocks: list[tuple[bool, dict[Series, int]]]) -> UsageLine:
    requests = errors = cpu = memory = workers = 0
    for lives, values in blocks:
        for (name, *labels), value in values.items():
            if name == REQUESTS.name and labels[0] in PREDICTING:
                requests += value
                errors += value if labels[1].startswith("5") else 0
            elif name == CPU.name:
                cpu += value
            elif name == MEMORY.name and lives:
                memory, workers = memory + value, workers + bool(value)
            elif name == WRITTEN:
                requests -= value if labels[0] == "requests" else 0
                errors -= value if labels[0] == "errors" else 0
                cpu -= value if labels[0] == "cpu" else 0
    return UsageLine(
        timestamp=now,
        seconds=round(seconds, 3),
        requests=max(0, requests),
        errors=max(0, errors),
        cpu_milliseconds=max(0, cpu) // 1000,
        memory_bytes=memory,
        workers=workers,
    )


@contextmanager
def _alone(directory: Path | None) -> Iterator[bool]:
    """Whether no other worker writes now; always so for one that counts for itself alone."""
    if directory is None:
        yield True
        return
    try:
        descriptor = os.open(directory / "usage", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
