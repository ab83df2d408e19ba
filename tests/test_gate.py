"""The gate in the loop: which new versions take over from the one in service, and which never do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from config.settings import load_settings
from models.mlflow_registry import Registry
from pipeline.orchestrator import RunOutcome, run_now
from tests.trained import TrainedState, bundle_in, configure, copy_of, in_force, served_version

Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def home(credit: TrainedState, tmp_path: Path) -> Path:
    """A state root with the model of credit.csv in service."""
    return copy_of(credit, tmp_path)


def run_on(home: Path, table: pd.DataFrame, target: str = "Status") -> RunOutcome:
    path = home / "table.csv"
    table.to_csv(path, index=False)
    with in_force(home):
        return run_now(str(path), target)


def assert_registered_and_not_promoted(home: Path, outcome: RunOutcome, decision: str) -> None:
    assert (outcome.decision["decision"], outcome.promoted, outcome.model_version) == (decision, False, "2")
    assert served_version(home) == "1"
    with in_force(home):
        registry = Registry(load_settings().mlflow_address, "production_model")
        assert registry.champion() == "1"
        assert {info.version: info.stage for info in registry.versions()} == {"1": "production", "2": "development"}
    assert bundle_in(home, "2").manifest.run_id == outcome.run_id


def test_a_model_equal_to_the_champion_is_not_promoted(home: Path, credit: TrainedState) -> None:
    assert credit.outcome.cross_validation["winner"] == "logistic_regression"  # what a fast run trains too
    outcome = run_on(home, credit.table)
    assert_registered_and_not_promoted(home, outcome, "keep")
    assert outcome.decision["difference"] == pytest.approx(0.0, abs=1e-9)
    assert outcome.decision["rows"] == len(credit.prepared.test.rows)


def test_fault_07_a_worse_model_is_registered_and_never_promoted(home: Path, credit: TrainedState) -> None:
    """Its training labels are noise; the held-out ones are true."""
    table, train = credit.table, credit.prepared.train.rows
    labels = table["Status"].to_numpy(dtype=object, copy=True)
    labels[train] = np.random.default_rng(0).permutation(labels[train])
    outcome = run_on(home, table.assign(Status=labels))
    assert_registered_and_not_promoted(home, outcome, "keep")
    assert outcome.decision["difference"] < -0.02


def test_a_better_model_takes_over(home: Path, credit: TrainedState) -> None:
    """The champion of this state learnt from noise."""
    noise = np.random.default_rng(0).permutation(credit.table["Status"].to_numpy(dtype=object))
    settled = copy_of(credit, home / "noisy", registered_model_name="another")
    run_on(settled, credit.table.assign(Status=noise))
    outcome = run_on(settled, credit.table)
    assert (outcome.decision["decision"], outcome.promoted) == ("promote", True)
    assert served_version(settled) == outcome.model_version
    assert outcome.decision["probability_better"] >= 0.95


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.assign(Height=np.arange(len(table)) % 97), "it needs 'Height'"),
        (lambda table: table.assign(Job=pd.factorize(table["Job"])[0] + 0.5), "it reads 'Job' as numbers"),
        (lambda table: table.drop(columns="Income"), "it refuses 'Income'"),
    ],
)
def test_a_model_that_refuses_rows_of_the_champions_clients_is_incompatible(
    home: Path, credit: TrainedState, change: Change, reason: str
) -> None:
    outcome = run_on(home, change(credit.table))
    assert_registered_and_not_promoted(home, outcome, "incompatible")
    assert outcome.decision["reason"].startswith(reason)
    assert "models promote 2 --force --why" in outcome.decision["reason"]


def test_a_model_of_other_classes_is_not_comparable(home: Path, credit: TrainedState) -> None:
    table = credit.table.assign(Status=credit.table["Status"].map({"good": "fine", "bad": "bad"}))
    outcome = run_on(home, table)
    assert_registered_and_not_promoted(home, outcome, "not_comparable")
    assert outcome.decision["reason"].startswith("its classes are 'bad', 'fine', not 'bad', 'good'")


def test_a_model_of_another_target_is_not_comparable(home: Path, credit: TrainedState) -> None:
    outcome = run_on(home, credit.table, target="Records")
    assert_registered_and_not_promoted(home, outcome, "not_comparable")


def test_the_model_of_the_sample_gives_way_to_that_of_a_real_table(
    sample: TrainedState, credit: TrainedState, tmp_path: Path
) -> None:
    home = copy_of(sample, tmp_path)
    assert bundle_in(home, "1").manifest.sample
    outcome = run_on(home, credit.table)
    assert (outcome.decision["decision"], served_version(home)) == ("first", "2")
    assert not bundle_in(home, "2").manifest.sample


def test_a_champion_that_cannot_be_read_is_replaced_and_it_is_said(home: Path, credit: TrainedState) -> None:
    """Its bundle is damaged here, and in MLflow."""
    with in_force(home):
        info = Registry(load_settings().mlflow_address, "production_model").version("1")
    assert info is not None and info.mlflow_run_id is not None
    (home / "models/registry/1/model.onnx").write_bytes(b"damaged")
    stored = credit.home / f"mlartifacts/{info.mlflow_run_id}/artifacts/bundle/model.onnx"
    whole = stored.read_bytes()
    try:
        stored.write_bytes(b"damaged")
        outcome = run_on(home, credit.table)
    finally:
        stored.write_bytes(whole)
    assert (outcome.decision["decision"], served_version(home)) == ("first", "2")
    assert outcome.decision["reason"].startswith("the champion, version 1, cannot be served")


def test_only_rows_that_both_models_held_out_are_compared(elec2: TrainedState, tmp_path: Path) -> None:
    """A table that ends earlier is cut earlier: what it holds out, the champion learnt from."""
    home = copy_of(elec2, tmp_path, data_split={"time_column": "t"})
    outcome = run_on(home, elec2.table.iloc[:30_000], target="class")
    assert outcome.decision["decision"] == "undecided"
    assert (outcome.decision["rows"], outcome.promoted) == (0, False)
    assert "no row was held out by both" in outcome.decision["reason"]


def test_a_stale_champion_gives_way_to_a_model_that_is_no_worse(home: Path, credit: TrainedState) -> None:
    promotion = {"stale_after_days": 1e-9, "bootstrap_samples": 500}
    configure(
        home,
        {"target_column": "Status", "training": {"candidates": ["logistic_regression"]}, "promotion": promotion},
    )
    outcome = run_on(home, credit.table)
    assert (outcome.decision["decision"], served_version(home)) == ("promote", "2")
