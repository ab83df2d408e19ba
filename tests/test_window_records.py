"""Hourly profiles: they add up over hours, arms, hosts and batches, and say what they do not know."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from config.settings import Settings
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftThresholds
from monitoring.hour_tallies import LATENCY_EDGES, HourKey, HourTally, latency_quantile
from monitoring.known_models import RETRY_SECONDS, KnownModels
from monitoring.log_policy import FieldPolicy
from monitoring.log_tail import Limits
from monitoring.prediction_log import PredictionLine
from monitoring.store import Store
from monitoring.window_profile import Profiler, WindowProfile, merge
from monitoring.window_records import add_tallies, served_versions, start_of, window
from tests import drift_rows
from tests.logged import NOON, PROFILER, REFERENCE_OF_ROWS, WARNED, Host, prediction_lines, write_version

HOUR = timedelta(hours=1)


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    host = Host(tmp_path / "a", store)
    write_version(host.registry)
    return host


def expected(rows: int, seed: int) -> WindowProfile:
    """The profile of the rows as they were drawn, before they became JSON."""
    return PROFILER.profile(list(drift_rows.draw(rows, seed).values()), drift_rows.probabilities(rows, seed))


def assert_same(found: WindowProfile | None, wanted: WindowProfile) -> None:
    assert found is not None
    for name in ("counts", "missing", "infinite"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name
    assert (found.rows, found.scored_rows) == (wanted.rows, wanted.scored_rows)
    assert np.allclose(found.sums, wanted.sums) and np.allclose(found.latest, wanted.latest)


def test_the_profile_of_logged_rows_is_that_of_the_rows(host: Host) -> None:
    host.log(prediction_lines(500, seed=5))
    host.ingestion.run_once()
    found = window(host.store, PROFILER.layout, "1", NOON, NOON + HOUR)
    assert_same(found.profile, expected(500, 5))
    assert (found.rows, found.unprofiled_rows, found.withheld) == (500, 0, frozenset())


def test_a_window_is_the_sum_of_its_hours_hosts_and_arms(store: Store, tmp_path: Path) -> None:
    for name, arm in (("a", "control"), ("b", "treatment")):
        host = Host(tmp_path / name, store, limits=Limits(rows=13))
        write_version(host.registry)
        for hour in range(3):
            seed = hour + 10 * (name == "b")
            host.log(prediction_lines(50, seed, NOON + hour * HOUR, experiment="e", arm=arm))
        host.ingestion.run_once()
    layout = PROFILER.layout
    everything = merge(expected(50, seed) for seed in (0, 1, 2, 10, 11, 12))
    assert_same(window(store, layout, "1", NOON, NOON + 3 * HOUR).profile, everything)
    two_hours = merge(expected(50, seed) for seed in (0, 1, 10, 11))
    assert_same(window(store, layout, "1", NOON, NOON + 1.5 * HOUR).profile, two_hours)
    of_arm = window(store, layout, "1", NOON, NOON + HOUR, ("e", "treatment"))
    assert_same(of_arm.profile, expected(50, 10))
    assert window(store, layout, "2", NOON, NOON + HOUR).profile is None


def test_rows_of_a_version_that_is_not_here_are_counted_without_a_profile(host: Host) -> None:
    host.log(prediction_lines(9, version="7"))
    host.log(prediction_lines(3, seed=3, version="../../etc"))
    assert host.ingestion.run_once().rows == 12
    found = window(host.store, PROFILER.layout, "7", NOON, NOON + HOUR)
    assert (found.rows, found.unprofiled_rows, found.profile) == (9, 9, None)
    write_version(host.registry, "7")
    host.log(prediction_lines(4, seed=2, version="7"))
    host.restarted().run_once()
    found = window(host.store, PROFILER.layout, "7", NOON, NOON + HOUR)
    assert (found.rows, found.unprofiled_rows) == (13, 9)
    assert_same(found.profile, expected(4, 2))


def test_a_profile_of_another_reference_is_never_mixed_in(host: Host) -> None:
    host.log(prediction_lines(20))
    host.ingestion.run_once()
    other = Profiler(drift_rows.reference(300))
    found = window(host.store, other.layout, "1", NOON, NOON + HOUR)
    assert (found.rows, found.unprofiled_rows, found.profile) == (20, 20, None)
    tally = HourTally(rows=5, profile=other.empty())
    with host.store.writing() as connection:
        add_tallies(connection, 1, {HourKey(NOON, "1"): tally}, KnownModels(host.registry))
    found = window(host.store, PROFILER.layout, "1", NOON, NOON + HOUR)
    assert (found.rows, found.unprofiled_rows) == (25, 5)
    assert_same(found.profile, expected(20, 1))


def test_a_bundle_that_arrives_later_is_found_after_a_while(tmp_path: Path) -> None:
    seconds = [0.0]
    models = KnownModels(tmp_path, lambda: seconds[0])
    assert models.get("1") is None
    write_version(tmp_path)
    assert models.get("1") is None
    seconds[0] += RETRY_SECONDS
    assert models.get("1") is not None


def test_hashed_and_dropped_features_are_named_and_the_others_counted(host: Host) -> None:
    policy = FieldPolicy({"income": "hash", "home": "hash", "due": "drop", "ordered": "hash"}, b"k" * 32)
    lines = [
        msgspec.structs.replace(line, input_data=policy.apply(line.input_data)) for line in prediction_lines(200, 5)
    ]
    host.log(lines)
    host.ingestion.run_once()
    found = window(host.store, PROFILER.layout, "1", NOON, NOON + HOUR)
    assert found.withheld == {"income", "home", "due", "ordered"}
    assert found.profile is not None
    owner = next(part for part in PROFILER.layout.parts if part.owner == "owner")
    assert np.array_equal(
        found.profile.counts[owner.start : owner.stop], expected(200, 5).counts[owner.start : owner.stop]
    )


@pytest.mark.parametrize(
    "odd", [{"income": [1]}, {"income": {}}, {"income": 10**400}, {"home": 5}, {"owner": 1}, {"due": "no date"}, {}]
)
def test_values_of_another_type_are_missing_and_hold_up_nothing(host: Host, odd: dict[str, object]) -> None:
    lines = prediction_lines(3)
    line: PredictionLine = msgspec.structs.replace(lines[0], input_data=lines[0].input_data | odd)
    host.log([line, *lines[1:]])
    host.ingestion.run_once()
    found = window(host.store, PROFILER.layout, "1", NOON, NOON + HOUR)
    assert (found.rows, found.unprofiled_rows) == (3, 0)


def test_volume_latency_and_warnings_stand_beside_the_profile_by_day(host: Host) -> None:
    host.log(prediction_lines(3))
    host.log(prediction_lines(1, 2, NOON + HOUR, warnings=WARNED, fallback=True))
    host.log(prediction_lines(2, 3, NOON + 24 * HOUR))
    host.ingestion.run_once()
    today, tomorrow = served_versions(host.store, NOON, NOON + 48 * HOUR)
    assert (today.predictions, today.warned_rows, today.warnings, today.fallback_rows) == (4, 1, {"missing": 1}, 1)
    assert (today.mean_latency_ms, tomorrow.predictions) == (2.5, 2)
    assert today.p95_latency_ms == pytest.approx(2.5, rel=0.1)
    (whole,) = served_versions(host.store, NOON, NOON + 48 * HOUR, by_day=False)
    assert (whole.predictions, whole.warnings) == (6, {"missing": 1})


def test_latency_quantiles_are_right_to_a_tenth() -> None:
    latencies = np.random.default_rng(1).lognormal(1.0, 1.0, 10_000)
    counts = np.bincount(np.searchsorted(LATENCY_EDGES, latencies), minlength=len(LATENCY_EDGES) + 1)
    for share in (0.5, 0.95, 0.99):
        assert latency_quantile(counts, share) == pytest.approx(np.quantile(latencies, share), rel=0.11)
    assert latency_quantile(np.zeros_like(counts), 0.5) is None


def test_a_week_of_a_hundred_features_is_read_and_checked_in_time(tmp_path: Path) -> None:
    """The bar is 10 ms on a quiet machine; `benchmarks/monitoring.py` measures it."""
    from models.reference import build_reference
    from models.schema import Feature, Schema

    draw = np.random.default_rng(1)
    features = tuple(Feature(name=f"f{index}", kind="numeric") for index in range(100))
    schema = Schema(target="y", classes=(0, 1), features=features)
    profiler = Profiler(build_reference(schema, [draw.normal(size=20_000) for _ in features]))
    with Store(f"sqlite:///{tmp_path / 'a.db'}") as store:
        with store.writing() as connection:
            profiles = [profiler.profile([draw.normal(size=500) for _ in features]) for _ in range(168)]
            hours = {
                HourKey(NOON + index * HOUR, "1"): HourTally(rows=500, profile=one)
                for index, one in enumerate(profiles)
            }
            add_tallies(connection, 1, hours, KnownModels(tmp_path))
        detector = DriftDetector(profiler.layout.reference, DriftThresholds.from_settings(Settings()))
        seconds = []
        for _ in range(15):
            started = time.perf_counter()
            week = window(store, profiler.layout, "1", NOON, NOON + 168 * HOUR)
            assert week.profile is not None
            detector.detect(week.profile, NOON)
            seconds.append(time.perf_counter() - started)
    assert week.rows == 168 * 500
    print(f"\nweek of 100 features: {min(seconds) * 1000:.1f} ms at best")  # noqa: T201
    assert min(seconds) < 0.05


def test_the_reference_of_the_rows_has_every_kind_of_feature() -> None:
    assert {feature.kind for feature in REFERENCE_OF_ROWS.features} == {"numeric", "categorical", "boolean", "datetime"}


def test_a_window_of_little_traffic_goes_back_until_it_has_its_rows(host: Host) -> None:
    for hours in (1, 30, 60, 90, 24 * 20):
        host.log(prediction_lines(40, seed=hours, moment=NOON - hours * HOUR))
    host.ingestion.run_once()

    def hours_back(rows: int, version: str = "1") -> float:
        start = start_of(host.store, version, NOON, 24 * HOUR, 14 * 24 * HOUR, rows)
        return (NOON - start) / HOUR

    assert [hours_back(rows) for rows in (40, 41, 80, 81, 121, 1000)] == [24, 30, 30, 60, 90, 90]
    assert hours_back(40, "2") == 24
