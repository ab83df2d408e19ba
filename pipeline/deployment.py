"""Putting model versions in service: the registry, the history and this host's serving plan, moved in one order.

    DeploymentError         a version that cannot be put in service; the one in service stays

The order survives a kill between any two steps: stage under the run id, verify, log to MLflow, create the version,
rename into place, write the intent into the history, move the alias, replace the plan, mark the history done. `recover`
finishes what a kill left half done; `pipeline/recovery.py` says when.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from config.clock import Clock, utc_now
from config.errors import ProductError
from config.settings import Settings, registry_directory
from models.bundle import Bundle, BundleError, Manifest, read_bundle, read_manifest, verify_bundle
from models.mlflow_registry import Registry
from models.serving_plan import PlanError, PlannedBundle, ServingPlan, plan_lock, read_plan, write_plan
from monitoring.promotion_history import Promotion, PromotionHistory, PromotionKind
from monitoring.registry_contact import note_failure, note_success
from monitoring.store import Store

log = logging.getLogger(__name__)
STAGING = ".staging"
#: Bundles that stay on this host although they are out of service, newest versions first.
KEPT_BUNDLES = 10
FOLLOWED_BY = "MLflow"
#: What a kill in the middle of a download or of replacing the plan leaves in the registry directory.
_REMAINS = (".download-*", ".*.fetched", ".serving.json.*.tmp")


class DeploymentError(ProductError):
    """This version cannot be put in service; the message says why."""


@dataclass(frozen=True)
class Deployment:
    registry: Registry
    history: PromotionHistory
    directory: Path
    clock: Clock

    @classmethod
    def of(
        cls, settings: Settings, store: Store, registry: Registry | None = None, clock: Clock = utc_now
    ) -> Deployment:
        """The deployment of this host."""
        registry = registry or Registry(settings.mlflow_address, settings.registered_model_name)
        return cls(registry, PromotionHistory(store), registry_directory(), clock)

    def staging(self, run_id: str) -> Path:
        return self.directory / STAGING / run_id

    def bundle(self, version: str) -> Bundle:
        """The verified bundle of a version, fetched when it is not here; raises `DeploymentError`."""
        digest = self._digest(version)
        place = self.directory / version
        if not _is_whole(place, digest):
            self._fetch(version, digest, place)
        try:
            return read_bundle(place, digest)
        except BundleError as error:
            raise DeploymentError(f"the bundle of version {version} is refused: {error}") from None

    def manifest_in_service(self) -> Manifest | None:
        """What serves on this host, told by its plan alone; None when nothing does, or its bundle cannot be read."""
        plan = self._plan()
        if plan is None or plan.champion is None:
            return None
        try:
            return read_manifest(self.directory / plan.champion.version)[0]
        except BundleError:
            return None

    def adopt(self, run_id: str, version: str) -> None:
        """Renames the staged bundle of a run into the place of its version, verified."""
        staged, place = self.staging(run_id), self.directory / version
        verify_bundle(staged)
        shutil.rmtree(place, ignore_errors=True)
        staged.rename(place)

    def promote(
        self, version: str, kind: PromotionKind, *, who: str, why: str, evidence: dict[str, Any] | None = None
    ) -> Promotion:
        """Puts a version in service on this host and moves the registry's alias, so that every other host follows.

        Raises:
            DeploymentError: there is no such version, or its bundle cannot be had or verified.
        """
        with plan_lock(self.directory):
            bundle = self._servable(version)
            champion = self.registry.champion()
            intent = self.history.intend(champion, version, kind, self.clock(), who=who, why=why, evidence=evidence)
            return self._carry_out(intent, bundle)

    def sync(self, *, record_moves: bool = False, verify: bool = False) -> ServingPlan | None:
        """Brings this host's plan and bundle up to the registry's champion; returns the plan in force.

        A champion alias that was removed changes nothing: the last one stays in service.

        Args:
            record_moves: write a move that was made outside the product into the history.
            verify: read every file of the bundle in service, not only its manifest.
        """
        with plan_lock(self.directory):
            version, plan = self._followed(verify)
            if version is not None and record_moves:
                self._record_move(version)
            return plan

    def _followed(self, verify: bool) -> tuple[str | None, ServingPlan | None]:
        """The registry's champion, and the plan that serves it; how that went is noted, for whoever asks."""
        answered = False
        try:
            version = self.registry.champion()
            answered = True
            plan = self._plan_with(version, verify)
        except Exception as error:
            note_failure(str(error), reachable=answered)
            raise
        note_success(self.clock())
        return version, plan

    def _plan_with(self, version: str | None, verify: bool) -> ServingPlan | None:
        """The plan that serves this version, made where it is not in force; None leaves the plan as it is."""
        plan = self._plan()
        if version is None:
            return plan
        if plan is None or plan.champion is None or not self._serves(plan.champion, version, verify):
            plan = self._replace_plan(self._servable(version))
            self._prune(version)
        return plan

    def has_leftovers(self) -> bool:
        """Whether there is something to `recover`, or a run at work."""
        return any((self.directory / STAGING).glob("*")) or bool(self.history.pending())

    def recover(self) -> None:
        """Finishes or abandons what a kill left: staged bundles, and promotions that were begun. The caller holds the
        pipeline's lock, so that none of it belongs to a run at work."""
        with plan_lock(self.directory):
            for pattern in _REMAINS:
                for remains in self.directory.glob(pattern):
                    _remove(remains)
            for staged in sorted((self.directory / STAGING).glob("*")):
                self._recover_staged(staged)
            for intent in self.history.pending():
                self._recover_intent(intent)

    def _recover_staged(self, staged: Path) -> None:
        found = self.registry.find_version_by_run(staged.name)
        if found is None or (self.directory / found).is_dir():
            shutil.rmtree(staged, ignore_errors=True)
            return
        try:
            self.adopt(staged.name, found)
            log.info("version %s was registered before a kill; its bundle is in place now", found)
        except BundleError as error:
            log.warning("%s; it is fetched from the registry when it is needed", error)
            shutil.rmtree(staged, ignore_errors=True)

    def _recover_intent(self, intent: Promotion) -> None:
        if self.registry.champion() not in (intent.from_version, intent.to_version):
            self.history.abandon(intent.id)
            return
        try:
            self._carry_out(intent, self._servable(intent.to_version))
        except DeploymentError as error:
            log.warning("the promotion of version %s is given up: %s", intent.to_version, error)
            self.history.abandon(intent.id)

    def _carry_out(self, intent: Promotion, bundle: PlannedBundle) -> Promotion:
        self.registry.set_champion(bundle.version)
        self._replace_plan(bundle)
        done = self.clock()
        self.history.mark_done(intent.id, done)
        self._prune(bundle.version)
        return msgspec.structs.replace(intent, done_at=done, status="done")

    def _serves(self, planned: PlannedBundle, version: str, verify: bool) -> bool:
        """Whether the plan names this version, and its bundle stands where a server looks for it."""
        place = self.directory / version
        return planned.version == version and _is_whole(place, planned.manifest_sha256, verify)

    def _servable(self, version: str) -> PlannedBundle:
        """The bundle of a version, in place, verified, and giving the answers that it should."""
        from models.runtime import ModelRuntime

        bundle = self.bundle(version)
        try:
            ModelRuntime(bundle).check()
        except BundleError as error:
            raise DeploymentError(f"the bundle of version {version} is refused: {error}") from None
        return PlannedBundle(version=version, manifest_sha256=bundle.manifest_sha256)

    def _digest(self, version: str) -> str:
        """The sha256 of the manifest that was registered; raises `DeploymentError` when there is none."""
        info = self.registry.version(version)
        if info is None:
            raise DeploymentError(
                f"there is no version {version} of {self.registry.registered_name}; see `models list`"
            )
        if info.manifest_sha256 is None:
            raise DeploymentError(f"version {version} has no bundle: it was not registered by a run of this product")
        return info.manifest_sha256

    def _fetch(self, version: str, manifest_sha256: str, place: Path) -> None:
        temporary = self.directory / f".{version}.fetched"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self.registry.download_bundle(version, temporary)
            if verify_bundle(temporary) != manifest_sha256:
                raise BundleError("its manifest is not the one that was registered")
        except BundleError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise DeploymentError(f"the bundle of version {version} is refused: {error}") from None
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)

    def _replace_plan(self, bundle: PlannedBundle) -> ServingPlan:
        before = self._plan()
        generation = before.generation + 1 if before else 1
        plan = ServingPlan(registered_name=self.registry.registered_name, champion=bundle, generation=generation)
        write_plan(self.directory, plan)
        return plan

    def _plan(self) -> ServingPlan | None:
        try:
            return read_plan(self.directory)
        except PlanError as error:
            log.warning("the serving plan is made anew: %s", error)
            return None

    def _record_move(self, version: str) -> None:
        now = self.clock()
        recorded = self.history.serving()
        if recorded == version or self.history.pending():
            return
        intent = self.history.intend(
            recorded, version, "follow", now, who=FOLLOWED_BY, why="the champion alias was moved in the registry"
        )
        self.history.mark_done(intent.id, now)
        log.info("the champion alias was moved to version %s; this host serves it", version)

    def _prune(self, champion: str) -> None:
        bundles = [path for path in self.directory.iterdir() if path.name.isdigit() and path.name != champion]
        for path in sorted(bundles, key=lambda path: int(path.name), reverse=True)[KEPT_BUNDLES:]:
            shutil.rmtree(path, ignore_errors=True)


def _is_whole(place: Path, manifest_sha256: str, every_file: bool = True) -> bool:
    """Whether a bundle stands there unaltered; without `every_file` only its manifest is read."""
    try:
        return (verify_bundle(place) if every_file else read_manifest(place)[1]) == manifest_sha256
    except BundleError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
