"""When this host last heard from the registry what should be in service: a small file, so that `status` can tell.

Whoever follows writes it (the scheduler, or `sync --watch`), which may hang or be dead when somebody asks.
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
    #: When the registry last answered; None when it never did.
    at: datetime | None = None
    #: Why it did not the last time that it was asked; None when it did.
    problem: str | None = None


def read_contact() -> RegistryContact | None:
    """None when nobody has followed the registry here."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=RegistryContact)
    except (OSError, ValueError):
        return None


def note_contact(at: datetime | None, problem: str | None = None) -> None:
    """`at` is now, or None when it has failed. A disk that takes no note keeps nobody from following."""
    if at is None:
        before = read_contact()
        at = before.at if before else None
    path = _path()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(RegistryContact(at=at, problem=problem)))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _path() -> Path:
    return under_home("run") / "registry.json"
