"""What starts a retraining before its schedule, and that it is started once."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from config.settings import Settings, load_settings
from monitoring.incidents import Finding, Incidents
from monitoring.store import Store
from pipeline.retraining_watch import RetrainingWatch
from tests.states import state

__all__ = ["state"]
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOON = datetime(2036, 3, 4, 12, tzinfo=UTC)  # long after the run that made the state


def watch(store: Store, *triggers: str, **more: Any) -> RetrainingWatch:
    settings: Settings = load_settings()
    changed = {"triggers": triggers, "minimum_labelled_rows": 1, **more}
    retraining = msgspec.convert({**msgspec.to_builtins(settings.retraining), **changed}, type(settings.retraining))
    return RetrainingWatch(msgspec.structs.replace(settings, retraining=retraining), store)


def deliver(state: Path, moment: datetime, content: str = "a,target\n1,0\n") -> Path:
    path = state / "data/incoming/new.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    return path


def test_a_new_file_starts_one_when_it_has_settled(state: Path, store: Store) -> None:
    watching = watch(store, "new_data")
    assert not watching.is_due(NOON)
    deliver(state, NOON + MINUTE)
    assert not watching.is_due(NOON + MINUTE)  # it may still be being written
    assert watching.is_due(NOON + 2 * MINUTE)


def test_a_file_that_was_tried_is_tried_again_when_it_has_changed(state: Path, store: Store) -> None:
    watching = watch(store, "new_data")
    deliver(state, NOON - HOUR)
    assert watching.is_due(NOON)
    watching.begin(NOON)
    assert not watching.is_due(NOON + HOUR)
    deliver(state, NOON, "a,target\n1,1\n")
    assert watching.is_due(NOON + 2 * HOUR)


def test_files_start_none_unless_they_are_to(state: Path, store: Store) -> None:
    deliver(state, NOON - HOUR)
    assert not watch(store, "schedule", "drift", "degradation").is_due(NOON)


def test_it_looks_once_a_minute(state: Path, store: Store) -> None:
    watching = watch(store, "new_data")
    assert not watching.is_due(NOON)
    deliver(state, NOON - HOUR)
    assert not watching.is_due(NOON + MINUTE / 2)
    assert watching.is_due(NOON + MINUTE)


def test_a_clock_that_is_set_back_does_not_stop_it(state: Path, store: Store) -> None:
    watching = watch(store, "new_data")
    assert not watching.is_due(NOON)
    deliver(state, NOON - 30 * HOUR)
    assert watching.is_due(NOON - 24 * HOUR)


def test_a_worse_model_starts_one_and_then_there_is_a_rest(state: Path, store: Store) -> None:
    finding = Finding(
        kind="performance_drift", severity="high", cause="worse", next="python main.py retrain", model_version="1"
    )
    Incidents(store).report(finding, NOON)
    watching = watch(store, "degradation")
    assert not watching.is_due(NOON)  # no outcome to learn from
    watching = watch(store, "degradation", minimum_labelled_rows=0)
    assert watching.is_due(NOON)
    watching.begin(NOON)
    assert not watching.is_due(NOON + HOUR - MINUTE)
    assert watching.is_due(NOON + HOUR)
