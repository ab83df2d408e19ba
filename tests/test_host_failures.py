"""On a host of servers: `sync` is dead for a while, the server is killed, the disk is full."""

from __future__ import annotations

import os
import signal

import pytest

from tests.parts import wait_for
from tests.whole_system import System

pytestmark = pytest.mark.integration
INCIDENTS = 'mlops_incidents_unresolved{kind="serving",severity="critical",status="open"} > bool 0'
FAILING = "increase(mlops_log_failures_total[3s])"
#: What a client sees of a server that is gone.
BROKEN = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError"}


def test_sync_stopped(system: System) -> None:
    """What is in service stays, what is logged waits and is counted in `status`; the next one catches up."""
    with system.load() as load:
        system.caught_up(load.answered)
        heard = system.status()["registry"]["at"]
        system["sync"].kill()
        load.goes_on(100)
        status = system.status()
        assert status["log"]["unread_bytes"] > 0 and status["log"]["oldest_unread_seconds"] > 1
        assert status["registry"]["at"] >= heard
        assert system.status()["registry"]["at"] == status["registry"]["at"]  # nobody has asked since
        system.watched.shows("TargetDown", "up", sync=0)
        system["sync"].start()
        system.caught_up(load.answered, 20)
        system.watched.shows_no_longer("TargetDown", "up", sync=1)
        system.move_champion("2", 20)
    assert load.failures == []
    system.assert_counted_once()


def test_server_killed(system: System) -> None:
    """Master and workers at once: an answer that a client has is in the log, and an incident says what is wrong."""
    with system.load() as load:
        load.goes_on(50)
        system["server"].kill()
        wait_for(lambda: system.incident("the server does not answer") == "open", "the scheduler misses it")
        system.watched.shows("TargetDown", "up", api=0)
        assert {one["severity"] for one in system.watched.prometheus.active("TargetDown")} == {"critical"}
        assert not system.watched.prometheus.active("ServersFewer")  # which is of several
        system.watched.shows("IncidentOpen", INCIDENTS, scheduler=1)
        assert system.start_server() < 15
        wait_for(lambda: system.incident("the server does not answer") == "resolved", "the scheduler sees it")
        load.goes_on(50)
        system.caught_up(load.answered, 20)
        system.watched.shows_no_longer("TargetDown", "up", api=1)
        system.watched.shows_no_longer("IncidentOpen", INCIDENTS, scheduler=0)
    assert set(load.failures) <= BROKEN
    system.assert_counted_once()


def test_server_killed_without_its_workers(system: System) -> None:
    """Those end by themselves, having answered what they had taken; from then on the next server gets the port."""
    with system.load() as load:
        load.goes_on(20)
        os.kill(system["server"].pid, signal.SIGKILL)
        assert system["server"].process is not None
        system["server"].process.wait(10)
        wait_for(system["server"].has_ended, "its workers have ended", 10)
        system.watched.shows("TargetDown", "up", api=0)
        assert system.start_server() < 20
        load.goes_on(50)
        system.caught_up(load.answered, 20)
    assert set(load.failures) <= BROKEN
    system.assert_counted_once()


def test_disk_full(system: System) -> None:
    """Of the whole state root: predictions are refused with 503, as configured, and counted; there are no others."""
    if not system.has_own_disk:
        pytest.skip("no disk can be mounted here")
    with system.load() as load:
        with system["sync"].complaints(most=3), system["server"].complaints(most=4), system.full_disk():
            wait_for(lambda: "503" in load.failures, "a prediction is refused")
            assert system.get("/health")[0] == 200
            assert system.metric("mlops_log_failures_total") > 0
            system.watched.shows("LogWriteFailures", "sum by (job) (mlops_log_failures_total) > bool 0", api=1)
            system.watched.shows("DiskFilling", "mlops_disk_free_bytes", sync=0)
            system.caught_up(load.answered, 20)
        load.goes_on(50)
        system.move_champion("1", 20)
        system.caught_up(load.answered, 20)
        system.watched.shows_no_longer("DiskFilling", "mlops_disk_free_bytes > bool 0", sync=1)
        wait_for(lambda: system.watched.figures(FAILING)["api"] == 0, "no more failures show")  # the alert lasts 5 min
    assert set(load.failures) == {"503"}
    system.assert_counted_once()
