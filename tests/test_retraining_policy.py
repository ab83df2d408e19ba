"""When a model is trained anew of itself: what speaks for it, and what must be there before it happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from config.settings import Settings
from monitoring.incidents import Finding, IncidentKind, Incidents
from monitoring.run_records import RunRecords
from monitoring.store import Store
from monitoring.tables import labelled_rows
from pipeline.retraining_policy import RetrainingPolicy

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def policy(store: Store, **changed: Any) -> RetrainingPolicy:
    settings = Settings()
    retraining = msgspec.structs.replace(settings.retraining, **{"minimum_labelled_rows": 3, **changed})
    return RetrainingPolicy(msgspec.structs.replace(settings, retraining=retraining), store)


def trained(store: Store, at: datetime, status: Any = "succeeded") -> None:
    records = RunRecords(store)
    records.start(f"run-{at:%d%H%M}", "manual", at, pid=1, host="h")
    records.finish(f"run-{at:%d%H%M}", status, at)


def incident(store: Store, kind: IncidentKind = "performance_drift", loss: float | None = 0.08, **more: Any) -> int:
    finding = {"severity": "high", "cause": f"{kind} it is", "next": "python main.py retrain", "model_version": "1"}
    return Incidents(store).report(Finding(kind=kind, evidence={"loss": loss}, **{**finding, **more}), NOON).id


def labels(store: Store, count: int, received: datetime = NOON, **changed: Any) -> None:
    row = {
        "source": 1, "model_version": "1", "experiment": "", "arm": "", "predicted": '"no"', "actual": '"yes"',
        "input_data": "{}", "predicted_at": received, "received_at": received, "outcomes": 1, "delay_seconds": 0,
    }  # fmt: skip
    with store.writing() as connection:
        for number in range(count):
            prediction_id = f"{received:%d%H%M}{number:010}{'x' if changed else ''}".encode().ljust(16)[:16]
            connection.execute(insert(labelled_rows).values(**row | changed, prediction_id=prediction_id))


@pytest.fixture
def ready(store: Store) -> Store:
    """A champion a week old, and outcomes since then."""
    trained(store, NOON - 7 * DAY)
    labels(store, 3)
    return store


def test_a_model_that_has_grown_worse_is_trained_anew(ready: Store) -> None:
    found = policy(ready).reason("1", NOON) if incident(ready) else None
    assert found is not None
    assert (found.trigger, found.why) == ("degradation", "performance_drift it is")


@pytest.mark.parametrize(
    ("kind", "trigger"),
    [("data_drift", "drift"), ("prediction_drift", "drift"), ("concept_drift", "degradation"), ("serving", None)],
)
def test_what_each_kind_of_incident_starts(ready: Store, kind: IncidentKind, trigger: str | None) -> None:
    number = incident(ready, kind)
    found = policy(ready).reason("1", NOON)
    assert (found and (found.trigger, found.incidents)) == (trigger and (trigger, (number,)))


def test_without_an_incident_nothing_starts(ready: Store) -> None:
    assert policy(ready).reason("1", NOON) is None
    assert policy(ready).reason(None, NOON) is None


def test_what_is_said_of_another_version_starts_nothing(ready: Store) -> None:
    incident(ready, model_version="2")
    assert policy(ready).reason("1", NOON) is None


def test_a_switched_off_trigger_starts_nothing(ready: Store) -> None:
    incident(ready)
    assert policy(ready, triggers=("schedule", "drift")).reason("1", NOON) is None


@pytest.mark.parametrize(("loss", "starts"), [(0.004, False), (0.005, True), (None, True)])
def test_a_loss_that_is_known_to_be_small_is_not_worth_it(ready: Store, loss: float | None, starts: bool) -> None:
    incident(ready, "data_drift", loss)
    assert (policy(ready).reason("1", NOON) is not None) is starts


def test_without_enough_outcomes_since_the_last_run_there_is_nothing_to_learn(store: Store) -> None:
    labels(store, 50, NOON - 8 * DAY)  # the last run had those
    trained(store, NOON - 7 * DAY)
    labels(store, 2)
    incident(store)
    assert (policy(store).new_labels(), policy(store).reason("1", NOON)) == (2, None)
    assert policy(store).cause("1") is not None


def test_outcomes_without_their_row_or_class_do_not_count(ready: Store) -> None:
    labels(ready, 3, NOON + DAY, input_data=None)
    labels(ready, 3, NOON + 2 * DAY, actual=None)
    assert policy(ready).new_labels() == 3
    assert policy(ready, use_feedback=False).new_labels() == 0


def test_a_run_that_a_clock_a_little_ahead_has_dated_is_rested_from(store: Store) -> None:
    trained(store, NOON + timedelta(minutes=1))
    labels(store, 3, received=NOON + timedelta(minutes=2))
    incident(store)
    assert policy(store).reason("1", NOON) is None
    assert policy(store).reason("1", NOON + 2 * DAY) is not None


@pytest.mark.parametrize("status", ["succeeded", "failed", "refused", "interrupted"])
def test_after_any_run_there_is_a_rest(ready: Store, status: str) -> None:
    incident(ready)
    trained(ready, NOON - timedelta(hours=2), status)
    labels(ready, 3, NOON - timedelta(hours=1))
    assert policy(ready).reason("1", NOON) is None
    assert policy(ready).reason("1", NOON + DAY) is not None
    assert policy(ready, cool_down_hours=1.0).reason("1", NOON) is not None
