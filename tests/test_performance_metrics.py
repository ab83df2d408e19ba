"""Performance from joined feedback in the store: figures by version and day, or 'not known'; drops, and noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn import metrics as reference
from sqlalchemy import insert

from config.settings import LabelSettings, LoggingSettings, ModelSelectionSettings, Settings
from monitoring.ids import IdSource
from monitoring.labelled_sample import SAMPLED_ROWS, read_sample
from monitoring.log_lines import id_bytes
from monitoring.performance import METRIC_NAMES, ModelPerformance
from monitoring.performance_metrics import PerformanceReport, check_performance, performance_by_version
from monitoring.prediction_log import PredictionLine
from monitoring.store import Store
from monitoring.tables import labelled_rows
from tests.bundles import promote
from tests.logged import NOON, WARNED, Host, prediction_lines, write_version

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AT_TRAINING: dict[str, float | None] = {"test_accuracy": 0.9, "test_f1": 0.9, "test_roc_auc": 0.95}


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    host = Host(tmp_path / "a", store)
    write_version(host.registry, metrics=AT_TRAINING)
    return host


def predict(host: Host, rows: int, seed: int = 1, moment: datetime = NOON, **fields: Any) -> list[PredictionLine]:
    lines = prediction_lines(rows, seed, moment, **fields)
    host.log(lines)
    return lines


def answer(host: Host, lines: Sequence[PredictionLine], right: int, delay: timedelta = HOUR / 2) -> None:
    """Outcomes of all lines, of which the first `right` were predicted right."""
    other = {"no": "yes", "yes": "no"}
    actual = [str(line.prediction) if at < right else other[str(line.prediction)] for at, line in enumerate(lines)]
    outcomes = zip((line.prediction_id for line in lines), actual, strict=True)
    host.feed_back(*outcomes, moment=lines[0].timestamp + delay)


def check(host: Host, settings: Settings | None = None, at: datetime = NOON + HOUR) -> PerformanceReport:
    host.now = max(host.now, at)
    host.ingestion.run_once()
    return check_performance(settings or host.settings, host.store, host.registry, host.home / "alerts", at)


def only(report: PerformanceReport) -> ModelPerformance:
    [model] = report.models
    return model


def over(host: Host, days: float, version: str | None = None) -> list[ModelPerformance]:
    host.ingestion.run_once()
    return performance_by_version(host.store, host.registry, NOON - timedelta(days=days), NOON + HOUR, version)


# Figures


def test_fault_27_on_an_empty_state_root_there_is_nothing_to_report(host: Host) -> None:
    report = check(host)
    assert (report.models, report.incidents) == ([], [])


def test_fault_25_without_outcomes_nothing_is_known_of_how_good_the_answers_are(host: Host) -> None:
    predict(host, 100)
    model = only(check(host))
    assert (model.predictions, model.labels, model.coverage, model.sampled_labels) == (100, 0, 0.0, 0)
    assert model.metrics == dict.fromkeys(METRIC_NAMES)
    assert model.intervals == dict.fromkeys(METRIC_NAMES)
    assert model.delay.mean_seconds is model.delay.median_seconds is model.delay.p95_seconds is None
    assert (model.trend.direction, model.confidence) == ("not_known", ())
    assert model.baseline["f1_score"] == 0.9


def test_fault_25_figures_are_those_of_the_log_and_the_outcomes(host: Host) -> None:
    slow = [msgspec.structs.replace(line, latency_ms=50.0) for line in prediction_lines(140, 2, warnings=WARNED)]
    host.log(slow)
    lines = predict(host, 60) + slow
    answer(host, lines[:120], right=90)
    model = only(check(host))
    assert (model.predictions, model.labels, model.coverage) == (200, 120, 0.6)
    assert (model.metrics["accuracy"], model.warned_share) == (0.75, 0.7)
    assert model.mean_latency_ms == pytest.approx(0.3 * 2.5 + 0.7 * 50)
    assert model.p95_latency_ms == pytest.approx(50, rel=0.1)
    assert model.mean_max_probability == pytest.approx(np.mean([line.max_probability for line in lines]), abs=1e-6)
    assert model == only(check(host))  # nothing is drawn at random


def test_every_metric_of_the_store_is_that_of_scikit_learn(host: Host) -> None:
    lines = predict(host, 300)
    answer(host, lines, right=240)
    model = only(check(host))
    other = {"no": "yes", "yes": "no"}
    actual = [line.prediction if at < 240 else other[str(line.prediction)] for at, line in enumerate(lines)]
    predicted, probability = [line.prediction for line in lines], [line.probability for line in lines]
    truth, scores = [label == "yes" for label in actual], [pair[1] for pair in probability]
    expected = {
        "accuracy": 0.8,
        "f1_score": reference.f1_score(actual, predicted, average="weighted"),
        "precision": reference.precision_score(actual, predicted, average="weighted"),
        "balanced_accuracy": reference.balanced_accuracy_score(actual, predicted),
        "roc_auc": reference.roc_auc_score(truth, scores),
        "pr_auc": reference.average_precision_score(truth, scores),
        "log_loss": reference.log_loss(truth, scores),
        "brier": reference.brier_score_loss(truth, scores),
    }
    assert {name: model.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    for name, interval in model.intervals.items():
        assert interval is not None
        assert interval[0] <= (model.metrics[name] or 0.0) <= interval[1]


def test_fault_28_figures_are_kept_by_model_version(host: Host) -> None:
    answer(host, predict(host, 60, 1, version="10"), right=0)
    answer(host, predict(host, 60, 2), right=60)
    first, second = over(host, 1)
    assert (first.model_version, first.metrics["accuracy"], first.baseline["accuracy"]) == ("1", 1.0, 0.9)
    assert (second.model_version, second.metrics["accuracy"], second.baseline["accuracy"]) == ("10", 0.0, None)
    assert second.metrics["log_loss"] is second.metrics["roc_auc"] is None  # its bundle is not here
    assert [model.model_version for model in over(host, 1, "10")] == ["10"]


def test_a_version_that_was_asked_for_and_predicted_nothing_is_told_so(host: Host) -> None:
    [model] = over(host, 1, "3")
    assert (model.predictions, model.labels, model.coverage, model.by_day) == (0, 0, None, ())


def test_days_are_those_of_the_predictions_and_days_without_labels_are_not_known(host: Host) -> None:
    answer(host, predict(host, 50, 1, NOON - 2 * DAY), right=40, delay=DAY)
    predict(host, 30, 2, NOON - DAY)
    answer(host, predict(host, 20, 3), right=20)
    [model] = over(host, 3)
    assert [(day.day, day.predictions, day.labels, day.metrics["accuracy"]) for day in model.by_day] == [
        (date(2026, 2, 27), 50, 50, 0.8), (date(2026, 2, 28), 30, 0, None), (date(2026, 3, 1), 20, 20, 1.0),
    ]  # fmt: skip
    assert model.by_day[0].metrics["roc_auc"] is not None
    assert (model.by_day[1].coverage, model.by_day[0].delay.median_seconds) == (0.0, 86_400)


def test_the_delay_of_labels_is_told(host: Host) -> None:
    answer(host, predict(host, 10), right=10, delay=timedelta(hours=2))
    answer(host, predict(host, 30, 2), right=30, delay=timedelta(hours=10))
    delay = only(check(host)).delay
    assert (delay.mean_seconds, delay.median_seconds, delay.p95_seconds) == (8 * 3600, 10 * 3600, 10 * 3600)


def test_a_corrected_label_counts_as_the_last_one_says(host: Host) -> None:
    lines = predict(host, 80)
    answer(host, lines, right=0)
    assert only(check(host)).metrics["accuracy"] == 0.0
    answer(host, lines, right=80, delay=HOUR)
    model = only(check(host))
    assert (model.labels, model.metrics["accuracy"], model.delay.mean_seconds) == (80, 1.0, 3600)


def test_a_label_of_no_known_class_is_wrong_and_told(host: Host) -> None:
    lines = predict(host, 100)
    answer(host, lines[:90], right=90)
    host.feed_back(*((line.prediction_id, "perhaps") for line in lines[90:]))
    model = only(check(host))
    assert (model.labels, model.unknown_labels, model.metrics["accuracy"]) == (100, 10, 0.9)
    assert model.metrics["balanced_accuracy"] == 1.0
    assert sum(one.rows for one in model.confidence) == 100


def test_one_class_alone_has_no_ranking(host: Host) -> None:
    lines = [line for line in predict(host, 120) if line.prediction == "yes"]
    answer(host, lines, right=len(lines))
    model = only(check(host))
    assert (model.metrics["roc_auc"], model.metrics["accuracy"]) == (None, 1.0)


def test_hashed_inputs_are_measured_like_others(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store, Settings(logging=LoggingSettings(fields={"income": "hash"})))
    write_version(host.registry)
    lines = [
        msgspec.structs.replace(line, input_data=line.input_data | {"income": "sha256:0a"})
        for line in prediction_lines(60)
    ]
    host.log(lines)
    answer(host, lines, right=45)
    model = only(check(host))
    assert (model.metrics["accuracy"], model.metrics["roc_auc"] is None) == (0.75, False)


def test_answers_are_counted_by_how_sure_they_were(host: Host) -> None:
    lines = predict(host, 400)
    answer(host, lines, right=400)
    bins = only(check(host)).confidence
    assert [one.low for one in bins] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    for one in bins:
        inside = [line.max_probability for line in lines if one.low <= line.max_probability < one.high]
        assert (one.rows, one.accuracy) == (len(inside), 1.0)
        assert one.mean_confidence == pytest.approx(np.mean(inside))


def test_the_report_is_plain_json(host: Host) -> None:
    answer(host, predict(host, 60), right=30)
    plain = json.loads(msgspec.json.encode(check(host)))["models"][0]
    assert (plain["metrics"]["accuracy"], plain["by_day"][0]["day"]) == (0.5, "2026-03-01")


# The sample


def test_of_many_labelled_rows_a_fair_sample_is_read_and_always_the_same(store: Store) -> None:
    total, milliseconds = 60_000, int(NOON.timestamp() * 1000)
    ids = IdSource(lambda: milliseconds, np.random.default_rng(7).bytes).take(total)
    row = {
        "source": 1, "model_version": "1", "experiment": "", "arm": "", "predicted": '"yes"', "predicted_at": NOON,
        "received_at": NOON, "outcomes": 1, "probability": "[0.25,0.75]",
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(
            insert(labelled_rows),
            [
                row | {"prediction_id": id_bytes(id_), "actual": '"yes"' if at % 4 else '"no"', "delay_seconds": at}
                for at, id_ in enumerate(ids)
            ],
        )
    sample = read_sample(store, "1", NOON, NOON + HOUR, total, ("no", "yes"))
    assert len(sample) == pytest.approx(SAMPLED_ROWS, rel=0.03)
    assert sample.right.mean() == pytest.approx(0.75, abs=0.015)
    assert sample.delay_seconds.mean() == pytest.approx(total / 2, rel=0.02)
    again = read_sample(store, "1", NOON, NOON + HOUR, total, ("no", "yes"))
    assert np.array_equal(again.delay_seconds, sample.delay_seconds)


# Drops


def test_a_drop_below_the_baseline_opens_an_incident_and_a_recovery_resolves_it(host: Host) -> None:
    lines = predict(host, 200)
    answer(host, lines, right=100)
    [incident] = check(host).incidents
    assert (incident.kind, incident.model_version, incident.severity) == ("performance_drift", "1", "critical")
    assert incident.cause.endswith("on 200 outcomes, 0.900 at training")
    assert incident.evidence["drops"].keys() == {"accuracy", "f1_score"}
    answer(host, lines, right=190, delay=HOUR)
    assert check(host).incidents == []


@pytest.mark.parametrize(("right", "severity"), [(820, "medium"), (790, "high"), (740, "critical")])
def test_the_larger_the_drop_the_worse_it_is(host: Host, right: int, severity: str) -> None:
    """Of 1000, where 900 were right at training and 50 fewer are allowed: 15 points are critical, 10 are high."""
    settings = Settings(model_selection=ModelSelectionSettings(metric="accuracy"))
    answer(host, predict(host, 1000), right=right)
    [incident] = check(host, settings).incidents
    assert incident.severity == severity


def test_a_drop_that_may_be_noise_opens_nothing(host: Host) -> None:
    """79 % against 90 % less 5 points: the interval of 100 outcomes reaches 86 %."""
    answer(host, predict(host, 100), right=79)
    assert check(host).incidents == []


def test_a_handful_of_outcomes_opens_nothing(host: Host) -> None:
    answer(host, predict(host, 49), right=0)
    assert check(host).incidents == []


def test_a_model_without_a_baseline_is_accused_of_nothing(host: Host) -> None:
    answer(host, predict(host, 100, version="4"), right=0)
    assert check(host).incidents == []


def test_a_version_that_is_not_in_service_opens_no_incident(host: Host) -> None:
    write_version(host.registry, "2", AT_TRAINING)
    promote(host.registry, "2", "0" * 64)
    answer(host, predict(host, 100), right=0)
    answer(host, predict(host, 100, 2, version="2"), right=0)
    report = check(host)
    assert [model.model_version for model in report.models] == ["1", "2"]
    assert [incident.model_version for incident in report.incidents] == ["2"]


def test_where_more_is_worse_only_the_accuracy_is_watched(host: Host) -> None:
    settings = Settings(model_selection=ModelSelectionSettings(metric="log_loss"))
    answer(host, predict(host, 200), right=100)
    [incident] = check(host, settings).incidents
    assert incident.evidence["drops"].keys() == {"accuracy"}


def test_labels_that_come_late_are_looked_back_for(host: Host) -> None:
    for day in range(1, 12):
        answer(host, predict(host, 100, day, NOON - day * DAY), right=50)
    predict(host, 100)
    model = only(check(host))
    assert (model.labels, model.since) == (500, NOON - 5 * DAY)
    assert check(host).incidents[0].kind == "performance_drift"


def test_it_looks_back_no_further_than_labels_are_waited_for(host: Host) -> None:
    settings = Settings(labels=LabelSettings(window_days=3))
    for day in range(8):
        answer(host, predict(host, 20, day, NOON - day * DAY), right=20)
    assert only(check(host, settings)).labels == 60
