"""The log of runs and the models in it, against a real MLflow on SQLite."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from models.mlflow_connection import MlflowConnection, RegistryError
from models.mlflow_registry import Registry
from models.mlflow_runs import KNOWN_TYPES, RunLog
from models.schema import Feature, Schema
from pipeline.candidates import CANDIDATES
from tests.local_mlflow import connection, register, registry, runs
from tests.pipelines import candidate_pipeline

__all__ = ["connection", "registry", "runs"]


SCHEMA = Schema(
    target="y",
    classes=("no", "yes"),
    features=(
        Feature(name="Length (mm)", kind="numeric", range=(0.0, 1.0), nullable=True),
        Feature(name="count", kind="numeric", range=(0.0, 9.0), integer=True),
        Feature(name="Ort", kind="categorical", categories=("Zürich", "Köln"), nullable=True),
        Feature(name="code", kind="categorical", categories=tuple(range(40)), encoding="target"),
        Feature(name="member", kind="boolean"),
        Feature(name="day", kind="datetime", range=(0.0, 1e9), parts=("month", "weekday")),
    ),
)


def table(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "Length (mm)": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows)),
            "count": rng.integers(0, 10, rows),
            "Ort": pd.Series(np.array(["Zürich", "Köln", None])[rng.integers(0, 3, rows)], dtype="str"),
            "code": rng.integers(0, 40, rows),
            "member": rng.random(rows) < 0.5,
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
        }
    )


def fitted(name: str = "logistic_regression") -> Pipeline:
    frame = table()
    small = {"random_forest": "n_estimators", "gradient_boosting": "n_estimators", "hist_gradient_boosting": "max_iter"}
    parameters = {small[name]: 5} if name in small else {}
    return candidate_pipeline(name, SCHEMA, parameters, seed=1).fit(frame, (frame["count"] > 4).astype(int).to_numpy())


def test_a_run_holds_a_child_for_each_candidate(runs: RunLog) -> None:
    run = runs.start("run-1", params={"folds": 5}, tags={"trigger": "first"})
    child = runs.log_candidate(
        run, "random_forest", params={"n_estimators": 100}, metrics={"f1": 0.8, "roc_auc": None},
        fold_metrics={"fold_f1": [0.7, 0.8, 0.9]}, seconds=12.5,
    )  # fmt: skip
    runs.log_candidate(run, "logistic_regression", params={}, metrics={}, seconds=1.0, failure="did not converge")
    runs.finish(run)
    client = runs.connection.client
    logged = client.get_run(child)
    assert logged.data.params == {"n_estimators": "100"}
    assert logged.data.metrics == {"f1": 0.8, "fold_f1": 0.9, "duration_seconds": 12.5}
    assert [point.value for point in client.get_metric_history(child, "fold_f1")] == [0.7, 0.8, 0.9]
    assert logged.info.end_time - logged.info.start_time == 12_500
    children = client.search_runs([runs.ensure_experiment()], f"tags.`mlflow.parentRunId` = '{run}'")
    assert sorted(found.info.status for found in children) == ["FAILED", "FINISHED"]


def test_more_than_a_batch_odd_names_and_long_values_are_logged(runs: RunLog) -> None:
    run = runs.start("run-2")
    params = {f"p{number}": "x" * 7000 for number in range(150)} | {"a|b\nc": 1}
    runs.log(run, params=params, metrics={f"m:{number}%": float(number) for number in range(1200)})
    logged = runs.connection.client.get_run(run).data
    assert (len(logged.params), len(logged.metrics)) == (151, 1200)
    assert logged.params["a_b_c"] == "1"
    assert len(logged.params["p1"]) == 6000


def test_a_run_that_was_killed_is_ended_in_mlflow_too(runs: RunLog) -> None:
    killed, other = runs.start("killed-run"), runs.start("other-run")
    runs.finish_interrupted("killed-run")
    statuses = [runs.connection.client.get_run(run).info.status for run in (killed, other)]
    assert statuses == ["KILLED", "RUNNING"]


def test_a_deleted_experiment_is_brought_back(connection: MlflowConnection, tmp_path: Path) -> None:
    first = RunLog(connection, "to be deleted", tmp_path).ensure_experiment()
    connection.client.delete_experiment(first)
    assert RunLog(connection, "to be deleted", tmp_path).ensure_experiment() == first


def test_artifacts_of_a_local_mlflow_are_under_the_state_root(connection: MlflowConnection, home: Path) -> None:
    runs = RunLog(connection, "at home")
    (home / "plots").mkdir()
    (home / "plots" / "a.txt").write_text("x")
    runs.log_files(runs.start("run-3"), home / "plots", "plots")
    assert [path.name for path in (home / "mlartifacts").rglob("*.txt")] == ["a.txt"]


@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_every_candidates_model_loads_back_from_the_registry_with_equal_answers(
    name: str, registry: Registry, runs: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.sklearn

    # All types are in KNOWN_TYPES, so that no model is dumped twice.
    monkeypatch.setattr("models.mlflow_runs._types_in", lambda _: pytest.fail("KNOWN_TYPES lacks a type"))
    pipeline, frame = fitted(name), table()
    uri = runs.log_sklearn_model(runs.start("r"), pipeline, SCHEMA, frame)
    registry.set_champion(register(registry, runs, model_uri=uri))
    loaded = mlflow.sklearn.load_model(f"models:/{registry.registered_name}@champion")
    np.testing.assert_array_equal(loaded.predict_proba(frame), pipeline.predict_proba(frame))


def test_a_logged_model_has_a_signature_and_an_example_and_answers_a_table_with_gaps(runs: RunLog) -> None:
    import mlflow.pyfunc

    frame = table()
    loaded = mlflow.pyfunc.load_model(runs.log_sklearn_model(runs.start("r"), fitted(), SCHEMA, frame))
    assert loaded.metadata.signature.inputs.input_names() == list(SCHEMA.feature_names)
    assert loaded.input_example is not None
    assert set(np.unique(loaded.predict(frame))) <= {0, 1}


def test_a_pipeline_of_other_types_is_logged_all_the_same(runs: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.sklearn

    monkeypatch.setattr("models.mlflow_runs.KNOWN_TYPES", KNOWN_TYPES[1:2])
    uri = runs.log_sklearn_model(runs.start("r"), fitted(), SCHEMA, table())
    assert mlflow.sklearn.load_model(uri).predict(table()).shape == (200,)


def test_a_pipeline_that_skops_cannot_hold_is_refused_with_the_reason(runs: RunLog) -> None:
    pipeline = fitted()
    pipeline.steps[-1][1].extra_ = threading.Lock()
    with pytest.raises(RegistryError, match="cannot be stored as a scikit-learn model"):
        runs.log_sklearn_model(runs.start("r"), pipeline, SCHEMA, table())
