"""Who reads logs here: the UUID of this state root, so that hosts do not take one another's files for their own.

It stands in the file `source_id` under the state root, which is also the lock that makes one reader at a time.
"""

from __future__ import annotations

import fcntl
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from config.errors import ProductError
from config.home import under_home
from monitoring.birth_time import birth_time
from monitoring.first_use import read_or_make
from monitoring.store import Store, upsert
from monitoring.tables import log_sources

SOURCE_FILE = "source_id"
#: A state root whose logs were read so lately is being read now; one that was moved or restored waits as long.
COPY_SEEN = timedelta(seconds=30)


class SourceError(ProductError):
    """The file with this state root's UUID cannot be used; the message says why."""


def source_path() -> Path:
    return under_home(SOURCE_FILE)


def source_uuid(path: Path) -> str:
    """This state root's UUID, made at its first use; raises `SourceError`."""
    try:
        return str(uuid.UUID(read_or_make(path, _new_uuid).decode().strip()))
    except OSError as error:
        raise SourceError(f"{path}: the UUID of this state root cannot be used: {error.strerror}") from None
    except ValueError:
        raise SourceError(
            f"{path}: is no UUID; move the file away, and the logs are read from their beginning"
        ) from None


def _new_uuid() -> str:
    return str(uuid.uuid4())


def register_source(store: Store, path: Path, now: datetime) -> int:
    """The number in the store of the state root with this file; notes that its logs are being read.

    Raises:
        SourceError: the file cannot be used, or a copy of this state root is read by another host, just now too.
    """
    source = source_uuid(path)
    place = f"{socket.gethostname()} {_file_mark(path)}"
    t = log_sources.c
    with store.writing() as connection:
        known = connection.execute(select(log_sources).where(t.uuid == source)).first()
        if known is not None and _is_another(known.host, place) and abs(now - known.read_at) < COPY_SEEN:
            raise SourceError(
                f"{path}: the logs of a state root with the same UUID were read on {known.host.partition(' ')[0]} just "
                f"now. If it was moved or restored, leave the file: this passes within {COPY_SEEN.seconds} seconds. If "
                "this lasts, one is a copy of the other: remove this file in the copy, never in the only one: then the "
                "copy gets a UUID of its own, and no row is counted twice"
            )
        upsert(connection, log_sources, {"uuid": source}, {"host": place, "read_at": now})
        return int(connection.execute(select(t.id).where(t.uuid == source)).scalar_one())


def _file_mark(path: Path) -> str:
    """The same for every process and container that has this very file, whatever becomes of its mode, its owner and
    other links to it; another one for a copy."""
    return f"{path.stat().st_ino:x}-{birth_time(path):x}"


def _is_another(known: str, place: str) -> bool:
    """Stores of earlier releases know the host's name alone."""
    return " " in known and known.rpartition(" ")[2] != place.rpartition(" ")[2]


@contextmanager
def sole_reader(path: Path) -> Iterator[bool]:
    """Whether this process is the one that reads; the kernel drops the lock with its process, however that ends."""
    with path.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
