"""A monitoring cycle over what the server logged: quiet and drifted traffic, and the life of an incident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from config.settings import load_settings
from monitoring.cycle import CycleOutcome, run_cycle
from monitoring.store import Store
from pipeline.log_jobs import ingestion_of
from pipeline.orchestrator import run_now
from tests.traffic import drifted_rows, new_rows, serve
from tests.trained import TrainedState, configure, copy_of, in_force

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def home(sample: TrainedState, store_url: str, tmp_path: Path) -> Iterator[Path]:
    """The sample's model in service, and no traffic yet."""
    home = copy_of(sample, tmp_path)
    with in_force(home) as patch:
        patch.setenv("MLOPS_STORE__URL", store_url)
        yield home


def cycle(at: datetime) -> CycleOutcome:
    settings = load_settings()
    with Store(settings.store_address) as store:
        return run_cycle(settings, store, at, ingestion_of(settings, store, lambda: at).run_once())


def test_without_a_model_a_cycle_says_what_to_do(tmp_path: Path) -> None:
    with in_force(tmp_path):
        outcome = cycle(NOON)
    assert (outcome.model_version, outcome.drift, outcome.rows) == (None, None, 0)
    assert outcome.note == "nothing is in service yet; next: python main.py run"


def test_without_traffic_there_is_not_enough_data(home: Path) -> None:
    outcome = cycle(NOON)
    assert outcome.drift is not None
    assert (outcome.drift.status, outcome.rows, outcome.incidents) == ("not_enough_data", 0, [])


def test_quiet_traffic_opens_nothing(home: Path, sample: TrainedState) -> None:
    serve(home, sample, new_rows(sample), NOON - SECOND)
    outcome = cycle(NOON)
    assert (outcome.model_version, outcome.rows, outcome.fragments) == ("1", 2000, 0)
    assert outcome.ingestion is not None
    assert (outcome.ingestion.rows, outcome.unprofiled_rows, outcome.remarks) == (2000, 0, [])
    assert outcome.drift is not None and not outcome.drift.overall_drift
    assert outcome.incidents == []
    assert not list((home / "alerts").glob("*"))


def test_a_log_says_the_same_as_the_file_that_was_sent(home: Path, sample: TrainedState) -> None:
    """Requests and files meet the reference in the same form."""
    from pipeline.drift_check import drift_of_file

    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    logged = cycle(NOON).drift
    given = drift_of_file(str(sample.home / "data/samples/drifted_data.csv"))
    assert logged is not None
    assert logged.feature_scores == given.feature_scores


def test_drifted_traffic_opens_one_incident_of_each_kind_with_the_features(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    incidents = {incident.kind: incident for incident in cycle(NOON).incidents}
    assert set(incidents) == {"data_drift", "prediction_drift"}
    data = incidents["data_drift"]
    assert set(data.features) == {"monthly_charge", "support_calls", "region"}
    assert (data.status, data.model_version, data.opened_at, data.count) == ("open", "1", NOON, 1)
    assert data.next.startswith("python main.py retrain")


def test_a_second_cycle_counts_what_it_sees_again(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    first, second = cycle(NOON), cycle(NOON + timedelta(hours=6))
    assert [incident.id for incident in first.incidents] == [incident.id for incident in second.incidents]
    assert {incident.count for incident in second.incidents} == {2}
    assert len(list((home / "alerts").glob("*.json"))) == 2


def test_an_incident_is_resolved_when_traffic_is_quiet_again(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    cycle(NOON)
    serve(home, sample, new_rows(sample), NOON + timedelta(hours=30))
    assert cycle(NOON + timedelta(hours=31)).incidents == []
    contents = [json.loads(path.read_text()) for path in (home / "alerts").glob("*.json")]
    assert {content["status"] for content in contents} == {"resolved"}


def test_a_night_without_traffic_resolves_nothing(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    cycle(NOON)
    assert len(cycle(NOON + timedelta(hours=48)).incidents) == 2


def test_fault_26_an_alert_is_one_whole_json_document(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    outcome = cycle(NOON)
    contents = [json.loads(path.read_text()) for path in (home / "alerts").glob("*.json")]
    assert {content["kind"] for content in contents} == {incident.kind for incident in outcome.incidents}
    assert json.loads(msgspec.json.encode(outcome))["incidents"][0].keys() >= {
        "id", "kind", "severity", "status", "model_version", "opened_at", "cause", "features", "next"
    }  # fmt: skip


def test_only_rows_of_the_window_and_of_the_champion_count(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - timedelta(days=15))
    serve(home, sample, drifted_rows(sample), NOON + SECOND)
    assert cycle(NOON).rows == 0


def test_where_a_day_holds_too_few_rows_a_cycle_looks_further_back(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - timedelta(days=3))
    serve(home, sample, new_rows(sample).head(100), NOON - SECOND)
    outcome = cycle(NOON)
    assert (outcome.rows, outcome.window_from) == (2100, NOON - timedelta(days=3))


def test_the_remains_of_a_torn_write_are_set_aside_and_counted(home: Path, sample: TrainedState) -> None:
    serve(home, sample, new_rows(sample), NOON - SECOND)
    [path] = (home / "logs").glob("predictions_*.jsonl")
    with path.open("ab") as stream:
        stream.write(b'\n{"prediction_id": "01\n')
    outcome = cycle(NOON)
    assert (outcome.rows, outcome.fragments) == (2000, 1)


def test_incidents_of_a_version_go_with_it(home: Path, sample: TrainedState) -> None:
    serve(home, sample, drifted_rows(sample), NOON - SECOND)
    cycle(NOON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PROMOTION__STALE_AFTER_DAYS", "1e-9")
        patch.setenv("MLOPS_PROMOTION__STALE_MARGIN", "1")
        assert run_now(None, None).promoted
    outcome = cycle(NOON + timedelta(hours=1))
    assert (outcome.model_version, outcome.rows, outcome.incidents) == ("2", 0, [])


def test_the_longer_of_a_day_and_the_frequency_is_looked_at(home: Path, sample: TrainedState) -> None:
    configure(home, {"monitoring": {"drift_detection_frequency": 48}})
    serve(home, sample, new_rows(sample), NOON - timedelta(hours=30))
    outcome = cycle(NOON)
    assert (outcome.rows, outcome.window_from) == (2000, NOON - timedelta(hours=48))
