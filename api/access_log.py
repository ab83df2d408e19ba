"""The access log: one line of JSON a request, `logs/access_YYYYMMDD.jsonl`, as far as `logging.access` asks for it.

It is for people; a line that cannot be written is counted, and the request is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import UNSET, Struct, UnsetType

from config.logs import KEPT_DAYS
from config.settings import Settings
from monitoring.prediction_log import DailyLog, LogError

ACCESS = "access"
#: Characters of a method and of a path that stand in a line.
LONGEST_METHOD, LONGEST_PATH = 16, 200


class AccessLine(Struct, frozen=True, kw_only=True):
    """No query, header or body: what a client sends there may be secret. `problem` is the name of a refusal."""

    timestamp: datetime
    request_id: str
    remote: str
    method: str
    path: str
    status: int
    milliseconds: float
    problem: str | UnsetType = UNSET


class AccessLog:
    """Writes what the settings ask for; `failed` is called for a line that could not be written."""

    def __init__(self, settings: Settings, directory: Path, failed: Callable[[], None]) -> None:
        self._least = {"off": 1000, "errors": 400, "all": 0}[settings.logging.access]
        self._directory = directory
        self._log = DailyLog(directory, ACCESS)
        self._encoder = msgspec.json.Encoder()
        self._failed = failed
        self._day = 0

    def wants(self, status: int) -> bool:
        return status >= self._least

    def note(self, line: AccessLine) -> None:
        try:
            self._log.append([self._encoder.encode(line)], line.timestamp)
        except LogError:
            self._failed()
            return
        if line.timestamp.toordinal() != self._day:
            self._day = line.timestamp.toordinal()
            self._remove_old()

    def _remove_old(self) -> None:
        for old in sorted(self._directory.glob(f"{ACCESS}_{'[0-9]' * 8}.jsonl"))[:-KEPT_DAYS]:
            old.unlink(missing_ok=True)
