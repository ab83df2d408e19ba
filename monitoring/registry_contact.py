"""How following the registry goes on this host: a small file, so that `status` and the metrics say the same.

Whoever follows writes it (the scheduler, or `sync --watch`), which may hang, be dead or have just started when somebody
asks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from config.home import under_home


class RegistryContact(Struct, frozen=True, kw_only=True):
    #: When this host was last brought up to the registry; None when it never was.
    at: datetime | None = None
    #: Why it was not the last time; None when it was.
    problem: str | None = None
    #: Whether the registry named the champion the last time; it may have, and the rest have failed. None is not known.
    reachable: bool | None = None


def read_contact() -> RegistryContact | None:
    """None when nobody has followed the registry here."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=RegistryContact)
    except (OSError, ValueError):
        return None


def note_success(now: datetime) -> None:
    """This host is up to the registry. A disk that takes no note keeps nobody from following."""
    _write(RegistryContact(at=now, reachable=True))


def note_failure(problem: str, *, reachable: bool) -> None:
    """It could not be brought up to the registry; when it last was stays."""
    before = read_contact()
    _write(RegistryContact(at=before.at if before else None, problem=problem, reachable=reachable))


def _write(contact: RegistryContact) -> None:
    path = _path()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(contact))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _path() -> Path:
    return under_home("run") / "registry.json"
