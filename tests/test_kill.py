"""Real processes, killed at random moments or told to end in the middle of their work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from config.settings import load_settings
from config.state_lock import lock_holder
from models.mlflow_connection import MlflowConnection
from models.mlflow_runs import RunLog
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store
from tests.states import assert_whole, copy_of_tiny, environment_of, new_state, planned
from tests.test_deployment import start_scheduler
from tests.trained import in_force

pytestmark = pytest.mark.integration

#: Takes minutes on 300 rows, and lets nobody in meanwhile.
SLOW = {
    "candidates": ["random_forest"],
    "jobs": 1,
    "parameters": {"random_forest": {"n_estimators": 60_000}},
}


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `main.py`; whatever it started ends with the block."""
    process = subprocess.Popen(
        [sys.executable, str(PROJECT_ROOT / "main.py"), *arguments],
        env=environment_of(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was never said: {seen}")


def last_run() -> RunRecord:
    with Store(load_settings().store_address) as store:
        return RunRecords(store).latest(1)[0]


def unfinished_in_mlflow() -> list[str]:
    settings = load_settings()
    return RunLog(MlflowConnection(settings.mlflow_address), settings.experiment_name).unfinished()


def test_a_run_killed_at_any_moment_leaves_nothing_half_served(
    tmp_path: Path, mlflow_template: Path, soak: bool
) -> None:
    """Kills fall into every step: the next run, or the next start, repairs."""
    home, dice = new_state(tmp_path / "state root", mlflow_template), random.Random()
    moments = ["training", "packaging", "packaging", "putting"] * (20 if soak else 1)
    with in_force(home):
        for words in moments:
            delay = dice.uniform(0.0, 0.4)
            with running(home, "run") as run:
                seen = read_until(run, "comparing" if words == "putting" and planned() else words)
                time.sleep(delay)
                os.kill(run.pid, signal.SIGKILL)
                run.wait()
            assert lock_holder("pipeline") is None, (words, delay, seen)
            planned()  # what it names is verified
        start_scheduler()
        assert_whole()
        with running(home, "run") as run:
            assert run.wait(120) == 0
        assert_whole()
        assert planned() is not None


def test_a_signal_in_mid_training_ends_the_scheduler_and_its_child_within_ten_seconds(
    tmp_path: Path, mlflow_template: Path
) -> None:
    home = new_state(tmp_path / "state root", mlflow_template, training=SLOW)
    with in_force(home), running(home) as scheduler:
        read_until(scheduler, "training 1 candidate")
        told = time.monotonic()
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0
        assert time.monotonic() - told < 10
        assert lock_holder("pipeline") is None  # the child has ended too
        assert last_run().status == "interrupted"
        assert unfinished_in_mlflow() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_sentence(tmp_path: Path, mlflow_template: Path, number: signal.Signals) -> None:
    home = new_state(tmp_path / "state", mlflow_template)
    with in_force(home), running(home, "run") as run:
        read_until(run, "training")
        run.send_signal(number)
        said, _ = run.communicate(timeout=20)
        assert run.returncode == 1
        assert f"error: interrupted by {number.name}" in said
        assert "Traceback" not in said
        assert last_run().status == "interrupted"


def test_a_training_child_that_is_killed_is_a_failed_run_that_is_told(tmp_path: Path, mlflow_template: Path) -> None:
    home = new_state(tmp_path / "state", mlflow_template, training=SLOW)
    with in_force(home), running(home) as scheduler:
        read_until(scheduler, "training 1 candidate")
        os.kill(last_run().pid, signal.SIGKILL)
        read_until(scheduler, "was killed by signal 9")
        wait_for(lambda: last_run().status == "interrupted")
        wait_for(lambda: list((home / "alerts").glob("*.json")))
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0


def test_an_idle_scheduler_rests_refuses_a_second_one_and_ends_at_once(tiny: Path, tmp_path: Path) -> None:
    home = copy_of_tiny(tiny, tmp_path / "state")
    with in_force(home), running(home) as scheduler:
        read_until(scheduler, "the scheduler is at work")
        before, began = cpu_seconds(scheduler.pid), time.monotonic()
        second = subprocess.run(
            [sys.executable, str(PROJECT_ROOT / "main.py")], env=environment_of(home), capture_output=True, text=True
        )
        assert second.returncode == 1
        assert f"`main.py` (process {scheduler.pid}) holds the scheduler lock" in second.stderr
        time.sleep(max(0.0, 3.0 - (time.monotonic() - began)))
        assert (cpu_seconds(scheduler.pid) - before) / (time.monotonic() - began) < 0.25
        told = time.monotonic()
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(20) == 0
        assert time.monotonic() - told < 5


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
