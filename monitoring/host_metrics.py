"""What a host knows of itself without asking anybody: its logs, its serving plan, its disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from models.bundle import BundleError, read_manifest
from models.serving_plan import PlanError, read_plan
from monitoring.daily_files import KINDS, log_files
from monitoring.log_lag import ReadSoFar, lag_behind
from monitoring.metric_samples import Definition, Sample

UNREAD_BYTES = Definition(
    "mlops_log_unread_bytes", "gauge", "host", "Bytes of this host's logs that are not in the store.", ("log",)
)
UNREAD_SECONDS = Definition(
    "mlops_log_unread_seconds", "gauge", "host",
    "How long ago the oldest line was written that is not in the store; 0 when all are.", ("log",),
)  # fmt: skip
LAST_READ = Definition(
    "mlops_log_last_read_timestamp_seconds", "gauge", "host", "When this host's logs were last read into the store."
)
LAST_WRITTEN = Definition(
    "mlops_log_last_written_timestamp_seconds", "gauge", "host", "When this host's log was last written to.", ("log",)
)
LINES = Definition(
    "mlops_log_lines_read_total", "counter", "host", "Lines of this host's logs that were read into the store.",
    ("log",),
)  # fmt: skip
SET_ASIDE = Definition(
    "mlops_log_lines_set_aside_total", "counter", "host",
    "Lines set aside because they are none: torn, or of no known form.", ("log",),
)  # fmt: skip
PLAN = Definition(
    "mlops_plan_info", "gauge", "host", "1 for the version that this host's serving plan names.",
    ("model", "model_version", "plan_digest"),
)  # fmt: skip
GENERATION = Definition("mlops_plan_generation", "gauge", "host", "Generation of this host's serving plan.")
TRAINED = Definition(
    "mlops_model_trained_timestamp_seconds", "gauge", "host", "When the version in service was made.",
    ("model_version",),
)  # fmt: skip
DISK_FREE = Definition("mlops_disk_free_bytes", "gauge", "host", "Free space where the state root is.")
DISK_SIZE = Definition("mlops_disk_size_bytes", "gauge", "host", "Size of the file system where the state root is.")

HOST_METRICS = (
    *(LINES, SET_ASIDE, UNREAD_BYTES, UNREAD_SECONDS, LAST_READ, LAST_WRITTEN),
    *(PLAN, GENERATION, TRAINED, DISK_FREE, DISK_SIZE),
)
_SHOWN_DIGEST = 12


def log_samples(read: ReadSoFar | None, logs: Path, now: datetime) -> Iterator[Sample]:
    """`read` is how far reading was when the store was last asked, so that the lag grows while it is away; None when
    it was never asked: then nobody knows the lag."""
    for kind, path in {file.kind: file.path for file in log_files(logs)}.items():  # the newest of a kind is the last
        yield from LAST_WRITTEN.of(_written_at(path), kind)
    if read is None:
        return
    yield from LAST_READ.of(read.at)
    for kind in KINDS:
        lag = lag_behind(read, logs, now, kind)
        yield from UNREAD_BYTES.of(lag.unread_bytes, kind)
        yield from UNREAD_SECONDS.of(lag.oldest_unread_seconds or 0.0, kind)
        yield from LINES.of(read.lines.get(kind, 0), kind)
        yield from SET_ASIDE.of(read.fragments.get(kind, 0), kind)


def plan_samples(registry: Path) -> Iterator[Sample]:
    """Nothing where there is no plan, or none that can be read: the server and `status` say why."""
    try:
        plan = read_plan(registry)
    except PlanError:
        return
    if plan is None:
        return
    yield from GENERATION.of(plan.generation)
    if plan.champion is None:
        return
    version = plan.champion.version
    yield from PLAN.of(1, plan.registered_name, version, plan.digest[:_SHOWN_DIGEST])
    try:
        yield from TRAINED.of(datetime.fromisoformat(read_manifest(registry / version)[0].created_at), version)
    except (BundleError, ValueError):
        return


def disk_samples(home: Path) -> Iterator[Sample]:
    usage = shutil.disk_usage(home)
    yield from DISK_FREE.of(usage.free)
    yield from DISK_SIZE.of(usage.total)


def _written_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # deleted by age just now
        return None
