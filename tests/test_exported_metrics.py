"""The figures of monitoring for Prometheus: those that status and report say, whatever the store does meanwhile."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from config.home import PROJECT_ROOT
from config.settings import Settings, load_settings
from monitoring import exported_metrics
from monitoring.confusion import ClassIndex, confusion_of
from monitoring.deliveries import Outbox
from monitoring.drift_checks import DriftChecks
from monitoring.exported_metrics import METRICS, ExportedMetrics
from monitoring.incidents import Finding, Incidents
from monitoring.job_records import JobRecord, JobRecords
from monitoring.metric_samples import Definition, metrics_text
from monitoring.outcome_records import counted_outcomes, labels_by_hour, right_answers
from monitoring.prediction_log import PredictionLog
from monitoring.promotion_history import PromotionHistory
from monitoring.quality_metrics import drift_samples
from monitoring.registry_contact import note_failure, note_success
from monitoring.run_records import RunRecords
from monitoring.store import Store, StoreError
from monitoring.tables import log_sources, outcome_counts
from monitoring.work_metrics import JobMetrics, age_samples
from tests.command_line import json_of
from tests.logged import NOON, prediction_lines
from tests.observed import exported, make_busy, names, parsed, refreshed, utc_now, value
from tests.states import state
from tests.trained import TrainedState, copy_of, in_force

__all__ = ["state"]
OF_FOLLOWING = {"mlops_mlflow_reachable", "mlops_sync_last_success_timestamp_seconds"}


@pytest.fixture(scope="module")
def busy_template(sample: TrainedState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = copy_of(sample, tmp_path_factory.mktemp("busy"))
    with in_force(home):
        make_busy(home, sample)
    return home


@pytest.fixture
def busy(busy_template: Path, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "busy"
    shutil.copytree(busy_template, home, ignore=shutil.ignore_patterns("mlartifacts"))
    with in_force(home):
        with Store(load_settings().store_address) as store, store.writing() as connection:
            connection.execute(update(log_sources).values(read_at=NOON))  # not just now: the original reads no more
        yield home


# What they say


def test_drift_is_what_the_last_check_found(busy: Path) -> None:
    found, drift = refreshed(exported()), json_of("report")["drift"]
    assert value(found, "mlops_drift_score_ratio", model_version="1", kind="data") == drift["drift_score"]
    assert value(found, "mlops_drift_detected", model_version="1", kind="data") == 1
    assert value(found, "mlops_drift_detected", model_version="1", kind="prediction") == 1
    assert value(found, "mlops_drifted_features", model_version="1") == len(drift["drifted_features"])
    assert value(found, "mlops_drift_rows", model_version="1") == 2000


def test_accuracy_and_coverage_are_those_of_the_report(busy: Path) -> None:
    found, (model,) = refreshed(exported()), json_of("report", "--days", "1")["models"]
    assert value(found, "mlops_window_predictions", model_version="1") == model["predictions"] == 2000
    assert value(found, "mlops_window_labels", model_version="1") == model["labels"] == 500
    assert value(found, "mlops_label_coverage_ratio", model_version="1") == 0.25
    assert value(found, "mlops_accuracy_ratio", model_version="1") == model["metrics"]["accuracy"]
    assert value(found, "mlops_trained_accuracy_ratio", model_version="1") == model["baseline"]["accuracy"]


def test_the_estimate_is_that_of_the_cycle(busy: Path) -> None:
    estimate = json_of("monitor")["estimate"]
    assert value(refreshed(exported()), "mlops_estimated_accuracy_ratio", model_version="1") == estimate["accuracy"]


def test_incidents_are_counted_by_kind_severity_and_status_with_zeros(busy: Path) -> None:
    found, incidents = refreshed(exported()), json_of("incidents", "list")
    counted = {labels: number for (name, labels), number in found.items() if name == "mlops_incidents_unresolved"}
    assert sum(counted.values()) == len(incidents) > 0
    assert len(counted) == 7 * 4 * 2
    (one, *_) = (incident for incident in incidents if incident["kind"] == "data_drift")
    labels = {"kind": "data_drift", "severity": one["severity"]}
    assert value(found, "mlops_incidents_unresolved", **labels, status="open") == 1
    json_of("incidents", "acknowledge", str(one["id"]))
    found = refreshed(exported())
    assert value(found, "mlops_incidents_unresolved", **labels, status="open") == 0
    assert value(found, "mlops_incidents_unresolved", **labels, status="acknowledged") == 1


def test_jobs_and_runs_are_shown_by_how_they_ended(busy: Path) -> None:
    found = refreshed(exported())
    assert value(found, "mlops_job_status", job_name="performance", status="failed") == 1
    assert value(found, "mlops_job_status", job_name="performance", status="succeeded") == 0
    assert value(found, "mlops_job_duration_seconds", job_name="drift") == pytest.approx(40)
    success = value(found, "mlops_job_last_success_timestamp_seconds", job_name="drift")
    assert success == pytest.approx(time.time() - 60, abs=300)
    assert value(found, "mlops_job_last_success_timestamp_seconds", job_name="performance") is None
    assert value(found, "mlops_runs_total", status="succeeded") == 1
    assert value(found, "mlops_runs_total", status="failed") == 1


def test_the_model_in_service_with_its_age_and_what_is_too_old(busy: Path) -> None:
    found, status = refreshed(exported()), json_of("status")
    plan = status["in_service"]
    labels = {"model": "production_model", "model_version": "1", "plan_digest": plan["plan_digest"][:12]}
    assert value(found, "mlops_plan_info", **labels) == 1
    assert value(found, "mlops_plan_generation") == plan["generation"]
    since = value(found, "mlops_model_in_service_timestamp_seconds", model_version="1")
    assert since is not None and 0 < time.time() - since < 3600
    assert value(found, "mlops_model_stale_after_seconds", model_version="1") == 30 * 86400


def test_the_lag_is_told_by_log_and_grows_while_the_store_is_away(busy: Path) -> None:
    metrics = exported()
    found = refreshed(metrics)
    assert value(found, "mlops_log_unread_bytes", log="predictions") == 0
    assert value(found, "mlops_log_lines_read_total", log="predictions") == 2000
    assert value(found, "mlops_log_lines_read_total", log="feedback") == 500
    log = PredictionLog(busy / "logs")
    log.append(prediction_lines(5, moment=utc_now() - timedelta(hours=1)))
    log.close()
    found = parsed(metrics.text())  # nobody asked the store
    assert (value(found, "mlops_log_unread_bytes", log="predictions") or 0) > 1000
    assert value(found, "mlops_log_unread_seconds", log="predictions") == pytest.approx(3600, abs=60)
    assert value(found, "mlops_log_unread_seconds", log="feedback") == 0


def test_lines_set_aside_are_counted(busy: Path) -> None:
    with next((busy / "logs").glob("predictions_*.jsonl")).open("ab") as stream:
        stream.write(b"\nno line at all\n")
    json_of("monitor")
    assert value(refreshed(exported()), "mlops_log_lines_set_aside_total", log="predictions") == 1


def test_a_host_without_a_scheduler_shows_its_own_figures_alone(busy: Path) -> None:
    note_success(NOON)
    metrics = exported(of_scheduler=False)
    shown = names(refreshed(metrics)) - {name for name in names(parsed(metrics.text())) if name.startswith("process_")}
    of_host = {metric.name for metric in METRICS if metric.place == "host"}
    assert shown == of_host


def test_what_is_not_known_is_not_shown(state: Path) -> None:
    found = names(refreshed(exported()))
    assert "mlops_plan_generation" in found
    assert not found & {"mlops_accuracy_ratio", "mlops_drift_score_ratio", "mlops_estimated_accuracy_ratio"}


def test_an_empty_state_root_has_figures(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with in_force(tmp_path / "root"):
        found = refreshed(exported())
    assert value(found, "mlops_store_reachable") == 1
    assert "mlops_plan_info" not in names(found)


def test_an_unreadable_plan_takes_no_other_figure_away(state: Path) -> None:
    (state / "models/registry/serving.json").write_text("{")
    found = refreshed(exported())
    assert value(found, "mlops_store_reachable") == 1
    assert "mlops_plan_generation" not in names(found)


def test_a_subject_that_fails_is_left_out_and_the_others_are_shown(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = exported()
    monkeypatch.setattr(exported_metrics, "disk_samples", _raising)
    for _ in range(3):
        found = parsed(metrics.text())
    assert "mlops_plan_generation" in names(found) and "mlops_disk_free_bytes" not in names(found)
    assert [record.message for record in caplog.records].count("the metrics of the disk are not shown: gone") == 1


def _raising(_home: Path) -> Iterator[Any]:
    raise OSError("gone")
    yield


# A store that is away


def test_a_store_that_fails_leaves_the_last_figures_and_says_how_old_they_are(busy: Path) -> None:
    now = [100.0]
    metrics = exported()
    metrics._seconds = lambda: now[0]
    before = refreshed(metrics)
    now[0] += 50
    (busy / "mlops.db").write_bytes(b"no database" * 500)
    with pytest.raises(StoreError):
        metrics.refresh(Store(load_settings().store_address))
    found = parsed(metrics.text())
    assert value(found, "mlops_store_reachable") == 0
    assert value(found, "mlops_figures_age_seconds") == 50
    kept = {"mlops_accuracy_ratio", "mlops_incidents_unresolved", "mlops_log_lines_read_total"}
    assert {key: number for key, number in found.items() if key[0] in kept} == {
        key: number for key, number in before.items() if key[0] in kept
    }


def test_a_store_that_never_answers_is_called_unreachable_and_holds_up_no_scrape(state: Path) -> None:
    metrics, now, go_on = exported(), [0.0], threading.Event()
    metrics._seconds = lambda: now[0]
    refreshed(metrics)
    hanging = Store(load_settings().store_address)
    hanging.open = go_on.wait  # type: ignore[assignment, method-assign]
    asking = threading.Thread(target=_ignoring_errors, args=(metrics.refresh, hanging), daemon=True)
    asking.start()
    while metrics._asked_at is None:
        time.sleep(0.01)
    assert value(parsed(metrics.text()), "mlops_store_reachable") == 1
    now[0] += 60
    found = parsed(metrics.text())
    assert value(found, "mlops_store_reachable") == 0
    assert value(found, "mlops_figures_age_seconds") == 60
    go_on.set()
    asking.join(20)


def _ignoring_errors(action: Any, *arguments: Any) -> None:
    with suppress(Exception):
        action(*arguments)


def test_nobody_knows_the_lag_before_the_store_was_asked(busy: Path) -> None:
    found = names(parsed(exported().text()))
    assert "mlops_log_last_written_timestamp_seconds" in found
    assert not found & {"mlops_log_unread_seconds", "mlops_store_reachable", "mlops_incidents_unresolved"}


# Parts


def test_a_job_at_work_keeps_what_was_known_of_its_last_success() -> None:
    jobs, hour = JobMetrics(["drift"]), timedelta(hours=1)
    ended = record(last_started_at=NOON, last_finished_at=NOON + hour, last_status="succeeded")
    for one in (ended, record(last_started_at=NOON + 2 * hour, last_finished_at=NOON + hour, last_status="running")):
        jobs._remember(one)
        found = parsed(metrics_text(jobs._samples_of(one)))
        success = value(found, "mlops_job_last_success_timestamp_seconds", job_name="drift")
        assert success == (NOON + hour).timestamp()
        assert value(found, "mlops_job_duration_seconds", job_name="drift") == 3600
        assert value(found, "mlops_job_status", job_name="drift", status=one.last_status or "") == 1


def record(**values: Any) -> JobRecord:
    return JobRecord(name="drift", next_due_at=None, **values)


def test_a_process_that_has_just_started_says_how_following_went_before_it(state: Path) -> None:
    """So that a host that is not followed is told of, also when its process was started anew meanwhile."""
    assert not names(refreshed(exported())) & OF_FOLLOWING
    note_success(NOON)
    for reachable in (True, False):
        note_failure("its bundle is refused", reachable=reachable)
        found = refreshed(exported())
        assert value(found, "mlops_mlflow_reachable") == reachable
        assert value(found, "mlops_sync_last_success_timestamp_seconds") == NOON.timestamp()


@pytest.mark.parametrize("label", ['say "hi"', "back\\slash", "new\nline", "Köln", ""])
def test_any_label_is_read_as_it_was_written(label: str) -> None:
    metric = Definition("mlops_x_total", "counter", "host", "For the test.", ("name",))
    assert parsed(metrics_text(metric.of(3, label))) == {("mlops_x_total", frozenset({("name", label)})): 3.0}


def test_a_moment_is_in_seconds_and_what_is_not_known_is_no_sample() -> None:
    metric = Definition("mlops_x_timestamp_seconds", "gauge", "host", "For the test.")
    (sample,) = metric.of(datetime(1970, 1, 2, tzinfo=UTC))
    assert sample.value == 86400
    assert list(metric.of(None)) == []


def test_units_are_in_the_names_and_counters_end_in_total() -> None:
    for metric in METRICS:
        assert metric.name.startswith("mlops_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        if "how long" in metric.help.lower() or "when " in metric.help.lower()[:5]:
            assert metric.name.endswith("_seconds"), metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_deliveries_are_counted_by_what_became_of_them(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "counts", lambda _self: {"waiting": 4, "sent": 9, "failed": 2})
    found = refreshed(exported())
    assert value(found, "mlops_deliveries_failed_total") == 2
    assert value(found, "mlops_deliveries_sent_total") == 9
    assert value(found, "mlops_deliveries_waiting") == 4


def test_an_incident_that_is_resolved_is_counted_no_more(state: Path) -> None:
    with Store(load_settings().store_address) as store:
        finding = Finding(kind="pipeline", severity="high", cause="c", next="n")
        incident = Incidents(store).report(finding, utc_now())
        metrics, labels = exported(), {"kind": "pipeline", "severity": "high", "status": "open"}
        assert value(refreshed(metrics), "mlops_incidents_unresolved", **labels) == 1
        Incidents(store).resolve(incident.id, utc_now())
        assert value(refreshed(metrics), "mlops_incidents_unresolved", **labels) == 0


def test_both_databases_are_asked_alike(store: Store) -> None:
    """SQLite and PostgreSQL."""
    JobRecords(store).started("drift", NOON)
    JobRecords(store).finished("drift", "succeeded", NOON + timedelta(seconds=9), NOON + timedelta(hours=6))
    RunRecords(store).start("r", "manual", NOON, pid=1, host="h")
    RunRecords(store).finish("r", "refused", NOON)
    Incidents(store).report(Finding(kind="serving", severity="low", cause="c", next="n"), NOON)
    history = PromotionHistory(store)
    history.mark_done(history.intend(None, "3", "first", NOON, who="w", why="y").id, NOON)
    DriftChecks(store).add("3", NOON, 40, {"status": "not_enough_data", "drifted_features": []})
    metrics = ExportedMetrics(Settings(), lambda: NOON, ("drift",))
    found = parsed(metrics_text([*metrics._store_samples(store), *age_samples(store, Settings(), "3")]))
    found |= parsed(metrics_text(drift_samples(store, "3")))
    assert value(found, "mlops_job_duration_seconds", job_name="drift") == 9
    assert value(found, "mlops_runs_total", status="refused") == 1
    assert value(found, "mlops_incidents_unresolved", kind="serving", severity="low", status="open") == 1
    assert value(found, "mlops_model_in_service_timestamp_seconds", model_version="3") == NOON.timestamp()
    assert value(found, "mlops_drift_rows", model_version="3") == 40
    assert "mlops_drifted_features" not in names(found)


def test_the_database_adds_labels_up_as_the_report_does(store: Store) -> None:
    cells = [("yes", "yes", 7, 0), ("yes", "no", 2, 0), ("no", "unheard of", 1, 3), ("no", "no", 5, 3)]
    counted = dict.fromkeys(("delay_seconds", "scored_rows", "log_loss_millionths", "brier_millionths"), 0)
    with store.writing() as connection:
        for predicted, actual, rows, hours in cells:
            key = {"source": hours, "hour": NOON - timedelta(hours=hours), "model_version": "3", "experiment": ""}
            labels = {"arm": "", "predicted": f'"{predicted}"', "actual": f'"{actual}"'}
            connection.execute(insert(outcome_counts).values(**key, **labels, rows=rows, **counted))
    window = (NOON - timedelta(hours=4), NOON + timedelta(hours=1))
    counts = counted_outcomes(store, *window, "3")
    confusion = confusion_of(counts, ClassIndex(("no", "yes"), ()))
    assert right_answers(store, *window, "3") == (confusion.rows, confusion.right) == (15, 12)
    assert right_answers(store, *window, "none") == (0, 0)
    assert labels_by_hour(store, *window) == {"3": {NOON: 9, NOON - timedelta(hours=3): 6}}


# The document


def test_the_document_lists_each_metric_with_its_labels_where_it_is_shown() -> None:
    text = (PROJECT_ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mlops_\w+)` \| ([^|]*) \| (host|scheduler) \| ([^|]+) \|$", text, re.MULTILINE)
    documented = {name: (labels, place, said) for name, labels, place, said in rows}
    assert documented == {
        metric.name: (", ".join(f"`{label}`" for label in metric.labels), metric.place, metric.help)
        for metric in METRICS
    }


def test_the_documented_metrics_are_those_that_are_shown(busy: Path) -> None:
    note_success(NOON)
    shown = {name for name in names(refreshed(exported())) if name.startswith("mlops_")}
    assert shown == {metric.name for metric in METRICS}
