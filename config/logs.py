"""Logging set-up, for entry points: stderr, and a file a day under `logs/`. Nothing else configures logging."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from config.settings import logs_directory

KEPT_DAYS = 14
#: A file that could not be opened is tried again after this long.
RETRY_SECONDS = 60.0
#: Libraries whose INFO nobody reads.
CHATTY = ("alembic", "mlflow")
FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(process)d %(name)s: %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"


class DailyFileHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Appends to `<name>_YYYYMMDD.log`, and removes files of its name beyond the newest `KEPT_DAYS`.

    Several processes may share the files: each opens them to append, and none renames them. A file that cannot be
    opened costs the file, not the process.
    """

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(sys.stderr)
        self._directory = directory
        self._name = name
        self._day = ""
        self._usable = False
        self._retry_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        day = datetime.fromtimestamp(record.created, UTC).strftime("%Y%m%d")
        if day != self._day or (not self._usable and time.monotonic() >= self._retry_at):
            self._day = day
            self._reopen(self._directory / f"{self._name}_{day}.log")
        if self._usable:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in the base class
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._give_up(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        self._let_go()
        super().close()

    def _let_go(self) -> None:
        if self._usable:
            self._usable = False
            with suppress(OSError):  # what it still holds finds no room
                self.stream.close()

    def _give_up(self, error: OSError) -> None:
        """For a while, with one line where others would be told of each record."""
        self._let_go()
        self._retry_at = time.monotonic() + RETRY_SECONDS
        name = f"{self._name}_{self._day}.log"
        told = {"msg": f"logs go to stderr alone: {name} cannot be written: {error.strerror}"}
        record = logging.makeLogRecord(told | {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR"})
        sys.stderr.write(f"{self.format(record)}\n")

    def _reopen(self, path: Path) -> None:
        self._let_go()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self.stream = path.open("a", encoding="utf-8")
            self._usable = True
            for old in sorted(self._directory.glob(f"{self._name}_{'[0-9]' * 8}.log"))[:-KEPT_DAYS]:
                if old != path:  # a clock that is years behind writes the oldest
                    old.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)


class JsonFormatter(logging.Formatter):
    """One line of JSON a record; `request_id` where the record has one (`extra={"request_id": …}`)."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage().encode("utf-8", "backslashreplace").decode(),
        }
        if request_id := getattr(record, "request_id", None):
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _is_told_elsewhere(record: logging.LogRecord) -> bool:
    """Libraries log the exception with which a signal ends this process as an error of theirs, and raise it again."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is not None and not issubclass(kind, Exception)


def configure_logging(
    level: str = "INFO", name: str = "mlops", directory: Path | None = None, *, as_json: bool = False
) -> None:
    """Sends every log record of `level` and above to stderr and `logs/<name>_YYYYMMDD.log`, times in UTC.

    `as_json` writes a line of JSON a record. Replaces what an earlier call has set up.
    """
    formatter = JsonFormatter() if as_json else logging.Formatter(FORMAT, DATE_FORMAT)
    formatter.converter = time.gmtime
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in (logging.StreamHandler(sys.stderr), DailyFileHandler(directory or logs_directory(), name)):
        handler.setFormatter(formatter)
        handler.addFilter(lambda record: not _is_told_elsewhere(record))
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(as_json)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
