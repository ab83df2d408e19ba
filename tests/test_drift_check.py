"""`drift --data`: a file against the champion's reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET

from config.home import PROJECT_ROOT
from models.bundle import BundleError
from monitoring.drift_report import DriftReport, severity_of
from pipeline.drift_check import drift_of_file
from pipeline.errors import InputError
from tests.trained import TrainedState, in_force

FIELDS = {"timestamp", "overall_drift", "drift_score", "drifted_features", "feature_scores"}
SCORE_FIELDS = {
    "kind", "statistic", "p_value", "adjusted_p_value", "effect", "psi", "severity", "drift_detected"
}  # fmt: skip
#: What `generate_sample_data.DRIFT` moves.
MOVED = {"monthly_charge", "support_calls", "region"}


def check(state: TrainedState, table: Path) -> DriftReport:
    with in_force(state.home):
        return drift_of_file(str(table))


@pytest.mark.parametrize("name", ["credit", "penguins", "sample"])
def test_fault_21_a_models_own_training_file_has_not_drifted(name: str, request: pytest.FixtureRequest) -> None:
    state: TrainedState = request.getfixturevalue(name)
    report = check(state, state.source)
    assert (report.overall_drift, report.drifted_features, report.rows) == (False, [], len(state.table))
    assert report.severity == "none"


def test_real_concept_drift_over_years_is_seen(elec2: TrainedState) -> None:
    """In the newest fifth, prices of the neighbouring state have settled at one value."""
    report = check(elec2, elec2.source)
    assert {"vicprice", "vicdemand", "transfer"} & set(report.drifted_features)


def test_new_rows_of_the_same_kind_have_not_drifted(sample: TrainedState) -> None:
    report = check(sample, sample.home / "data/samples/new_data.csv")
    assert (report.overall_drift, report.rows) == (False, 2000)


def test_drift_names_the_features_that_moved_and_no_other(sample: TrainedState) -> None:
    report = check(sample, sample.home / "data/samples/drifted_data.csv")
    assert report.overall_drift
    assert set(report.drifted_features) == MOVED


def test_features_are_ranked_by_effect_times_importance(sample: TrainedState) -> None:
    report = check(sample, sample.home / "data/samples/drifted_data.csv")
    scores = [report.feature_scores[name] for name in report.drifted_features]
    assert sum(score.importance for score in report.feature_scores.values() if score.importance) == pytest.approx(1.0)
    ranks = [score.effect * score.importance for score in scores if score.importance is not UNSET]
    assert ranks == sorted(ranks, reverse=True) and len(ranks) == len(MOVED)
    assert report.severity == severity_of(max(score.effect for score in scores))


def test_the_answers_of_the_model_are_compared_too(sample: TrainedState) -> None:
    """More customers leave in the drifted file, and the model says so."""
    quiet = check(sample, sample.home / "data/samples/new_data.csv").prediction_drift
    drifted = check(sample, sample.home / "data/samples/drifted_data.csv").prediction_drift
    assert quiet is not None and not quiet.overall_drift
    assert drifted is not None and drifted.overall_drift


def test_the_report_has_the_fields_of_the_design(sample: TrainedState) -> None:
    answer = json.loads(msgspec.json.encode(check(sample, sample.home / "data/samples/drifted_data.csv")))
    assert answer.keys() >= FIELDS
    assert answer["feature_scores"].keys() == set(sample.schema.feature_names)
    for name, score in answer["feature_scores"].items():
        assert score.keys() >= SCORE_FIELDS, name
        assert ("ks_statistic" in score) == (score["kind"] == "numeric"), name


def test_fail_on_drift_ends_in_3_and_quiet_data_in_0(sample: TrainedState) -> None:
    codes = {}
    for name in ("new_data", "drifted_data"):
        path = sample.home / f"data/samples/{name}.csv"
        ended = subprocess.run(
            [sys.executable, "main.py", "drift", "--data", str(path), "--fail-on-drift", "--json"],
            env={"MLOPS_HOME": str(sample.home), "PATH": "/usr/bin:/bin"}, cwd=PROJECT_ROOT, capture_output=True,
        )  # fmt: skip
        codes[name] = ended.returncode
        assert json.loads(ended.stdout)["overall_drift"] == (name == "drifted_data")
    assert codes == {"new_data": 0, "drifted_data": 3}


def test_columns_that_the_model_does_not_read_are_not_looked_at(credit: TrainedState, tmp_path: Path) -> None:
    table = credit.table.drop(columns="Status").assign(more="x")[::-1]
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert not check(credit, tmp_path / "rows.csv").overall_drift


def test_gaps_and_unseen_levels_are_drift(credit: TrainedState, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = credit.table.assign(
        Job=lambda frame: frame["Job"].mask(random.random(len(frame)) < 0.3, "astronaut"),
        Income=lambda frame: frame["Income"].mask(random.random(len(frame)) < 0.5),
    )
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert set(check(credit, tmp_path / "rows.csv").drifted_features) == {"Job", "Income"}


def test_few_rows_give_no_verdict(credit: TrainedState, tmp_path: Path) -> None:
    credit.table.head(20).assign(Age=99).to_csv(tmp_path / "rows.csv", index=False)
    report = check(credit, tmp_path / "rows.csv")
    assert (report.status, report.overall_drift) == ("not_enough_data", False)
    assert "20" in report.note


def test_a_table_that_lacks_features_is_refused_by_name(credit: TrainedState, tmp_path: Path) -> None:
    credit.table.drop(columns=["Age", "Job"]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match=r"rows\.csv: lacks .*Age.*Job"):
        check(credit, tmp_path / "rows.csv")


def test_an_emptied_column_is_compared_and_not_refused(penguins: TrainedState, tmp_path: Path) -> None:
    table = penguins.table.assign(**{"Date Egg": None, "Sex": None, "Body Mass (g)": None})
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert set(check(penguins, tmp_path / "rows.csv").drifted_features) >= {"Date Egg", "Sex", "Body Mass (g)"}


def test_dates_that_mean_never_are_read(penguins: TrainedState, tmp_path: Path) -> None:
    """9999-12-31 does not fit into nanoseconds."""
    table = penguins.table
    table.loc[:9, "Date Egg"] = "9999-12-31"
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert check(penguins, tmp_path / "rows.csv").rows == 344


def test_without_a_model_there_is_nothing_to_compare_with(home: Path, real_tables: Path) -> None:
    with pytest.raises(BundleError, match=r"next: python main\.py run"):
        drift_of_file(str(real_tables / "credit.csv"))


def test_parquet_is_compared_like_csv(credit: TrainedState, tmp_path: Path) -> None:
    pd.read_csv(credit.source).to_parquet(tmp_path / "rows.parquet")
    assert not check(credit, tmp_path / "rows.parquet").overall_drift
