"""One holder at a time for a piece of the state root, named so that the next one can be told who it is.

    StateLockedError        somebody else holds it; the message names the process

The kernel drops the lock with its process, however that ends, so no lock is ever stale.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from config.errors import ProductError
from config.home import under_home

LockName = Literal["pipeline", "scheduler"]
#: How long a look at who holds a lock may keep it from being taken.
LOOK_SECONDS = 0.3


class StateLockedError(ProductError):
    """Another process holds this part of the state."""


@contextmanager
def state_lock(name: LockName, holder: str) -> Iterator[None]:
    """Holds `run/<name>.lock`; `holder` is what a second comer is told, e.g. `main.py run`.

    Raises:
        StateLockedError: after a moment, when another process holds it.
    """
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        if not _locked(stream):
            raise StateLockedError(
                f"{path.parent.parent} is in use: {_holder(stream)} holds the {name} lock; wait until it has ended"
            )
        stream.truncate(0)
        stream.write(f"`{holder}` (process {os.getpid()})")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def lock_holder(name: LockName) -> str | None:
    """Who holds the lock now, or None."""
    try:
        with _path(name).open("r") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(stream)
    except OSError:
        pass
    return None


def _path(name: LockName) -> Path:
    return under_home("run") / f"{name}.lock"


def _locked(stream: IO[str]) -> bool:
    """Tries for a moment: `lock_holder` in another process has to take the lock to see that it is free."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or "another process"
