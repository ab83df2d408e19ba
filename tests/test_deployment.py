"""Registration and promotion survive a kill between any two steps, and a moved alias is followed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings, registry_directory
from models.mlflow_registry import Registry, RegistryError
from models.mlflow_runs import RunLog
from models.serving_plan import read_plan
from monitoring.promotion_history import PromotionHistory
from monitoring.registry_contact import RegistryContact, read_contact
from monitoring.run_records import RunRecords
from monitoring.store import Store, StoreError
from pipeline import deployment as deployment_module
from pipeline import registration
from pipeline.deployment import STAGING, Deployment, DeploymentError
from pipeline.orchestrator import PipelineRun, run_now
from pipeline.scheduler import Scheduler
from tests.states import always_promote, assert_whole, deployment_in_force, planned, state

__all__ = ["state"]


class Killed(BaseException):
    """Stands for SIGKILL: what it passes cleans nothing up."""


#: Every step that leaves something behind, in order: who does it, and its name there.
STEPS: list[tuple[Any, str]] = [
    (registration, "write_bundle"),
    (RunLog, "start"),
    (RunLog, "log_candidate"),
    (RunLog, "log_bundle"),
    (RunLog, "log_sklearn_model"),
    (Registry, "create_version"),
    (Deployment, "adopt"),
    (PromotionHistory, "intend"),
    (Registry, "set_champion"),
    (deployment_module, "write_plan"),
    (PromotionHistory, "mark_done"),
    (RunLog, "finish"),
]


def kill_at(patch: pytest.MonkeyPatch, owner: Any, name: str, when: str) -> None:
    """Lets the run die right before or right after a step, with no word to anybody."""
    original: Callable[..., Any] = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            original(*arguments, **options)
        raise Killed

    patch.setattr(owner, name, dying)
    patch.setattr(PipelineRun, "__exit__", lambda *_: None)


def killed_run(owner: Any, name: str, when: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        always_promote(patch)
        kill_at(patch, owner, name, when)
        with pytest.raises(Killed):
            run_now(None, None)


def start_scheduler() -> None:
    """What the next start of the scheduler does before it waits."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        Scheduler(settings, store, lambda: datetime.now(UTC)).prepare()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_kill_at_any_step_is_repaired_by_the_next_start(state: Path, owner: Any, name: str, when: str) -> None:
    killed_run(owner, name, when)
    served = planned()  # verified
    assert served in ("1", "3")
    start_scheduler()
    assert_whole()
    promoted = (owner, name, when) == (PromotionHistory, "intend", "after") or STEPS.index((owner, name)) > 7
    assert planned() == ("3" if promoted else "1")
    with Store(load_settings().store_address) as store:
        assert RunRecords(store).latest(1)[0].status == "interrupted"


@pytest.mark.parametrize("name", ["log_bundle", "create_version", "intend", "set_champion"])
def test_a_kill_is_repaired_by_the_next_run_too(state: Path, name: str) -> None:
    killed_run(next(owner for owner, step in STEPS if step == name), name, "after")
    outcome = run_now(None, None)
    assert outcome.status == "succeeded"
    assert_whole()


def test_a_version_that_a_kill_left_unpromoted_can_be_promoted(state: Path) -> None:
    killed_run(Registry, "create_version", "after")
    start_scheduler()
    with deployment_in_force() as deployment:
        deployment.promote("3", "promote", who="somebody", why="it is good")
    assert_whole()
    assert planned() == "3"


def test_a_begun_promotion_is_given_up_when_somebody_has_decided_otherwise(state: Path) -> None:
    killed_run(PromotionHistory, "intend", "after")
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
    start_scheduler()
    assert_whole()
    assert planned() == "2"


def test_a_kill_in_a_download_or_in_replacing_the_plan_leaves_nothing_after_the_repair(state: Path) -> None:
    for name in (".download-abc", ".7.fetched", f"{STAGING}/20260101T000000Z-abc"):
        (registry_directory() / name).mkdir(parents=True)
    (registry_directory() / ".serving.json.77.tmp").write_text("{")
    start_scheduler()
    assert_whole()


def test_an_alias_moved_in_mlflow_is_followed_and_recorded_once(state: Path) -> None:
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
        for _ in range(3):
            deployment.sync(record_moves=True)
        newest, before = deployment.history.latest(2)
    assert (newest.kind, newest.from_version, newest.to_version, newest.who) == ("follow", "1", "2", "MLflow")
    assert (before.kind, before.to_version) == ("first", "1")
    assert planned() == "2"


def test_a_host_that_only_follows_records_nothing_and_needs_no_store(state: Path) -> None:
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
        before = deployment.history.latest()
    settings = load_settings()
    Deployment.of(settings, Store("postgresql://127.0.0.1:1/none")).sync()
    with deployment_in_force() as deployment:
        assert deployment.history.latest() == before
    assert planned() == "2"


