"""Performance from the prediction log and outcomes: figures by model version, or 'not known'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from monitoring.performance_metrics import ModelPerformance, PerformanceReport, check_performance, wilson_interval
from monitoring.prediction_log import LoggedWarning, PredictionLine, PredictionLog
from monitoring.store import Store
from tests.bundles import sample_bundle

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{home / 'mlops.db'}") as store:
        yield store


def predict(home: Path, count: int, version: str = "1", at: datetime = NOON, **changes: Any) -> list[str]:
    """Logs answers; returns their ids."""
    ids = [f"{version}-{at.isoformat()}-{number}" for number in range(count)]
    lines = [
        PredictionLine(
            prediction_id=name, timestamp=at, request_id="r", model_version=version, input_data={}, prediction="yes",
            probability=[0.2, 0.8], max_probability=0.8, **({"latency_ms": float(number)} | changes),
        )
        for number, name in enumerate(ids, start=1)
    ]  # fmt: skip
    log = PredictionLog(home / "logs")
    log.append(lines)
    log.close()
    return ids


def report_outcomes(home: Path, ids: list[str], actual: Any = "yes") -> None:
    with (home / "logs/feedback_20260304.jsonl").open("a") as stream:
        stream.writelines(json.dumps({"prediction_id": name, "actual": actual}) + "\n" for name in ids)


def serve_baseline(home: Path, version: str = "1") -> None:
    """A bundle whose accuracy at training was 0.5 (`tests.bundles`)."""
    sample_bundle(home / "models/registry" / version)


def check(store: Store, at: datetime = NOON + timedelta(hours=1)) -> PerformanceReport:
    return check_performance(Settings(), store, at)


def only(report: PerformanceReport) -> ModelPerformance:
    [model] = report.models
    return model


def test_fault_27_on_an_empty_state_root_there_is_nothing_to_report(store: Store) -> None:
    report = check(store)
    assert (report.models, report.incidents) == ([], [])


def test_fault_25_without_outcomes_accuracy_is_not_known(home: Path, store: Store) -> None:
    predict(home, 100)
    model = only(check(store))
    assert (model.predictions, model.labels, model.coverage) == (100, 0, 0.0)
    assert model.accuracy is None
    assert model.accuracy_interval is None
    assert model.baseline_accuracy is None


def test_fault_25_figures_are_those_of_the_log_and_the_outcomes(home: Path, store: Store) -> None:
    ids = predict(home, 100)
    report_outcomes(home, ids[:30])
    report_outcomes(home, ids[30:40], "no")
    model = only(check(store))
    assert (model.labels, model.coverage, model.accuracy) == (40, 0.4, 0.75)
    assert (model.mean_latency_ms, model.p95_latency_ms) == (50.5, 95.0)
    assert model.mean_max_probability == pytest.approx(0.8)
    assert model == only(check(store))  # nothing is drawn at random


def test_fault_28_figures_are_kept_by_model_version(home: Path, store: Store) -> None:
    serve_baseline(home, "2")
    report_outcomes(home, predict(home, 60, "10"), "no")
    report_outcomes(home, predict(home, 60, "2"))
    first, second = check(store).models
    assert (first.model_version, first.accuracy, first.baseline_accuracy) == ("2", 1.0, 0.5)
    assert (second.model_version, second.accuracy, second.baseline_accuracy) == ("10", 0.0, None)


def test_a_drop_below_the_baseline_opens_an_incident_and_a_recovery_resolves_it(home: Path, store: Store) -> None:
    serve_baseline(home)
    ids = predict(home, 200)
    report_outcomes(home, ids, "no")
    [incident] = check(store).incidents
    assert (incident.kind, incident.model_version, incident.severity) == ("performance_drift", "1", "high")
    assert incident.cause == "accuracy is 0.000 on 200 outcomes, 0.500 at training"
    report_outcomes(home, ids)
    assert check(store).incidents == []


def test_a_drop_that_may_be_noise_opens_nothing(home: Path, store: Store) -> None:
    """44 % against 50 % less 5 points: the interval of 100 outcomes reaches 54 %."""
    serve_baseline(home)
    ids = predict(home, 100)
    report_outcomes(home, ids[:44])
    report_outcomes(home, ids[44:], "no")
    assert check(store).incidents == []


def test_a_handful_of_outcomes_opens_nothing(home: Path, store: Store) -> None:
    serve_baseline(home)
    report_outcomes(home, predict(home, 49), "no")
    assert check(store).incidents == []


def test_of_two_outcomes_of_one_prediction_the_last_counts(home: Path, store: Store) -> None:
    ids = predict(home, 10)
    report_outcomes(home, ids, "no")
    report_outcomes(home, ids, "yes")
    assert only(check(store)).accuracy == 1.0


def test_outcomes_of_nothing_and_torn_lines_are_passed_over(home: Path, store: Store) -> None:
    ids = predict(home, 10)
    report_outcomes(home, ["somebody else's"])
    with (home / "logs/feedback_20260304.jsonl").open("a") as stream:
        stream.write(
            '\n{"prediction_id": "x\n{"value": 3}\n' + json.dumps({"prediction_id": ids[0], "value": 3.5}) + "\n"
        )
    report_outcomes(home, ids[:5])
    assert (only(check(store)).labels, only(check(store)).accuracy) == (5, 1.0)


def test_predictions_before_the_window_do_not_count(home: Path, store: Store) -> None:
    predict(home, 10, at=NOON - timedelta(hours=30))
    predict(home, 5)
    assert only(check(store)).predictions == 5


def test_the_share_of_warned_rows_is_told(home: Path, store: Store) -> None:
    predict(home, 3, warnings=[LoggedWarning("age", "missing")])
    predict(home, 9, at=NOON + timedelta(minutes=1))
    assert only(check(store)).warned_share == 0.25


def test_the_report_is_plain_json(home: Path, store: Store) -> None:
    report_outcomes(home, predict(home, 60), "no")
    assert json.loads(msgspec.json.encode(check(store)))["models"][0]["accuracy"] == 0.0


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_interval_of_a_share_holds_it_and_stays_between_zero_and_one(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0


def test_the_interval_is_wilsons() -> None:
    """Against scipy's own (`binomtest(...).proportion_ci(method="wilson")`)."""
    from scipy.stats import binomtest

    for successes, trials in ((0, 10), (3, 17), (50, 100), (999, 1000), (7, 7)):
        expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high))
