"""The prediction log: one line per predicted row, in a file a day, `logs/predictions_YYYYMMDD.jsonl` (days in UTC).

    LogError                a reply must not be sent, because its lines are not whole in the log

All lines of a request go out in one write(2) to an O_APPEND descriptor before the reply is sent, so a reply that a
client has seen is in the log whichever process is killed. A write that a kill or a full disk has cut short leaves a
fragment; as every write begins and ends with a newline, a fragment stands alone on its line, and only ever belongs to
a request that was not answered.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from models.schema import ClassLabel

PREDICTIONS = "predictions"
FILE_MODE = 0o640


class LogError(Exception):
    """The lines are not whole in the log; the message says why, without naming a path."""


class LoggedWarning(Struct, frozen=True):
    field: str
    code: str


class PredictionLine(Struct, frozen=True, gc=False):
    """One predicted row. `latency_ms` is that of the whole request, up to the write of its lines.

    A writer may give `input_data` as any struct that encodes as such an object.
    """

    prediction_id: str
    timestamp: datetime
    request_id: str
    model_version: str
    input_data: dict[str, Any]
    prediction: ClassLabel
    probability: list[float]
    max_probability: float
    latency_ms: float
    experiment: str | None = None
    arm: str | None = None
    unit: str | None = None
    fallback: bool = False
    warnings: list[LoggedWarning] = []


class DailyLog:
    """Appends to `<name>_YYYYMMDD.jsonl`; safe to share between threads, and between processes of one folder.

    A file that was deleted or a folder that vanished is made again by the next write.
    """

    def __init__(self, directory: Path, name: str, *, fsync: bool = False) -> None:
        self._directory = directory
        self._name = name
        self._fsync = fsync
        self._lock = threading.Lock()
        self._day = ""
        self._days = _Days()
        self._descriptor = -1

    def append(self, lines: Sequence[bytes], moment: datetime) -> None:
        """Writes all lines at once to the file of `moment`'s day; raises `LogError` unless every byte was taken."""
        self.write(b"\n" + b"\n".join(lines) + b"\n", moment)

    def write(self, block: bytes, moment: datetime) -> None:
        """`append` of lines that are one block already; it begins and ends with a newline."""
        with self._lock:
            try:
                descriptor = self._open(self._days.of(moment))
                written = os.write(descriptor, block)
                if self._fsync:
                    os.fsync(descriptor)
            except OSError as error:
                raise LogError(f"the {self._name} log cannot be written: {error.strerror}") from None
        if written != len(block):
            raise LogError(f"the {self._name} log took {written} of {len(block)} bytes: the disk may be full")

    def close(self) -> None:
        with self._lock:
            self._close()

    def _open(self, day: str) -> int:
        if day == self._day and os.fstat(self._descriptor).st_nlink:
            return self._descriptor
        self._close()
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{self._name}_{day}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        self._day = day
        return self._descriptor

    def _close(self) -> None:
        self._day, descriptor, self._descriptor = "", self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _Days:
    """`day_of`, which takes a microsecond, remembered for the day at hand."""

    def __init__(self) -> None:
        self._ordinal, self._day = 0, ""

    def of(self, moment: datetime) -> str:
        if moment.tzinfo is not UTC:
            return day_of(moment)
        ordinal = moment.toordinal()
        if ordinal != self._ordinal:
            self._ordinal, self._day = ordinal, day_of(moment)
        return self._day


class PredictionLog:
    """The writer of prediction lines."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self._log = DailyLog(directory, PREDICTIONS, fsync=fsync)
        self._encoder = msgspec.json.Encoder()

    def append(self, lines: Sequence[PredictionLine]) -> None:
        """Writes the lines of one request, which share a timestamp; raises `LogError`."""
        self._log.write(b"\n" + self._encoder.encode_lines(lines), lines[0].timestamp)

    def close(self) -> None:
        self._log.close()


def day_of(moment: datetime) -> str:
    """The UTC day of an aware datetime, as files are named by it."""
    return moment.astimezone(UTC).date().isoformat().replace("-", "")
