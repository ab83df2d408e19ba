"""Small files of a state root that are made at their first use: a key, a UUID."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], str], *, mode: int = 0o666) -> bytes:
    """The content of the file, which is made of a line of `make` when it is not there; raises `OSError`.

    Two processes that make it at once end with the same one: the link fails for the second. `mode` is that of a new
    file, less the umask.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{make()}\n")
        stream.flush()
        os.fsync(stream.fileno())
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