def test_a_removed_alias_leaves_the_last_champion_in_service(state: Path) -> None:
    with deployment_in_force() as deployment:
        name = deployment.registry.registered_name
        deployment.registry.connection.client.delete_registered_model_alias(name, "champion")
        plan = deployment.sync(record_moves=True)
    assert plan is not None
    assert planned() == "1"


def test_a_version_without_a_bundle_is_refused_and_the_one_in_service_stays(state: Path) -> None:
    with deployment_in_force() as deployment:
        client = deployment.registry.connection.client
        client.create_model_version(deployment.registry.registered_name, source="/nowhere")
        deployment.registry.set_champion("3")
        with pytest.raises(DeploymentError, match="version 3 has no bundle"):
            deployment.sync()
        with pytest.raises(DeploymentError, match="version 3 has no bundle"):
            deployment.promote("3", "promote", who="somebody", why="because")
        assert [entry.to_version for entry in deployment.history.latest()] == ["1"]
    assert planned() == "1"


@pytest.mark.parametrize("file", ["model.onnx", "schema.json", "reference.json", "manifest.json"])
def test_an_altered_bundle_is_fetched_again(state: Path, file: str) -> None:
    with deployment_in_force() as deployment:
        altered = registry_directory() / "2" / file
        altered.write_bytes(altered.read_bytes() + b" ")
        deployment.promote("2", "promote", who="somebody", why="because")
    assert planned() == "2"


def test_a_bundle_that_is_altered_in_the_registry_too_is_refused(state: Path, tiny: Path) -> None:
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
        (registry_directory() / "2" / "model.onnx").write_bytes(b"no model")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Registry, "download_bundle", tampered)
            with pytest.raises(DeploymentError, match=r"version 2 is refused: .*model.onnx does not match its digest"):
                deployment.sync()
    assert planned() == "1"


def test_a_store_that_takes_no_move_leaves_the_host_followed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
        monkeypatch.setattr(Store, "reading", failing(StoreError("the store is away")))
        with pytest.raises(StoreError):
            deployment.sync(record_moves=True)
    contact = read_contact()
    assert contact is not None and contact.at is not None
    assert (planned(), contact.problem, contact.reachable) == ("2", None, True)


@pytest.mark.parametrize(("call", "reachable"), [("champion", False), ("version", True), ("download_bundle", True)])
def test_mlflow_was_reached_when_it_named_the_champion_whatever_came_then(
    state: Path, monkeypatch: pytest.MonkeyPatch, call: str, reachable: bool
) -> None:
    with deployment_in_force() as deployment:
        deployment.sync()
        before = read_contact()
        deployment.registry.set_champion("2")
        shutil.rmtree(registry_directory() / "2")
        monkeypatch.setattr(Registry, call, failing(RegistryError("the storage is down")))
        with pytest.raises(RegistryError):
            deployment.sync()
    assert before is not None
    assert read_contact() == RegistryContact(at=before.at, problem="the storage is down", reachable=reachable)


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def tampered(_: Registry, version: str, place: Path) -> None:
    shutil.copytree(registry_directory() / version, place)


def test_a_bundle_that_answers_otherwise_here_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.bundle import BundleError
    from models.runtime import ModelRuntime

    def differs(self: ModelRuntime) -> None:
        raise BundleError("the model's answers differ from the stored ones by 0.3")

    monkeypatch.setattr(ModelRuntime, "check", differs)
    with deployment_in_force() as deployment, pytest.raises(DeploymentError, match="differ from the stored ones"):
        deployment.promote("2", "promote", who="somebody", why="because")
    assert planned() == "1"


def test_sync_mends_the_bundle_in_service(state: Path) -> None:
    with deployment_in_force() as deployment:
        (registry_directory() / "1" / "model.onnx").write_bytes(b"broken")
        generation = read_plan(registry_directory()).generation  # type: ignore[union-attr]
        plan = deployment.sync(verify=True)
    assert planned() == "1"
    assert plan is not None
    assert plan.generation == generation + 1  # so that the server looks again


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"format_version": 99}'])
def test_a_plan_that_cannot_be_read_is_made_anew(state: Path, content: bytes) -> None:
    (registry_directory() / "serving.json").write_bytes(content)
    with deployment_in_force() as deployment:
        deployment.sync()
    assert planned() == "1"


def test_bundles_out_of_service_are_kept_up_to_a_number(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_module, "KEPT_BUNDLES", 0)
    with deployment_in_force() as deployment:
        deployment.promote("2", "promote", who="somebody", why="because")
        assert not (registry_directory() / "1").exists()
        deployment.promote("1", "rollback", who="somebody", why="because")  # is fetched again
    assert planned() == "1"
