"""The model registry: the versions of one registered model in MLflow, their bundles, and the aliases.

A version is a string here, whatever MLflow makes of it. The alias `champion` is in production, `challenger` in staging;
the tag `stage` shows the same to people.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from models.mlflow_connection import (
    MlflowConnection,
    RegistryError,
    asks_mlflow,
    is_absent,
    is_taken,
    patient_transfer,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["BUNDLE_PATH", "RUN_TAG", "Registry", "RegistryError", "Stage", "VersionInfo"]
Stage = Literal["development", "staging", "production", "archived"]
CHAMPION, CHALLENGER = "champion", "challenger"
BUNDLE_PATH = "bundle"
#: Tags of versions; the run is the pipeline's, which is not the run of MLflow.
STAGE_TAG, MANIFEST_TAG, RUN_TAG = "stage", "manifest_sha256", "pipeline_run_id"
ALGORITHM_TAG, METRICS_TAG = "algorithm", "metrics"
_TAG_LIMIT = 5000
_PAGE = 1000


class VersionInfo(Struct, frozen=True, kw_only=True):
    version: str
    #: The pipeline's run; None for a version that somebody registered by other means.
    run_id: str | None
    mlflow_run_id: str | None
    created_at: datetime
    stage: Stage
    aliases: tuple[str, ...]
    #: None when the version has no bundle of ours and so cannot be served.
    manifest_sha256: str | None
    algorithm: str | None
    metrics: dict[str, float | None]


class Registry:
    """The versions of one registered model. Connects at the first call; every call may raise `RegistryError`."""

    def __init__(self, address: str | MlflowConnection, registered_name: str) -> None:
        self.connection = address if isinstance(address, MlflowConnection) else MlflowConnection(address)
        self.registered_name = registered_name

    @property
    def _client(self) -> MlflowClient:
        return self.connection.client

    @asks_mlflow("tell which version is the champion")
    def champion(self) -> str | None:
        """The version in production; None before the first promotion."""
        return self._aliases().get(CHAMPION)

    @asks_mlflow("move the alias `champion`")
    def set_champion(self, version: str) -> None:
        """Moves the alias, then the stages of all versions; the first is what counts."""
        if self._aliases().get(CHALLENGER) == version:
            self._client.delete_registered_model_alias(self.registered_name, CHALLENGER)
        self._client.set_registered_model_alias(self.registered_name, CHAMPION, version)
        self.align_stages()

    @asks_mlflow("set a version's stage")
    def set_stage(self, version: str, stage: Stage) -> None:
        self._client.set_model_version_tag(self.registered_name, version, STAGE_TAG, stage)

    @asks_mlflow("set the stages of the versions")
    def align_stages(self) -> None:
        """Makes the tag `stage` follow the aliases, also where they were moved in MLflow's own pages."""
        aliases = self._aliases()
        for info in self.versions():
            stage = _stage_by_alias(info, aliases)
            if stage != info.stage:
                self.set_stage(info.version, stage)

    @asks_mlflow("create a version")
    def create_version(
        self,
        mlflow_run_id: str,
        *,
        run_id: str,
        manifest_sha256: str,
        algorithm: str,
        metrics: dict[str, float | None],
        model_uri: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Registers what a run logged: its bundle and, as `model_uri`, its scikit-learn model.

        Args:
            run_id: of the pipeline; `find_version_by_run` finds the version by it.
            model_uri: what `mlflow.sklearn.load_model("models:/<name>/<version>")` loads; without it nothing can.
        """
        self._ensure_registered_model()
        own = {
            STAGE_TAG: "development",
            RUN_TAG: run_id,
            MANIFEST_TAG: manifest_sha256,
            ALGORITHM_TAG: algorithm,
            METRICS_TAG: _metrics_text(metrics),
        }
        model_id = model_uri.removeprefix("models:/") if model_uri and model_uri.startswith("models:/m-") else None
        created = self._client.create_model_version(
            self.registered_name,
            source=model_uri or f"runs:/{mlflow_run_id}/{BUNDLE_PATH}",
            run_id=mlflow_run_id,
            tags={**(tags or {}), **own},
            model_id=model_id,
            await_creation_for=10,
        )
        return str(created.version)

    @asks_mlflow("list the versions")
    def versions(self) -> list[VersionInfo]:
        """All versions, newest first; empty before the first one."""
        return self._search(f"name = {_quoted(self.registered_name)}")

    @asks_mlflow("look a version up")
    def version(self, version: str) -> VersionInfo | None:
        """None when there is no such version."""
        return next((info for info in self.versions() if info.version == version), None)

    @asks_mlflow("look for the version of a run")
    def find_version_by_run(self, run_id: str) -> str | None:
        """The version that the pipeline's run has registered, if it came that far."""
        found = self._search(f"name = {_quoted(self.registered_name)} and tags.{RUN_TAG} = {_quoted(run_id)}")
        return found[0].version if found else None

    @asks_mlflow("fetch a bundle")
    def download_bundle(self, version: str, directory: Path) -> None:
        """Fetches a version's bundle to `directory`, which must not exist; the caller verifies its digests."""
        try:
            run_id = self._client.get_model_version(self.registered_name, version).run_id
        except Exception as error:
            if not is_absent(error):
                raise
            run_id = None
        if not run_id:
            raise RegistryError(f"{self.registered_name} has no version {version} with a bundle; see `models list`")
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=directory.parent, prefix=".download-")
        with made as temporary, patient_transfer():
            fetched = self._download(run_id, temporary)
            shutil.move(fetched, directory)

    def _download(self, mlflow_run_id: str, directory: str) -> str:
        """By the place of the run's files: asked for those of a run, MLflow keeps to itself why it failed."""
        from mlflow.artifacts import download_artifacts

        place = str(self._client.get_run(mlflow_run_id).info.artifact_uri).rstrip("/")
        address = self.connection.address
        fetched = download_artifacts(artifact_uri=f"{place}/{BUNDLE_PATH}", dst_path=directory, tracking_uri=address)
        return str(fetched)

    def _aliases(self) -> dict[str, str]:
        # A search of versions does not return aliases, whatever its documentation says; the registered model does.
        try:
            aliases = self._client.get_registered_model(self.registered_name).aliases
        except Exception as error:
            if is_absent(error):
                return {}
            raise
        return {alias: str(version) for alias, version in aliases.items()}

    def _ensure_registered_model(self) -> None:
        try:
            self._client.create_registered_model(self.registered_name)
        except Exception as error:
            if not is_taken(error):
                raise

    def _search(self, query: str) -> list[VersionInfo]:
        aliases, found, token = self._aliases(), [], None
        while True:
            page = self._client.search_model_versions(query, max_results=_PAGE, page_token=token)
            found += [_version_info(version, aliases) for version in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda info: int(info.version), reverse=True)


