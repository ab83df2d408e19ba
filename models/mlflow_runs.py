"""Runs in MLflow, for people to browse: one for each run of the pipeline, with a child for each candidate."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from config.home import under_home
from models.mlflow_connection import MlflowConnection, RegistryError, asks_mlflow, is_taken, patient_transfer
from models.mlflow_registry import BUNDLE_PATH, RUN_TAG
from models.schema import Feature, Schema

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]
#: What a reader needs to load the logged scikit-learn model; given, because MLflow infers for seconds.
REQUIREMENTS = ("scikit-learn", "skops", "pandas", "numpy", "msgspec")
#: What skops does not trust by itself in the pipelines of this product; to look needs a second dump of the whole model.
KNOWN_TYPES = (
    "models.frame.TableEncoder",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.KFold",
    "sklearn.tree._tree.Tree",
)
_PARENT_TAG = "mlflow.parentRunId"
_NAME_LIMIT, _PARAM_LIMIT, _TAG_LIMIT = 250, 6000, 5000
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}
_EXAMPLE_ROWS = 3


class RunLog:
    """The runs of one experiment. Every call may raise `RegistryError`."""

    #: Whether another process does the work.
    is_elsewhere = False

    def __init__(self, connection: MlflowConnection, experiment_name: str, artifacts: Path | None = None) -> None:
        """`artifacts` is where a local MLflow keeps files: by default `mlartifacts/` under the state root."""
        self.connection = connection
        self.experiment_name = experiment_name
        self._artifacts = artifacts
        self._experiment_id: str | None = None

    @property
    def _client(self) -> MlflowClient:
        return self.connection.client

    @asks_mlflow("make the experiment")
    def ensure_experiment(self) -> str:
        """The experiment's id; makes it at the first use, and brings a deleted one back."""
        if self._experiment_id is None:
            self._experiment_id = self._find_experiment() or self._make_experiment()
        return self._experiment_id

    @asks_mlflow("start a run")
    def start(
        self, run_id: str, *, params: Mapping[str, object] | None = None, tags: Mapping[str, object] | None = None
    ) -> str:
        """A run of the pipeline; returns the id of MLflow's run."""
        created = self._client.create_run(
            self.ensure_experiment(), run_name=run_id, tags={RUN_TAG: run_id, "mlflow.source.name": "pipeline"}
        )
        mlflow_run_id = str(created.info.run_id)
        self.log(mlflow_run_id, params=params, tags=tags)
        return mlflow_run_id

    @asks_mlflow("log a candidate")
    def log_candidate(
        self,
        parent: str,
        name: str,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float | None],
        fold_metrics: Mapping[str, Sequence[float]] | None = None,
        seconds: float = 0.0,
        failure: str | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> str:
        """A finished child run that lasted `seconds` until now.

        `fold_metrics` are one value a fold, logged as steps; `failure` is why the candidate was left aside.
        """
        ended = _now_ms()
        own = {_PARENT_TAG: parent, "candidate": name} | ({"failure": failure[:_TAG_LIMIT]} if failure else {})
        child = self._client.create_run(
            self.ensure_experiment(), start_time=ended - int(seconds * 1000), run_name=name, tags=own
        )
        mlflow_run_id = str(child.info.run_id)
        metrics = {**metrics, "duration_seconds": seconds}
        self.log(mlflow_run_id, params=params, metrics=metrics, fold_metrics=fold_metrics, tags=tags)
        self._client.set_terminated(mlflow_run_id, "FAILED" if failure else "FINISHED", end_time=ended)
        return mlflow_run_id

    @asks_mlflow("log to a run")
    def log(
        self,
        mlflow_run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        fold_metrics: Mapping[str, Sequence[float]] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None:
        """Logs in as few requests as MLflow's limits allow; metrics that are None are left out, long text is cut."""
        from mlflow.entities import Metric, Param, RunTag

        now = _now_ms()
        series = {name: [value] for name, value in (metrics or {}).items()} | dict(fold_metrics or {})
        batch: dict[str, list[Any]] = {
            "metrics": [
                Metric(_name(name), float(value), now, step)
                for name, values in series.items()
                for step, value in enumerate(values)
                if value is not None and math.isfinite(value)
            ],
            "params": [Param(_name(name), str(value)[:_PARAM_LIMIT]) for name, value in (params or {}).items()],
            "tags": [RunTag(_name(name), str(value)[:_TAG_LIMIT]) for name, value in (tags or {}).items()],
        }
        while any(batch.values()):
            self._client.log_batch(mlflow_run_id, **{kind: rows[: _BATCH[kind]] for kind, rows in batch.items()})
            batch = {kind: rows[_BATCH[kind] :] for kind, rows in batch.items()}

    @asks_mlflow("log a bundle")
    def log_bundle(self, mlflow_run_id: str, directory: Path) -> None:
        """Stores the bundle's files with the run."""
        with patient_transfer():
            self._client.log_artifacts(mlflow_run_id, str(directory), BUNDLE_PATH)

    @asks_mlflow("log files")
    def log_files(self, mlflow_run_id: str, path: Path, artifact_path: str) -> None:
        """Stores a file, or all files of a directory (plots, reports), with the run."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with patient_transfer():
            log(mlflow_run_id, str(path), artifact_path)

    @asks_mlflow("log the scikit-learn model")
    def log_sklearn_model(self, mlflow_run_id: str, pipeline: Any, schema: Schema, sample: pd.DataFrame) -> str:
        """Logs a fitted pipeline that takes raw tables, in the skops format; returns its `models:/m-…` URI.

        Args:
            sample: some raw rows, of which the first few become the input example.

        Raises:
            RegistryError: also when skops cannot hold the pipeline.
        """
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model

        logged = self._client.create_logged_model(self.ensure_experiment(), "model", source_run_id=mlflow_run_id)
        model = Model(
            artifact_path=logged.artifact_location,
            run_id=mlflow_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
            metadata={"classes": list(schema.classes)},
        )
        with tempfile.TemporaryDirectory(prefix="mlops-model-") as temporary, patient_transfer():
            directory = Path(temporary) / "model"
            _save_sklearn(directory, model, pipeline, schema, sample)
            self._client.log_model_artifacts(logged.model_id, str(directory))
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._client.log_outputs(mlflow_run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return f"models:/{logged.model_id}"

    @asks_mlflow("end a run")
    def finish(self, mlflow_run_id: str, status: EndStatus = "FINISHED") -> None:
        self._client.set_terminated(mlflow_run_id, status)

    @asks_mlflow("end an interrupted run")
    def finish_interrupted(self, run_id: str, status: EndStatus = "KILLED") -> None:
        """Ends what a run of the pipeline left running in MLflow; nothing when it left nothing."""
        query = f"tags.{RUN_TAG} = '{run_id}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self.ensure_experiment()], query):
            children = f"tags.`{_PARENT_TAG}` = '{run.info.run_id}' and attributes.status = 'RUNNING'"
            for left in [*self._client.search_runs([self.ensure_experiment()], children), run]:
                self._client.set_terminated(left.info.run_id, status)

    @asks_mlflow("look for runs that were left running")
    def unfinished(self) -> list[str]:
        """The pipeline's runs, by their own ids, that MLflow takes for running."""
        experiment = self._find_experiment()
        if experiment is None:
            return []
        found = self._client.search_runs([experiment], "attributes.status = 'RUNNING'")
        return [run.data.tags[RUN_TAG] for run in found if RUN_TAG in run.data.tags]

    def _find_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(self.experiment_name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _make_experiment(self) -> str:
        artifacts = self._artifacts or under_home("mlartifacts")
        location = artifacts.as_uri() if self.connection.is_local else None
        try:
            return str(self._client.create_experiment(self.experiment_name, artifact_location=location))
        except Exception as error:
            if is_taken(error) and (found := self._find_experiment()) is not None:
                return found
            raise


def _save_sklearn(directory: Path, model: Any, pipeline: Any, schema: Schema, sample: pd.DataFrame) -> None:
    example = sample.loc[:, list(schema.feature_names)].head(_EXAMPLE_ROWS)
    try:
        try:
            _save_skops(directory, model, pipeline, signature_of(schema), example, list(KNOWN_TYPES))
        except Exception as error:
            if "untrusted" not in str(error).lower():
                raise
            # A type that is not in the list: this process has made it, so whatever it holds is trusted.
            shutil.rmtree(directory, ignore_errors=True)
            trusted = _types_in(pipeline)
            _save_skops(directory, model, pipeline, signature_of(schema), example, trusted)
    except Exception as error:
        raise RegistryError(f"the pipeline cannot be stored as a scikit-learn model: {error}") from error


def _save_skops(
    directory: Path, model: Any, pipeline: Any, signature: ModelSignature, example: pd.DataFrame, trusted: list[str]
) -> None:
    import mlflow.sklearn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            pipeline,
            str(directory),
            mlflow_model=model,
            serialization_format="skops",
            skops_trusted_types=trusted,
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )


def _types_in(pipeline: Any) -> list[str]:
    import skops.io

    return list(skops.io.get_untrusted_types(data=skops.io.dumps(pipeline)))


def signature_of(schema: Schema) -> ModelSignature:
    """MLflow's signature, from the schema rather than from a sample: every feature may be absent."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType
    from mlflow.types import Schema as MlflowSchema

    inputs = [ColSpec(_data_type(feature), feature.name, required=False) for feature in schema.features]
    return ModelSignature(MlflowSchema(inputs), MlflowSchema([ColSpec(DataType.long)]))


def _data_type(feature: Feature) -> str:
    if feature.kind in ("boolean", "datetime"):
        return feature.kind
    if feature.kind == "categorical" and (not feature.categories or isinstance(feature.categories[0], str)):
        return "string"
    # A table with gaps holds whole numbers as floats; one without, as integers, which MLflow takes for `long` only.
    whole = feature.integer or feature.kind == "categorical"
    return "long" if whole and not feature.nullable else "double"


def _name(text: str) -> str:
    """A name as MLflow allows it."""
    return re.sub(r"[^\w\-./ ]", "_", text)[:_NAME_LIMIT]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
