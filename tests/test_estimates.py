"""Estimates at ingestion: each row's, summed by hour, and carried to the rows that get an outcome."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.bundle import ESTIMATOR, read_bundle, read_manifest
from models.encoding import Encoder
from models.error_model import ErrorModel
from models.reference import decode_reference, encode_reference
from models.runtime import ModelRuntime
from monitoring.hour_tallies import estimate_variance
from monitoring.known_models import KnownModels
from monitoring.log_policy import FieldPolicy
from monitoring.log_tail import Limits
from monitoring.store import Store
from tests import drift_rows
from tests.logged import NOON, REFERENCE_OF_ROWS, Host, prediction_lines, rows_of, write_version
from tests.made_errors import logged_errors
from tests.trained import TrainedState, bundle_in, served_version

SUMS = ("estimated_rows", "estimate_millionths", "estimate_variance_millionths")


@pytest.fixture(scope="module")
def estimator() -> bytes:
    return logged_errors()[0].export()


@pytest.fixture
def host(store: Store, tmp_path: Path, estimator: bytes) -> Host:
    host = Host(tmp_path / "a", store)
    write_version(host.registry, estimator=estimator)
    return host


def expected_estimates(estimator: bytes, rows: int, seed: int) -> list[int]:
    """In millionths, of the rows as they were drawn, before they became JSON."""
    matrix = Encoder(drift_rows.SCHEMA).encode(list(drift_rows.draw(rows, seed).values()))
    estimates = ErrorModel(estimator).estimates(matrix, drift_rows.probabilities(rows, seed))
    found: list[int] = np.rint(estimates * 1e6).astype(int).tolist()
    return found


def summed(store: Store, table: str) -> tuple[int, ...]:
    return tuple(sum(row[name] for row in rows_of(store, table)) for name in SUMS)


def sums_of(millionths: list[int]) -> tuple[int, ...]:
    return len(millionths), sum(millionths), sum(map(estimate_variance, millionths))


def near(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """JSON keeps a row's numbers exactly; only dates lose less than a microsecond."""
    return found[0] == wanted[0] and all(abs(a - b) <= 2 * wanted[0] for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("batch", [7, 10_000])
def test_hours_add_up_the_estimates_of_their_rows(host: Host, estimator: bytes, batch: int) -> None:
    host.limits = Limits(rows=batch)
    host.log(prediction_lines(200, seed=5) + prediction_lines(50, 6, NOON + timedelta(hours=2), arm="b"))
    host.restarted().run_once()
    wanted = expected_estimates(estimator, 200, 5) + expected_estimates(estimator, 50, 6)
    assert near(summed(host.store, "window_profiles"), sums_of(wanted))
    assert len(rows_of(host.store, "window_profiles")) == 2
    stored = [
        row["estimate_millionths"] for row in sorted(rows_of(host.store, "predictions"), key=lambda row: row["id"])
    ]
    assert np.max(np.abs(np.array(stored) - np.array(wanted))) <= 2


def test_sums_do_not_depend_on_how_rows_were_divided_into_batches(
    migrated_sqlite: Path, tmp_path: Path, estimator: bytes
) -> None:
    found = []
    for number, batch in enumerate((3, 64, 10_000)):
        with Store(f"sqlite:///{tmp_path / f'{number}.db'}") as opened:
            host = Host(tmp_path / str(number), opened, limits=Limits(rows=batch))
            write_version(host.registry, estimator=estimator)
            host.log(prediction_lines(300, seed=9))
            host.ingestion.run_once()
            found.append(summed(opened, "window_profiles"))
    assert found[0] == found[1] == found[2] and found[0][0] == 300


def test_labelled_rows_carry_their_estimate_through_corrections(host: Host, estimator: bytes) -> None:
    lines = prediction_lines(40, seed=5)
    host.log(lines)
    host.ingestion.run_once()
    host.feed_back(*((line.prediction_id, "no") for line in lines[:30]))
    host.ingestion.run_once()
    wanted = sums_of(expected_estimates(estimator, 40, 5)[:30])
    assert near(summed(host.store, "outcome_counts"), wanted)
    before = summed(host.store, "outcome_counts")
    host.feed_back(*((line.prediction_id, "yes") for line in lines[:10]), moment=NOON + timedelta(minutes=9))
    host.ingestion.run_once()
    assert summed(host.store, "outcome_counts") == before
    by_actual = dict.fromkeys(('"no"', '"yes"'), 0)
    for row in rows_of(host.store, "outcome_counts"):
        by_actual[row["actual"]] += row["estimated_rows"]
    assert by_actual == {'"no"': 20, '"yes"': 10}
    of_rows = {row["estimate_millionths"] for row in rows_of(host.store, "labelled_rows")}
    assert None not in of_rows and len(of_rows) > 20


def test_outcomes_before_their_prediction_get_its_estimate_too(host: Host) -> None:
    lines = prediction_lines(20, seed=5)
    host.feed_back(*((line.prediction_id, "no") for line in lines))
    host.ingestion.run_once()
    host.log(lines)
    host.ingestion.run_once()
    assert summed(host.store, "outcome_counts")[0] == 20


def test_a_row_with_a_withheld_feature_or_without_an_answer_is_counted_without_an_estimate(host: Host) -> None:
    policy = FieldPolicy({"income": "hash"}, b"k" * 32)
    hashed = [msgspec.structs.replace(line, input_data=policy.apply(line.input_data)) for line in prediction_lines(9)]
    host.log(hashed)
    lines = [msgspec.structs.replace(line, probability=[float("nan"), 0.5]) for line in prediction_lines(4, seed=2)]
    host.log(lines[:1] + prediction_lines(5, seed=3, moment=NOON + timedelta(hours=3)))
    host.ingestion.run_once()
    hours = {row["rows"]: row["estimated_rows"] for row in rows_of(host.store, "window_profiles")}
    assert hours == {10: 0, 5: 5}
    assert sum(row["estimate_millionths"] is None for row in rows_of(host.store, "predictions")) == 10


def test_a_bundle_without_an_error_model_or_with_a_spoilt_one_is_ingested_all_the_same(
    store: Store, tmp_path: Path
) -> None:
    host = Host(tmp_path / "a", store)
    write_version(host.registry, "1")
    write_version(host.registry, "2", estimator=b"no ONNX")
    write_version(host.registry, "3", estimator=b"whole")
    (host.registry / "3" / ESTIMATOR).write_bytes(b"torn")
    for version in ("1", "2", "3"):
        host.log(prediction_lines(5, seed=int(version), version=version))
    host.ingestion.run_once()
    rows = rows_of(store, "window_profiles")
    assert [row["rows"] for row in rows] == [5, 5, 5]
    assert summed(store, "window_profiles") == (0, 0, 0)
    assert all(row["profile"] is not None for row in rows)


def test_a_reference_from_before_error_models_still_reads() -> None:
    plain: dict[str, Any] = msgspec.json.decode(encode_reference(REFERENCE_OF_ROWS))
    del plain["error_model"]
    assert decode_reference(msgspec.json.encode(plain)).error_model is None


def test_a_run_puts_the_error_model_into_the_bundle_and_its_digest_into_the_manifest(sample: TrainedState) -> None:
    version = served_version(sample.home)
    manifest = read_manifest(sample.home / "models/registry" / version)[0]
    bundle = bundle_in(sample.home, version, ESTIMATOR, "reference.json")
    profile = decode_reference(bundle.extra["reference.json"]).error_model
    assert ESTIMATOR in manifest.files and profile is not None
    assert profile.rows == len(sample.prepared.train.rows) + len(sample.prepared.test.rows)
    assert profile.brier < profile.constant_brier
    model = KnownModels(sample.home / "models/registry").get(version)
    assert model is not None
    assert ErrorModel(bundle.extra[ESTIMATOR]).estimates(sample.prepared.matrix[:3], np.full((3, 2), 0.5)).shape == (3,)


def test_a_server_never_opens_the_error_model(sample: TrainedState, tmp_path: Path) -> None:
    version = served_version(sample.home)
    copy = tmp_path / version
    shutil.copytree(sample.home / "models/registry" / version, copy)
    (copy / ESTIMATOR).unlink()
    runtime = ModelRuntime(read_bundle(copy))
    runtime.check()
    assert runtime.schema == sample.schema
