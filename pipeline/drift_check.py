"""Drift of a file against the champion's reference: like with like, the raw features as requests send them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from config.settings import load_settings, registry_directory
from models.encoding import RawColumn
from models.frame import frame_to_raw
from models.runtime import ModelRuntime
from models.serving_plan import read_plan
from monitoring.cycle import detector_of, service_bundle
from monitoring.drift_report import DriftReport
from monitoring.window_profile import Profiler, WindowProfile, merge
from pipeline.data_processing import conform, read_data

#: Rows that are encoded, answered and counted at a time, so that a large file adds no copy of itself to memory.
_CHUNK_ROWS = 65_536


def drift_of_file(source: str) -> DriftReport:
    """The verdict on a table, with prediction drift by the champion's own answers.

    Raises:
        InputError: the table cannot be read, or lacks features.
        BundleError: nothing is in service on this host.
    """
    settings = load_settings()
    bundle = service_bundle(read_plan(registry_directory()))
    detector = detector_of(settings, bundle)
    table = read_data(settings, source, bundle.schema)
    raw = frame_to_raw(bundle.schema, conform(table.frame, bundle.schema, table.source))
    profiler = Profiler(detector.reference)
    window = merge([profiler.empty(), *_profiles(profiler, ModelRuntime(bundle), raw, len(table.frame))])
    return detector.detect(window, datetime.now(UTC))


def _profiles(
    profiler: Profiler, runtime: ModelRuntime, raw: Sequence[RawColumn], rows: int
) -> Iterator[WindowProfile]:
    for start in range(0, rows, _CHUNK_ROWS):
        chunk = [values[start : start + _CHUNK_ROWS] for values in raw]
        yield profiler.profile(chunk, runtime.probabilities(runtime.encoder.encode(chunk)))
