"""The daily log files of a folder: `predictions_YYYYMMDD.jsonl` and `feedback_YYYYMMDD.jsonl`, days in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, get_args

from msgspec import Struct

Kind = Literal["predictions", "feedback"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NAME = re.compile(r"(predictions|feedback)_(\d{8})\.jsonl")


class LogFile(Struct, frozen=True):
    """One daily file."""

    path: Path
    kind: Kind
    day: date

    @property
    def name(self) -> str:
        return self.path.name


def log_files(directory: Path) -> list[LogFile]:
    """The daily files of a folder, oldest first; none when there is no folder."""
    found = [_log_file(path) for path in directory.glob("*.jsonl")]
    return sorted((file for file in found if file is not None), key=lambda file: (file.day, file.kind))


def _log_file(path: Path) -> LogFile | None:
    match = _NAME.fullmatch(path.name)
    try:
        day = datetime.strptime(match[2], "%Y%m%d").replace(tzinfo=UTC).date() if match else None
    except ValueError:
        return None
    return LogFile(path, match[1], day) if match and day else None  # type: ignore[arg-type]
