"""One holder at a time, who is named, and whose lock dies with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from config.state_lock import StateLockedError, lock_holder, state_lock

HOLD = """
import sys, time
from config.state_lock import state_lock
with state_lock("pipeline", "main.py run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"MLOPS_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_comer_is_told_who_holds_it(home: Path) -> None:
    with holder(home) as other:
        try:
            with (
                pytest.raises(StateLockedError, match=rf"`main.py run` \(process {other.pid}\) holds the pipeline"),
                state_lock("pipeline", "main.py retrain"),
            ):
                raise AssertionError("two hold it")
            assert lock_holder("pipeline") == f"`main.py run` (process {other.pid})"
            assert lock_holder("scheduler") is None
        finally:
            other.kill()


def test_a_killed_holder_leaves_no_stale_lock(home: Path) -> None:
    with holder(home) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert lock_holder("pipeline") is None
    with state_lock("pipeline", "main.py run"):
        assert lock_holder("pipeline") == f"`main.py run` (process {os.getpid()})"
    assert lock_holder("pipeline") is None


def test_an_error_inside_lets_it_go(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), state_lock("scheduler", "main.py"):
        _ = 1 / 0
    with state_lock("scheduler", "main.py"):
        pass


def test_looking_who_holds_it_never_keeps_anybody_out(home: Path) -> None:
    """`status` in a loop beside a scheduler that starts."""
    with state_lock("pipeline", "main.py run"):
        pass
    stop, held = threading.Event(), 0

    def look() -> None:
        while not stop.is_set():
            lock_holder("pipeline")

    watchers = [threading.Thread(target=look) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(200):
            with state_lock("pipeline", "main.py run"):
                held += 1
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert held == 200


def test_looking_makes_nothing(home: Path) -> None:
    assert lock_holder("pipeline") is None
    assert list(home.iterdir()) == []
