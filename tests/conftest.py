"""What every test shares: where the real tables are, and a state root of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres import postgres_server, postgres_url
from tests.stores import migrated_sqlite, store, store_kind, store_url, url

if TYPE_CHECKING:
    from tests.trained import TrainedState
    from tests.whole_system import System

__all__ = ["migrated_sqlite", "postgres_server", "postgres_url", "store", "store_kind", "store_url", "url"]
PROJECT = Path(__file__).resolve().parent.parent

# A shell ignores SIGINT in what it runs in the background, and children inherit that: here they are to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_tables() -> Path:
    """The folder with credit.csv, elec2.csv and penguins_raw.csv (`MLOPS_TEST_DATA` names another)."""
    folder = Path(os.environ.get("MLOPS_TEST_DATA", PROJECT.parent / "shared" / "data"))
    assert (folder / "credit.csv").is_file(), f"{folder} holds no test tables; set MLOPS_TEST_DATA"
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state root, in force for the test."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("MLOPS_CONFIG", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether to run at full length (`make soak`) instead of scaled down."""
    return bool(os.environ.get("MLOPS_SOAK"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs scaled down belongs to `make soak`, without a mark that one can forget."""
    for item in items:
        if "soak" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.soak)


# State roots with a trained model: see tests/trained.py, which is imported only where one is asked for.


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database, to copy: to make one takes seconds."""
    from models.mlflow_connection import MlflowConnection

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowConnection(f"sqlite:///{path}").client.search_experiments()
    return path


@pytest.fixture(scope="session")
def credit(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, real_tables: Path) -> TrainedState:
    from tests.trained import train_state

    home = tmp_path_factory.mktemp("credit")
    return train_state(home, mlflow_template, real_tables / "credit.csv", "Status")


@pytest.fixture(scope="session")
def penguins(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, real_tables: Path) -> TrainedState:
    from tests.trained import train_state

    home = tmp_path_factory.mktemp("penguins")
    return train_state(home, mlflow_template, real_tables / "penguins_raw.csv", "Species")


@pytest.fixture(scope="session")
def elec2(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, real_tables: Path) -> TrainedState:
    """Split by time: the newest rows are held out."""
    from tests.trained import train_state

    home, split = tmp_path_factory.mktemp("elec2"), {"time_column": "t"}
    return train_state(home, mlflow_template, real_tables / "elec2.csv", "class", data_split=split)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> TrainedState:
    """The generated sample, with the new and the drifted file beside it."""
    from generate_sample_data import main as generate
    from tests.trained import train_state

    home = tmp_path_factory.mktemp("sample")
    assert generate(["--output", str(home / "data"), "--rows", "8000"]) == 0
    return train_state(home, mlflow_template, home / "data/raw/training.csv", "target")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A state root with two versions of a table of 300 rows: 1 is in service, 2 is not. Tests work on a copy."""
    from tests.states import tiny_state

    return tiny_state(tmp_path_factory.mktemp("tiny"), mlflow_template)


@pytest.fixture(scope="session")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every part of the system in a process of its own, on two hosts: see tests/whole_system.py."""
    from tests.whole_system import running_system

    with running_system(tmp_path_factory.mktemp("whole")) as system:
        yield system


@pytest.fixture
def system(whole_system: System) -> Iterator[System]:
    """The whole system in good order, for a test that breaks a part of it; the next one finds it mended."""
    yield whole_system
    whole_system.mend()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives all tests of the whole system to one worker, first; so there is one of it, and the rest fills the others.

    `--dist loadgroup` is for that, and does nothing under pytest 9.2 (pytest-xdist 3.8 sets a node's id in vain).
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    from tests.whole_system import FILES

    class OneSystem(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].rpartition("/")[2]
            return "whole system" if file in shared else nodeid

    shared = {f"test_{name}.py" for name in FILES}
    return OneSystem(config, log) if config.getvalue("dist") == "load" else None


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: what nobody runs, nobody keeps true."""
    if _skipped and os.environ.get("CI") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped and os.environ.get("CI"):
        terminalreporter.write_line(f"in CI a skipped test is a failure: {', '.join(_skipped)}", red=True)
