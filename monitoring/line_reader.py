"""Single lines of the prediction log by file and byte, for the rows whose outcome has come."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import Connection, select

from monitoring.log_lines import LoggedPrediction, id_bytes
from monitoring.tables import log_files

_FIRST_READ, _LONGEST_READ = 4096, 64 * 2**20


class LineReader:
    """Reads lines that ingestion has seen; None where the line is there no longer. Keeps files open until it ends."""

    def __init__(self, connection: Connection, logs: Path) -> None:
        self._connection = connection
        self._logs = logs
        self._descriptors: dict[int, int | None] = {}
        self._decoder = msgspec.json.Decoder(LoggedPrediction)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            if descriptor is not None:
                os.close(descriptor)

    def read(self, file: int, byte: int, prediction_id: bytes) -> LoggedPrediction | None:
        """The line at a place, if it is still that of this prediction."""
        if file not in self._descriptors:
            self._descriptors[file] = self._open(file)
        descriptor = self._descriptors[file]
        content = None if descriptor is None else _line_at(descriptor, byte)
        try:
            line = None if content is None else self._decoder.decode(content)
            return line if line is not None and id_bytes(line.prediction_id) == prediction_id else None
        except ValueError:  # the file is another one by now
            return None

    def _open(self, file: int) -> int | None:
        name = self._connection.scalar(select(log_files.c.name).where(log_files.c.id == file))
        try:
            return None if name is None else os.open(self._logs / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None


def _line_at(descriptor: int, byte: int) -> bytes | None:
    length = _FIRST_READ
    while length <= _LONGEST_READ:
        content = os.pread(descriptor, length, byte)
        end = content.find(b"\n")
        if end >= 0:
            return content[:end]
        if len(content) < length:
            return None
        length *= 8
    return None
