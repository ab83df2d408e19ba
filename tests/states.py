"""A tiny trained state root, copies of it, and what must hold of any state root after a repair."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import load_settings, registry_directory
from models.bundle import verify_bundle
from models.mlflow_runs import RunLog
from models.serving_plan import read_plan
from monitoring.promotion_history import PromotionHistory
from monitoring.run_records import RunRecords
from monitoring.store import Store
from pipeline import gate
from pipeline.deployment import STAGING, Deployment
from pipeline.model_evaluation import first_decision
from pipeline.orchestrator import run_now
from tests.tables import small_table
from tests.trained import FAST, configure, in_force


def tiny_configuration(home: Path, **sections: object) -> None:
    configure(home, FAST, {"target_column": "target", "data": {"source": "table.csv"}}, dict(sections))


def new_state(home: Path, template: Path, **sections: object) -> Path:
    """A state root with a table, a configuration and an empty MLflow database: nothing was run."""
    tiny_configuration(home, **sections)
    small_table(300).to_csv(home / "table.csv", index=False)
    shutil.copy(template, home / "mlflow.db")
    return home


def tiny_state(home: Path, template: Path) -> Path:
    new_state(home, template)
    with in_force(home) as patch:
        run_now(None, None)
        assert not run_now(None, None).promoted
        del patch
    return home


def copy_of_tiny(tiny: Path, home: Path, **sections: object) -> Path:
    """The artifacts of the versions stay in the original's folder; only what is registered anew is in the copy's."""
    shutil.copytree(tiny, home, ignore=shutil.ignore_patterns("mlartifacts", "logs", "run"))
    tiny_configuration(home, **sections)
    return home


@pytest.fixture
def state(tiny: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tiny state root, in force for the test."""
    home = copy_of_tiny(tiny, tmp_path / "state root")
    with in_force(home):
        yield home


@contextmanager
def deployment_in_force() -> Iterator[Deployment]:
    settings = load_settings()
    with Store(settings.store_address) as store:
        yield Deployment.of(settings, store)


def planned() -> str | None:
    """The version of the serving plan, its bundle verified as a server would; None when there is no plan."""
    plan = read_plan(registry_directory())
    if plan is None or plan.champion is None:
        return None
    assert verify_bundle(registry_directory() / plan.champion.version) == plan.champion.manifest_sha256
    return plan.champion.version


def assert_whole() -> None:
    """Plan, registry and history agree, and nothing is left half done."""
    settings = load_settings()
    with deployment_in_force() as deployment, Store(settings.store_address) as store:
        champion = deployment.registry.champion()
        assert planned() == champion
        assert PromotionHistory(store).serving_at(datetime.now(UTC)) == champion
        assert deployment.history.pending() == []
        assert RunRecords(store).running() == []
        assert RunLog(deployment.registry.connection, settings.experiment_name).unfinished() == []
    assert list((registry_directory() / STAGING).glob("*")) == []
    assert [path.name for path in registry_directory().glob(".*") if path.name != STAGING] == []


def always_promote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate, "compare", lambda settings, *_: first_decision(settings, "for the test"))


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """For a process that works on a state root."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    return kept | {"MLOPS_HOME": str(home), "PYTHONUNBUFFERED": "1"} | variables
