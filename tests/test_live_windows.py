"""Cycles over stored hours: any window is judged as its rows would be, and what it leaves out is said."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from config.settings import Settings, registry_directory
from models.bundle import read_manifest
from monitoring.cycle import CycleOutcome, run_cycle
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftReport
from monitoring.log_policy import FieldPolicy
from monitoring.log_tail import Limits
from monitoring.prediction_log import PredictionLine
from monitoring.store import Store
from monitoring.window_profile import Profiler
from tests import drift_rows
from tests.bundles import promote
from tests.logged import NOON, PROFILER, REFERENCE_OF_ROWS, Host, prediction_lines, rows_of, write_version
from tests.trained import in_force

HOUR = timedelta(hours=1)
AT = NOON + 6 * HOUR


@pytest.fixture(autouse=True)
def host_in_force(tmp_path: Path) -> Iterator[None]:
    """A state root in which version 1 is in service."""
    with in_force(tmp_path / "home"):
        write_version(registry_directory())
        promote(registry_directory(), "1", read_manifest(registry_directory() / "1")[1])
        yield


def host_of(store: Store, folder: Path, **options: Any) -> Host:
    host = Host(folder, store, **options)
    host.now = AT
    write_version(host.registry)
    return host


def cycle(store: Store, at: Any = AT) -> CycleOutcome:
    return run_cycle(Settings(), store, at)


def direct(seeds: list[int], rows: int, withheld: frozenset[str] = frozenset()) -> DriftReport:
    """The verdict on the rows of `prediction_lines`, never logged."""
    columns = [
        np.concatenate([np.asarray(drift_rows.draw(rows, seed)[name], dtype=object) for seed in seeds])
        for name in drift_rows.NAMES
    ]
    raw = [
        values.tolist() if feature.kind == "categorical" else values.astype(np.float64)
        for feature, values in zip(drift_rows.FEATURES, columns, strict=True)
    ]
    scores = np.concatenate([drift_rows.probabilities(rows, seed) for seed in seeds])
    window = Profiler(REFERENCE_OF_ROWS).profile(raw, scores)
    return DriftDetector(REFERENCE_OF_ROWS).detect(window, AT, withheld)


def assert_same(found: DriftReport | None, wanted: DriftReport) -> None:
    """All but the last digits of sums, which depend on the order of adding."""
    assert found is not None
    leaves, expected = (flat(msgspec.to_builtins(report)) for report in (found, wanted))
    assert leaves.keys() == expected.keys()
    wrong = {
        path: (leaf, expected[path])
        for path, leaf in leaves.items()
        if not path.endswith("timestamp")
        and leaf != (pytest.approx(expected[path], rel=1e-9) if isinstance(leaf, float) else expected[path])
    }
    assert wrong == {}


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every number and text by its path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, inner in items for key, leaf in flat(inner, f"{path}.{name}").items()}
    return {path: value}


def hashed(lines: list[PredictionLine], *names: str) -> list[PredictionLine]:
    policy = FieldPolicy(dict.fromkeys(names, "hash"), b"k" * 32)
    return [msgspec.structs.replace(line, input_data=policy.apply(line.input_data)) for line in lines]


def test_hours_hosts_arms_and_batches_are_judged_as_their_rows_together(store: Store, tmp_path: Path) -> None:
    for name, arm in (("a", "control"), ("b", "treatment")):
        host = host_of(store, tmp_path / name, limits=Limits(rows=37))
        for hour in range(4):
            host.log(prediction_lines(100, hour + 10 * (name == "b"), NOON + hour * HOUR, experiment="e", arm=arm))
        host.ingestion.run_once()
    outcome = cycle(store)
    assert (outcome.rows, outcome.unprofiled_rows, outcome.remarks) == (800, 0, [])
    assert_same(outcome.drift, direct([0, 1, 2, 3, 10, 11, 12, 13], 100))


def test_reading_goes_on_after_a_restart_and_the_window_with_it(store: Store, tmp_path: Path) -> None:
    host = host_of(store, tmp_path / "a")
    for seed in (1, 2):
        host.log(prediction_lines(300, seed, NOON + seed * HOUR))
        host.restarted().run_once()
    assert_same(cycle(store).drift, direct([1, 2], 300))


def test_the_window_is_of_whole_hours_of_the_last_day(store: Store, tmp_path: Path) -> None:
    host = host_of(store, tmp_path / "a")
    for hours, seed in ((-25, 1), (-24, 2), (0, 3)):
        host.log(prediction_lines(600, seed, AT + hours * HOUR - timedelta(minutes=10)))
    host.ingestion.run_once()
    outcome = cycle(store, AT + timedelta(minutes=20))
    assert outcome.window_from == AT - 24 * HOUR
    assert outcome.rows == 600
    assert cycle(store, AT - timedelta(minutes=5)).rows == 1200  # the hour that it touches counts whole


def test_a_withheld_feature_takes_no_part_and_is_named(store: Store, tmp_path: Path) -> None:
    host = host_of(store, tmp_path / "a")
    host.log(hashed(prediction_lines(600, 1), "income", "home"))
    host.ingestion.run_once()
    outcome = cycle(store)
    assert outcome.drift is not None
    assert outcome.drift.withheld == ["home", "income"]
    assert outcome.drift.feature_scores.keys() == set(drift_rows.NAMES) - {"home", "income"}
    assert_same(outcome.drift, direct([1], 600, frozenset({"income", "home"})))
    assert not outcome.drift.overall_drift
    assert "hashes or drops home, income" in outcome.remarks[0]


def test_lags_to_the_latest_date_of_a_row_need_every_date() -> None:
    rows = drift_rows.draw(1_000, 2)
    later = rows | {"due": np.asarray(rows["due"], dtype=np.float64) + 40 * 86_400.0}
    window = PROFILER.profile(list(later.values()))
    detector = DriftDetector(REFERENCE_OF_ROWS)
    assert {"ordered", "due"} & set(detector.detect(window, AT).drifted_features)
    assert "ordered" not in detector.detect(window, AT, {"due"}).drifted_features


def test_rows_in_no_profile_are_said_and_are_an_incident_until_they_are_past(store: Store, tmp_path: Path) -> None:
    known, unknown = host_of(store, tmp_path / "a"), Host(tmp_path / "b", store)
    unknown.now = AT
    known.log(prediction_lines(300, 1))
    unknown.log(prediction_lines(100, 2))
    for host in (known, unknown):
        host.ingestion.run_once()
    outcome = cycle(store)
    assert (outcome.rows, outcome.unprofiled_rows) == (400, 100)
    assert_same(outcome.drift, direct([1], 300))
    assert "100 of 400 rows are in no profile" in outcome.remarks[0]
    (told,) = outcome.incidents
    assert (told.kind, told.severity, told.model_version) == ("data_quality", "medium", "1")
    known.now = AT + 48 * HOUR
    known.log(prediction_lines(600, 3, AT + 47 * HOUR))
    known.ingestion.run_once()
    assert cycle(store, AT + 48 * HOUR).incidents == []


def test_a_fragment_is_no_incident_and_hundreds_of_them_are(store: Store, tmp_path: Path) -> None:
    host = host_of(store, tmp_path / "a")
    host.log(prediction_lines(300, 1))
    for count, kinds in ((1, []), (200, ["data_quality"])):
        with host.raw_log() as stream:
            stream.write(b'\n{"prediction_id":"01\n' * count)
        host.ingestion.run_once()
        outcome = cycle(store)
        assert [incident.kind for incident in outcome.incidents] == kinds
    assert outcome.fragments == 201
    assert "201 of 501 lines" in outcome.incidents[0].cause


def test_what_was_said_of_the_rows_of_a_version_goes_with_it(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "b", store)
    host.now = AT
    host.log(prediction_lines(100, 1))
    host.ingestion.run_once()
    assert [incident.kind for incident in cycle(store).incidents] == ["data_quality"]
    write_version(registry_directory(), "2")
    promote(registry_directory(), "2", read_manifest(registry_directory() / "2")[1])
    assert cycle(store).incidents == []


def test_a_check_is_kept_with_its_report(store: Store, tmp_path: Path) -> None:
    host = host_of(store, tmp_path / "a")
    host.log(prediction_lines(300, 1))
    host.ingestion.run_once()
    cycle(store)
    (kept,) = rows_of(store, "drift_checks")
    assert (kept["rows"], kept["window_from"], kept["report"]["withheld"]) == (300, AT - 24 * HOUR, [])
