"""The serving plan: one small file that says which bundles are in service on this host.

    PlanError               a plan that cannot be used: torn, or of a newer format

Readers look at its modification time; whoever replaces it holds `plan_lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from config.errors import ProductError
from models.bundle import sync_directory

PLAN_FORMAT = 1
PLAN = "serving.json"
LOCK = "serving.lock"


class PlanError(ProductError):
    """This serving plan cannot be used; the message says why."""


class PlannedBundle(Struct, frozen=True, kw_only=True):
    """A bundle in service: the folder's name under the registry directory, and the digest that it must have."""

    version: str
    manifest_sha256: str


class ServingPlan(Struct, frozen=True, kw_only=True):
    registered_name: str
    champion: PlannedBundle | None
    #: Counts the plans of this host; means nothing on another one.
    generation: int = 0
    format_version: int = PLAN_FORMAT

    @property
    def digest(self) -> str:
        """Equal on every host that serves the same: sha256 of all but the generation."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, generation=0))).hexdigest()


def read_plan(directory: Path) -> ServingPlan | None:
    """The plan in force, or None when there is none yet; raises `PlanError`."""
    try:
        path = directory / PLAN
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise PlanError(f"{PLAN} is no file")
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlanError(f"{PLAN} cannot be read: {error.strerror}") from None
    try:
        version = msgspec.json.decode(content, type=_Format).format_version
        if version > PLAN_FORMAT:
            raise PlanError(f"{PLAN} has format {version}, this release reads up to {PLAN_FORMAT}")
        return msgspec.json.decode(content, type=ServingPlan)
    except (ValueError, RecursionError) as error:  # msgspec's errors, and bytes that are no UTF-8
        raise PlanError(f"{PLAN} is not valid: {error}") from None


class _Format(Struct):
    format_version: int


def write_plan(directory: Path, plan: ServingPlan) -> None:
    """Replaces the plan atomically; the caller holds `plan_lock`."""
    temporary = directory / f".{PLAN}.{os.getpid()}.tmp"
    with temporary.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(plan), indent=2))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(directory / PLAN)
    sync_directory(directory)


@contextmanager
def plan_lock(directory: Path) -> Iterator[None]:
    """Held from reading what should be in service until the plan is written; the kernel drops it with the process."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
