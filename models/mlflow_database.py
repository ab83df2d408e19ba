"""MLflow's own SQLite file: there whole, or not at all.

MLflow's migrations are not one transaction. A kill or a full disk in the middle would leave a file that no later start
can use, and two processes that make one file break each other. So it is made beside its place, by one process at a
time, and renamed.
"""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_made(path: Path) -> bool:
    """Whether there is a database; SQLite takes an empty file for one that holds nothing yet."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def make_database(path: Path) -> None:
    """Makes the file with all of MLflow's tables, unless it is there; waits while another process makes it.

    Raises OSError, or SQLAlchemy's errors, when it cannot be written; nothing is left then.
    """
    if is_made(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_made(path):
            return
        unfinished = path.with_name(f".{path.name}.unfinished")
        _remove(unfinished)
        try:
            _make_tables(unfinished)
        except BaseException:
            _remove(unfinished)
            raise
        unfinished.rename(path)


def _make_tables(path: Path) -> None:
    """What `mlflow db upgrade` does to an empty database, with no connection left open on a file that is renamed."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import URL, NullPool, create_engine

    _initialize_tables(create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool))


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
