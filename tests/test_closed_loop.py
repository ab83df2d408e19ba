"""The closed loop: answers, their outcomes, and the model that is trained on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from config.settings import load_settings
from monitoring.incidents import Finding, Incidents
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store
from pipeline.retraining import RetrainingOutcome, retrain_now
from tests.traffic import new_rows, send_outcomes, serve
from tests.trained import TrainedState, bundle_in, copy_of, in_force


def answered(home: Path, state: TrainedState, table: pd.DataFrame, *, flipped: bool = False) -> None:
    """The rows were answered a second ago, and their outcomes come back now."""
    now = datetime.now(UTC)
    ids = serve(home, state, table, now - timedelta(seconds=1))
    actual = table[state.target].tolist()
    send_outcomes(home, ids, [1 - label for label in actual] if flipped else actual, now)


def retrained(home: Path) -> tuple[RetrainingOutcome, RunRecord | None]:
    with in_force(home), Store(load_settings().store_address) as store:
        outcome = retrain_now()
        return outcome, RunRecords(store).get(outcome.run.run_id) if outcome.run else None


def state_of(sample: TrainedState, folder: Path, **retraining: Any) -> Path:
    return copy_of(sample, folder, retraining={"minimum_labelled_rows": 400, **retraining})


def test_outcomes_join_the_table_and_a_model_is_trained_on_both(sample: TrainedState, tmp_path: Path) -> None:
    home = state_of(sample, tmp_path)
    answered(home, sample, new_rows(sample).head(500))
    outcome, run = retrained(home)
    assert (outcome.status, outcome.trigger, outcome.labelled_rows) == ("succeeded", "schedule", 500)
    assert outcome.why == "500 outcomes have come back since the last run"
    assert run is not None and run.rows == len(sample.table) + 500
    assert retrained(home)[0].status == "nothing_new"


def test_too_few_outcomes_start_nothing_and_it_says_how_many_are_missing(sample: TrainedState, tmp_path: Path) -> None:
    home = state_of(sample, tmp_path)
    answered(home, sample, new_rows(sample).head(399))
    outcome, _ = retrained(home)
    assert outcome.status == "nothing_new"
    assert "399 came back since the last run, and 400 make" in outcome.why


@pytest.mark.parametrize(("policy", "rows"), [("window", 450), ("replace", 500)])
def test_the_policy_decides_what_of_the_old_rows_stays(
    sample: TrainedState, tmp_path: Path, policy: str, rows: int
) -> None:
    home = state_of(sample, tmp_path, policy=policy, window_rows=450)
    answered(home, sample, new_rows(sample).head(500))
    _, run = retrained(home)
    assert run is not None and run.rows == rows


def test_a_retraining_after_a_degradation_says_so(sample: TrainedState, tmp_path: Path) -> None:
    home = state_of(sample, tmp_path)
    answered(home, sample, new_rows(sample), flipped=True)
    with in_force(home), Store(load_settings().store_address) as store:
        finding = Finding(
            kind="performance_drift", severity="high", cause="accuracy fell", next="x", model_version="1",
            evidence={"loss": 0.4},
        )  # fmt: skip
        Incidents(store).report(finding, datetime.now(UTC))
    outcome, run = retrained(home)
    assert (outcome.trigger, outcome.why) == ("degradation", "accuracy fell")
    assert run is not None and run.trigger == "degradation"


def test_columns_that_are_in_no_log_stay_out_and_clients_may_still_send_them(
    penguins: TrainedState, tmp_path: Path
) -> None:
    home = copy_of(penguins, tmp_path, retraining={"minimum_labelled_rows": 30})
    answered(home, penguins, penguins.table.head(60))
    outcome, _ = retrained(home)
    assert outcome.run is not None
    before, after = (bundle_in(home, version).schema for version in ("1", outcome.run.model_version))
    assert set(after.feature_names) == set(before.feature_names)
    assert {column.name for column in after.ignored} == {column.name for column in before.ignored}
