"""The loop on every table: a whole run from the file to the serving plan, and the answers that it leads to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from api.app import create_app
from api.model_server import ModelServer, load_model
from api.routes import EXTENSION
from config.settings import load_settings
from models.bundle import CHECKS, MODEL, REFERENCE, SCHEMA, read_manifest, write_bundle
from models.mlflow_connection import MlflowConnection, RegistryError
from models.mlflow_registry import Registry
from models.mlflow_runs import RunLog
from models.reference import decode_reference
from models.serving_plan import PlannedBundle
from monitoring.prediction_log import PredictionLog
from monitoring.promotion_history import PromotionHistory
from monitoring.run_records import RunRecords
from monitoring.store import Store
from pipeline import steps
from pipeline.data_quality import QualityReport
from pipeline.errors import InputError
from pipeline.onnx_export import export_onnx
from pipeline.orchestrator import run_now
from pipeline.packaging import checks_of
from tests.log_reading import logged_lines
from tests.trained import TrainedState, bundle_in, client_rows, copy_of, in_force, plan_in, served_version

TABLES = ("credit", "penguins", "elec2", "sample")
TOLERANCE = 1e-5
FIELDS = {
    "status", "run_id", "model_version", "model_name", "promoted", "decision", "metrics", "cross_validation",
    "duration_seconds",
}  # fmt: skip
SKETCH_METRICS = {f"{side}_{name}" for side in ("train", "test") for name in ("accuracy", "precision", "recall", "f1")}


@pytest.fixture(params=TABLES)
def state(request: pytest.FixtureRequest) -> TrainedState:
    trained: TrainedState = request.getfixturevalue(request.param)
    return trained


# A run


def test_a_run_answers_exactly_the_fields_of_the_design(state: TrainedState) -> None:
    answer = json.loads(msgspec.json.encode(state.outcome))
    assert set(answer) == FIELDS
    assert (answer["status"], answer["model_version"], answer["promoted"]) == ("succeeded", "1", True)
    assert answer["metrics"].keys() >= SKETCH_METRICS
    assert answer["decision"]["decision"] == "first"
    assert {candidate["status"] for candidate in answer["cross_validation"]["candidates"]} == {"ok"}


def test_a_first_run_puts_its_version_in_service_everywhere(state: TrainedState) -> None:
    with in_force(state.home):
        settings = load_settings()
        registry = Registry(settings.mlflow_address, settings.registered_model_name)
        info = registry.version("1")
        with Store(settings.store_address) as store:
            history = PromotionHistory(store).serving_at(datetime.now(UTC))
    champion = plan_in(state.home).champion
    assert info is not None and champion is not None
    assert (registry.champion(), history, champion.version) == ("1", "1", "1")
    assert info.stage == "production"
    assert info.manifest_sha256 == champion.manifest_sha256
    assert read_manifest(state.home / "models/registry/1")[1] == champion.manifest_sha256


def test_fault_10_the_quality_report_is_plain_json_of_the_schema(state: TrainedState) -> None:
    content = state.prepared.quality_report.read_bytes()
    assert str(state.prepared.quality_report) == str(state.home / f"reports/quality_{state.outcome.run_id}.json")
    report = msgspec.json.decode(content, type=QualityReport)
    assert json.loads(content, parse_constant=_refuse) == json.loads(msgspec.json.encode(report))
    assert (report.rows, report.target) == (len(state.table), state.target)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def test_every_step_of_a_run_is_recorded(state: TrainedState) -> None:
    with in_force(state.home), Store(load_settings().store_address) as store:
        records = RunRecords(store)
        run = records.get(state.outcome.run_id)
        recorded = records.steps(state.outcome.run_id)
    assert run is not None
    assert (run.status, run.model_version, run.rows) == ("succeeded", "1", len(state.table))
    assert [step.name for step in recorded] == ["ingest", "check", "train", "register", "compare", "promote"]
    assert {step.status for step in recorded} == {"succeeded"}


def test_mlflow_holds_the_run_with_a_child_for_each_candidate_and_the_report(state: TrainedState) -> None:
    with in_force(state.home):
        client = MlflowConnection(load_settings().mlflow_address).client
        runs = client.search_runs([client.get_experiment_by_name("tabular_production").experiment_id])
        [parent] = [run for run in runs if run.info.run_name == state.outcome.run_id]
        files = client.list_artifacts(parent.info.run_id, "quality")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_name for run in children} == {result.name for result in state.trained.results}
    assert [file.path for file in files] == [f"quality/quality_{state.outcome.run_id}.json"]
    assert parent.data.metrics["test_f1"] == pytest.approx(state.outcome.metrics["test_f1"])


def test_fault_06_the_winner_is_the_best_of_the_cross_validation(state: TrainedState) -> None:
    summary = state.outcome.cross_validation
    means = {candidate["name"]: candidate["mean"] for candidate in summary["candidates"]}
    assert means[summary["winner"]] == max(means.values())


def test_the_reference_is_of_the_training_rows_and_of_held_out_scores(state: TrainedState) -> None:
    reference = decode_reference(bundle_in(state.home, "1", REFERENCE).extra[REFERENCE])
    assert reference.rows == len(state.prepared.train.rows)
    assert len(reference.features) == len(state.schema.features)


# Parity: what is served is what scikit-learn answers


def test_every_candidate_answers_a_client_as_its_scikit_learn_pipeline_does(
    state: TrainedState, tmp_path: Path
) -> None:
    table = state.test_table
    body = json.dumps(client_rows(state.schema, table)).encode()
    for number, result in enumerate(state.trained.results):
        server = serve_candidate(tmp_path / str(number), state, result.pipeline)
        given = np.array(server.predict(body, "r").probability)
        worst = float(np.abs(given - spread(result.pipeline, table, state)).max())
        assert worst <= TOLERANCE, f"{result.name} differs by {worst:.2g}"


def spread(pipeline: Any, table: pd.DataFrame, state: TrainedState) -> np.ndarray[Any, Any]:
    """Probabilities with a column for each class of the schema."""
    expected = np.zeros((len(table), len(state.schema.classes)))
    expected[:, pipeline[-1].classes_] = pipeline.predict_proba(table)
    return expected


def serve_candidate(folder: Path, state: TrainedState, pipeline: Any) -> ModelServer:
    """A server of any candidate, from a bundle made as a run makes it."""
    checks = checks_of(pipeline, state.schema, state.prepared.test_raw)
    files = {
        SCHEMA: msgspec.json.encode(state.schema),
        MODEL: export_onnx(pipeline, state.schema),
        CHECKS: msgspec.json.encode(checks),
        REFERENCE: b"{}",
    }
    digest = write_bundle(folder / "1", read_manifest(state.home / "models/registry/1")[0], files)
    server = ModelServer(PredictionLog(folder / "logs"))
    server.serve(load_model(folder, PlannedBundle(version="1", manifest_sha256=digest), 100_000))
    return server


def test_predict_answers_as_the_model_in_the_registry_on_every_test_row(state: TrainedState, tmp_path: Path) -> None:
    import mlflow.sklearn

    table = state.test_table
    with in_force(state.home) as patch:
        patch.setenv("MLOPS_DEPLOYMENT__MAX_PREDICTION_BATCH_SIZE", "100000")
        settings = load_settings()
        app = create_app(settings, logs=tmp_path / "logs")
        app.extensions[EXTENSION].reloader.look()
        reply = app.test_client().post("/predict", json=client_rows(state.schema, table))
        MlflowConnection(settings.mlflow_address).client  # noqa: B018  # says where the registry is
        model = mlflow.sklearn.load_model("models:/production_model/1")
    answer = reply.get_json()
    assert (reply.status_code, answer["model_version"]) == (200, "1")
    assert np.abs(np.array(answer["probability"]) - spread(model, table, state)).max() <= TOLERANCE
    assert answer["classes"] == list(state.schema.classes)
    assert len(logged_lines(tmp_path / "logs")) == len(table)


# Runs that do not end well


def test_a_refused_table_leaves_no_version_and_the_file_as_it_was(penguins: TrainedState, tmp_path: Path) -> None:
    home, table = copy_of(penguins, tmp_path), tmp_path / "one.csv"
    penguins.table.assign(Species="same").to_csv(table, index=False)
    before = table.read_bytes()
    with in_force(home):
        with pytest.raises(InputError, match=r"one\.csv"):
            run_now(str(table), "Species")
        with Store(load_settings().store_address) as store:
            [run, _] = RunRecords(store).latest()
    assert (run.status, run.model_version, run.data_source) == ("refused", None, str(table))
    assert "one.csv" in str(run.error)
    assert (served_version(home), table.read_bytes()) == ("1", before)


@pytest.mark.parametrize(("part", "wrong"), [("parameters", {"trees": 3}), ("search", {"trees": [3]})])
def test_a_wrong_parameter_is_refused_before_the_table_is_read(
    part: str, wrong: object, penguins: TrainedState, tmp_path: Path
) -> None:
    with in_force(copy_of(penguins, tmp_path)) as patch:
        patch.setenv(f"MLOPS_TRAINING__{part.upper()}", json.dumps({"random_forest": wrong}))
        with pytest.raises(InputError, match=r"random_forest\.trees"):
            run_now(str(tmp_path / "absent.csv"), None)


def test_a_run_that_fails_in_the_middle_of_registering_is_ended_everywhere(
    penguins: TrainedState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RegistryError("the disk is full")

    home = copy_of(penguins, tmp_path)
    monkeypatch.setattr(RunLog, "log_bundle", full)
    with in_force(home):
        with pytest.raises(RegistryError):
            run_now(None, None)
        client = MlflowConnection(load_settings().mlflow_address).client
        [failed] = client.search_runs([client.get_experiment_by_name("tabular_production").experiment_id],
                                      "attributes.status != 'FINISHED'")  # fmt: skip
        with Store(load_settings().store_address) as store:
            assert RunRecords(store).latest()[0].status == "failed"
    assert failed.info.status == "FAILED"
    assert served_version(home) == "1"


def test_a_run_succeeds_although_its_pictures_cannot_be_drawn(penguins: TrainedState, tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError("no space left on device")

    home = copy_of(penguins, tmp_path)
    with in_force(home) as patch:
        patch.setattr(steps, "draw_in_background", full)
        assert run_now(None, None).status == "succeeded"


def test_fault_27_a_first_run_works_on_an_empty_state_root(penguins: TrainedState) -> None:
    """The state root held a configuration and an empty MLflow database, and nothing else."""
    made = {path.name for path in penguins.home.iterdir()}
    assert made >= {"mlops.db", "mlflow.db", "mlartifacts", "models", "reports"}
