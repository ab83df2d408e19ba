"""What every test shares: where the real tables are, and a state root of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


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