def _version_info(version: Any, aliases: dict[str, str]) -> VersionInfo:
    number, tags = str(version.version), dict(version.tags)
    stage = tags.get(STAGE_TAG)
    return VersionInfo(
        version=number,
        run_id=tags.get(RUN_TAG),
        mlflow_run_id=version.run_id or None,
        created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        stage=stage if stage in ("staging", "production", "archived") else "development",
        aliases=tuple(sorted(alias for alias, named in aliases.items() if named == number)),
        manifest_sha256=tags.get(MANIFEST_TAG),
        algorithm=tags.get(ALGORITHM_TAG),
        metrics=_metrics(tags.get(METRICS_TAG)),
    )


def _stage_by_alias(info: VersionInfo, aliases: dict[str, str]) -> Stage:
    if aliases.get(CHAMPION) == info.version:
        return "production"
    if aliases.get(CHALLENGER) == info.version:
        return "staging"
    return "archived" if info.stage in ("production", "staging") else info.stage


def _metrics_text(metrics: dict[str, float | None]) -> str:
    """As JSON, as many as fit into a tag."""
    kept = dict(metrics)
    while len(text := msgspec.json.encode(kept).decode()) > _TAG_LIMIT:
        kept.popitem()
    return text


def _metrics(text: str | None) -> dict[str, float | None]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, float | None])
    except msgspec.MsgspecError:  # somebody's own tag of that name
        return {}


def _quoted(text: str) -> str:
    """A string for MLflow's search language, which has no escapes: it takes either quote."""
    return f'"{text}"' if "'" in text else f"'{text}'"
