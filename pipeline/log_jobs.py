"""Who reads the logs into the store, and when: the scheduler and `sync --watch` now and then, a command to the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from config.clock import Clock, utc_now
from config.settings import Settings, logs_directory, registry_directory
from monitoring.log_ingestion import Ingestion, IngestionReport
from monitoring.store import Store
from pipeline.patience import Patience

log = logging.getLogger(__name__)
#: Between two turns, and how long one takes at most: whatever else this process does waits no longer.
PAUSE_SECONDS, TURN_SECONDS = 2.0, 1.0
#: After a failure. A locked store holds each attempt up for seconds.
RETRY_SECONDS = 2.0
#: How long a command waits for another process that reads; the scheduler has it for a turn at a time.
BUSY_SECONDS = 10.0
#: A command is silent about what is over by then.
SILENT_SECONDS = 2.0
_LOOK_SECONDS, _STOP_SECONDS = 0.1, 2.0


def ingestion_of(settings: Settings, store: Store, clock: Clock = utc_now) -> Ingestion:
    """The reader of this state root's logs."""
    return Ingestion(settings, store, logs_directory(), registry_directory(), clock)


@dataclass
class PatientReader:
    """Reads for a turn at a time, and leaves a store alone for a while that has just failed."""

    ingestion: Ingestion
    patience: Patience = field(default_factory=lambda: Patience(RETRY_SECONDS))

    def turn(self) -> IngestionReport | None:
        """What was read; None while it waits after a failure."""
        if self.patience.left:
            return None
        with self.patience.attempt():
            return self.ingestion.run_once(TURN_SECONDS)


def read_to_end(
    ingestion: Ingestion,
    tell: Callable[[str], None] | None = None,
    seconds: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> IngestionReport:
    """Reads until there is nothing more. Where another process reads it waits for that, `BUSY_SECONDS` at most.

    Args:
        tell: hears a sentence each turn once it has taken `SILENT_SECONDS`.
    """
    started, waited, read = seconds(), 0.0, IngestionReport()
    while True:
        read = read.followed_by(ingestion.run_once(TURN_SECONDS))
        if read.finished or waited >= BUSY_SECONDS:
            return read
        if read.busy:
            sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
        elif tell is not None and seconds() - started >= SILENT_SECONDS:
            tell(f"reading the logs: {read.rows + read.labels:,} lines, {read.lag_bytes / 2**20:,.0f} MB to go")


@contextmanager
def reading_logs(settings: Settings) -> Iterator[None]:
    """Within the block a thread reads this host's logs, so that a store that hangs or is away holds up nothing else."""
    ended = threading.Event()
    thread = threading.Thread(target=_read_until, args=(settings, ended), name="log-reader", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_STOP_SECONDS)


def _read_until(settings: Settings, ended: threading.Event) -> None:
    store, told = Store(settings.store_address), ""
    ingestion, patience = ingestion_of(settings, store), Patience(RETRY_SECONDS)
    while not ended.is_set():
        try:
            with patience.attempt():
                store.open()
                ingestion.run_once(TURN_SECONDS)
            told = ""
        except Exception as error:
            store.close()
            if str(error) != told:
                log.error("the logs are not read into the store: %s", error)
            told = str(error)
        ended.wait(patience.left or PAUSE_SECONDS)
    store.close()
