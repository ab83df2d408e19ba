"""Reads the prediction and feedback logs of this host into the store, each line exactly once.

    StoreError              the store cannot be used; nothing is lost, the next call goes on from the same place

`Ingestion.run_once` takes what has been written since the last call, in batches. A batch's place in its file moves in
the same transaction as what the batch produced, so a kill at any moment leaves both or neither. A file that turns out
to be another one (cut, emptied, replaced) is read from its beginning; lines that are known are recognised by their id.
Only this deletes logs: after the last line is read, by `logging.retention_days`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from msgspec import Struct, structs

from config.settings import Settings
from monitoring.known_models import KnownModels
from monitoring.log_reader import LogReader
from monitoring.log_retention import delete_expired
from monitoring.log_source import register_source, sole_reader, source_path, source_uuid
from monitoring.log_tail import Limits
from monitoring.prediction_index import prune
from monitoring.refused_hours import RefusalReader
from monitoring.server_hours import UsageReader
from monitoring.store import Store

_PRUNE_SECONDS = 600.0


class IngestionReport(Struct, frozen=True, kw_only=True):
    """What one call did, and what is left."""

    #: Prediction lines and outcome lines that were taken in, predictions that got (or corrected) their outcome.
    rows: int = 0
    labels: int = 0
    joined: int = 0
    #: Lines set aside because they are none, and left out because they were known.
    fragments: int = 0
    repeated: int = 0
    #: Files that were not the ones that had been read, and files deleted by age.
    replaced: int = 0
    deleted: int = 0
    #: Bytes that are written and not read.
    lag_bytes: int = 0
    seconds: float = 0.0
    #: False when a budget was used up before the end of what is written.
    finished: bool = True
    #: Another process of this state root was reading; nothing was done.
    busy: bool = False

    def followed_by(self, later: IngestionReport) -> IngestionReport:
        """Both calls together, with what is left after the later one."""
        sums = {name: getattr(self, name) + getattr(later, name) for name in _SUMS}
        return structs.replace(later, **sums)


_SUMS = ("rows", "labels", "joined", "fragments", "repeated", "replaced", "deleted", "seconds")


class Ingestion:
    """The reader of one state root's logs. Keep it: schemas, references and places are remembered between calls."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        logs_directory: Path,
        registry_directory: Path,
        clock: Callable[[], datetime],
        *,
        source_file: Path | None = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self._settings = settings
        self._store = store
        self._logs = logs_directory
        self._clock = clock
        self._limits = limits
        self._source_file = source_file or source_path()
        self._models = KnownModels(registry_directory)
        self._usage = UsageReader(store, logs_directory)
        self._refusals = RefusalReader(store, logs_directory)
        self._reader: LogReader | None = None
        self._prune_due = 0.0

    def run_once(self, seconds: float | None = None, rows: int | None = None) -> IngestionReport:
        """Reads until there is nothing more, or a budget is used up; a budget is overrun by one batch at most."""
        started = time.monotonic()
        source_uuid(self._source_file)  # makes the file
        with sole_reader(self._source_file) as alone:
            if not alone:
                return IngestionReport(busy=True, finished=False)
            reader = self._opened()
            deadline = None if seconds is None else started + seconds
            finished = reader.run(deadline, rows)
            self._usage.read(reader.source)
            self._refusals.read(reader.source)
            self._forget_old(deadline)
            reader.counts["deleted"] += self._delete_read_logs(reader)
            counts = reader.take_counts()
            elapsed = time.monotonic() - started
            left = {"lag_bytes": reader.lag(), "finished": finished}
            return IngestionReport(**counts, **left, seconds=elapsed)  # type: ignore[arg-type]

    def _opened(self) -> LogReader:
        number = register_source(self._store, self._source_file, self._clock())
        if self._reader is None or self._reader.source != number:
            self._reader = LogReader(
                self._store, number, self._logs, self._models, self._clock, self._limits, self._remembered
            )
        self._reader.refresh()
        return self._reader

    def _remembered(self) -> datetime:
        """Predictions made before this are forgotten."""
        return self._clock() - timedelta(days=self._settings.labels.window_days)

    def _forget_old(self, deadline: float | None) -> None:
        if time.monotonic() < self._prune_due:
            return
        while prune(self._store, self._remembered()):
            if deadline is not None and time.monotonic() > deadline:
                return
        self._prune_due = time.monotonic() + _PRUNE_SECONDS

    def _delete_read_logs(self, reader: LogReader) -> int:
        now = self._clock()
        gone = delete_expired(self._logs, self._settings, now, reader.unread())
        if gone:
            reader.places.mark_deleted([path.name for path in gone], now)
        return len(gone)
