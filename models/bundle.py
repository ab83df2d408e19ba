"""The bundle: a directory that holds all that a server needs to answer for one model version.

    BundleError             a bundle that must not be served: torn, altered, of a newer format, or wrong in its answers

`write_bundle` makes one at a temporary name, fsyncs and renames it; `read_bundle` verifies every digest before a byte
is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from config.errors import ProductError
from models.schema import SCHEMA_FORMAT, ClassLabel, Schema

BUNDLE_FORMAT = 1
MANIFEST = "manifest.json"
SCHEMA = "schema.json"
MODEL = "model.onnx"
REFERENCE = "reference.json"
CHECKS = "checks.json"
#: Monitoring's: no server reads it, and a bundle may lack it.
ESTIMATOR = "estimator.onnx"
SERVED_FILES = (SCHEMA, MODEL, CHECKS)
T = TypeVar("T")


class BundleError(ProductError):
    """This bundle must not be served; the message says which file and why."""


class FileDigest(Struct, frozen=True):
    sha256: str
    size: int


class SplitRule(Struct, frozen=True, kw_only=True):
    """How the rows were divided, so that it can be told of any row, later, on which side it stood.

    By hash: a row is held out when `models.row_hash` of `columns` with `key` is below `test_size`; by time: when its
    `time_column` is at or after `cut` (a number, or seconds since 1970 UTC).
    """

    method: str  # "hash" | "time"
    test_size: float
    key: int = 0
    columns: tuple[str, ...] = ()
    time_column: str | None = None
    cut: float | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle is. The version number is not in it: the registry gives that after the bundle is logged."""

    registered_name: str
    run_id: str
    created_at: str
    task: str
    classes: tuple[ClassLabel, ...]
    algorithm: str
    metrics: dict[str, float | None]
    split: SplitRule
    data_source: str
    #: Trained on the generated sample: gives way to the first model of a real table.
    sample: bool = False
    libraries: dict[str, str]
    files: dict[str, FileDigest] = field(default_factory=dict)
    format_version: int = BUNDLE_FORMAT


class Checks(Struct, frozen=True, kw_only=True):
    """Rows as a request would send them, with the answers that the fitted pipeline gave."""

    rows: list[dict[str, Any]]
    probability: list[list[float]]


class Bundle(Struct, frozen=True, kw_only=True):
    """A bundle in memory, digests verified."""

    manifest: Manifest
    manifest_sha256: str
    schema: Schema
    model: bytes
    checks: Checks
    #: Files beyond those that a server needs, for whoever asked for them.
    extra: dict[str, bytes] = field(default_factory=dict)


def write_bundle(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Writes all files and a manifest with their digests to `directory`, all or nothing.

    Returns the manifest's sha256 (hex). An existing directory of that name is replaced.
    """
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    digests = {name: FileDigest(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}
    encoded = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, files=digests)), indent=2)
    for name, content in [*files.items(), (MANIFEST, encoded)]:
        _write_synced(temporary / name, content)
    sync_directory(temporary)
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
    sync_directory(directory.parent)
    return hashlib.sha256(encoded).hexdigest()


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest and its sha256; raises `BundleError` when there is none, it is torn, or of a newer format."""
    try:
        content = (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{directory.name}: {MANIFEST} cannot be read: {error.strerror}") from None
    _refuse_newer(directory, MANIFEST, content, BUNDLE_FORMAT)
    return _decode(directory, MANIFEST, content, Manifest), hashlib.sha256(content).hexdigest()


def read_bundle(directory: Path, expected_sha256: str | None = None, *extra: str) -> Bundle:
    """Reads what a server needs, and `extra` files, all verified; the manifest against `expected_sha256`."""
    manifest, digest = read_manifest(directory)
    if expected_sha256 is not None and digest != expected_sha256:
        raise BundleError(f"{directory.name}: {MANIFEST} is not the one that was promoted")
    content = {name: read_verified(directory, manifest, name) for name in SERVED_FILES}
    _refuse_newer(directory, SCHEMA, content[SCHEMA], SCHEMA_FORMAT)
    return Bundle(
        manifest=manifest,
        manifest_sha256=digest,
        schema=_decode(directory, SCHEMA, content[SCHEMA], Schema),
        model=content[MODEL],
        checks=_decode(directory, CHECKS, content[CHECKS], Checks),
        extra={name: read_verified(directory, manifest, name) for name in extra},
    )


def read_verified(directory: Path, manifest: Manifest, name: str) -> bytes:
    """One file of a bundle, verified against the manifest."""
    recorded = manifest.files.get(name)
    if recorded is None:
        raise BundleError(f"{directory.name}: the manifest does not name {name}")
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{directory.name}: {name} cannot be read: {error.strerror}") from None
    if len(content) != recorded.size or hashlib.sha256(content).hexdigest() != recorded.sha256:
        raise BundleError(f"{directory.name}: {name} does not match its digest")
    return content


def verify_bundle(directory: Path) -> str:
    """Verifies every file that the manifest names; returns the manifest's sha256."""
    manifest, digest = read_manifest(directory)
    for name in manifest.files:
        read_verified(directory, manifest, name)
    return digest


def _refuse_newer(directory: Path, name: str, content: bytes, known: int) -> None:
    version = _decode(directory, name, content, _Format).format_version
    if version > known:
        raise BundleError(f"{directory.name}: {name} has format {version}, this release reads up to {known}")


class _Format(Struct):
    format_version: int


def _decode(directory: Path, name: str, content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{directory.name}: {name} is not valid: {error}") from None


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Makes a rename in `directory` survive power loss."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
