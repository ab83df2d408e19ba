"""Drift of a file against the champion's reference: like with like, the raw features as requests send them."""

from __future__ import annotations

from datetime import UTC, datetime

from config.settings import load_settings, registry_directory
from models.frame import frame_to_raw
from models.runtime import ModelRuntime
from models.serving_plan import read_plan
from monitoring.cycle import detector_of, service_bundle
from monitoring.drift_report import DriftReport
from monitoring.window_profile import Profiler
from pipeline.data_processing import conform, read_data


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
    runtime = ModelRuntime(bundle)
    window = Profiler(detector.reference).profile(raw, runtime.probabilities(runtime.encoder.encode(raw)))
    return detector.detect(window, datetime.now(UTC))
