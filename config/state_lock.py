"""One holder at a time for a piece of the state root, named so that the next one can be told who it is.

    StateLockedError        somebody else holds it; the message names the process

The kernel drops the lock with its process, however that ends, so no lock is ever stale.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from config.home import under_home

LockName = Literal["pipeline", "scheduler"]


class StateLockedError(Exception):
    """Another process holds this part of the state."""


@contextmanager
def state_lock(name: LockName, holder: str) -> Iterator[None]:
    """Holds `run/<name>.lock`; `holder` is what a second comer is told, e.g. `main.py run`.

    Raises:
        StateLockedError: at once, when another process holds it.
    """
    path = under_home("run") / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise StateLockedError(
                f"{path.parent.parent} is in use: {stream.read().strip() or 'another process'} holds the {name} lock"
            ) from None
        stream.truncate(0)
        stream.write(f"`{holder}` (process {os.getpid()})")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def lock_holder(name: LockName) -> str | None:
    """Who holds the lock now, or None."""
    path = under_home("run") / f"{name}.lock"
    try:
        with path.open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read().strip() or "another process"
    except OSError:
        pass
    return None
