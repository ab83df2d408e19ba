"""MLflow is stopped, or accepts and never answers, while predictions go on and whatever does not need it is done."""

from __future__ import annotations

import pytest

from tests.parts import wait_for
from tests.whole_system import System

pytestmark = pytest.mark.integration
#: Seconds after which a moved alias is followed once MLflow is back: the longest pause between questions, and a look.
RECOVERY = 40.0
NOT_FOLLOWED = "the registry is not followed"
INCIDENTS = 'mlops_incidents_unresolved{kind="pipeline",severity="high",status="open"} > bool 0'
FOLLOWED = "mlops_sync_last_success_timestamp_seconds"


def test_mlflow_stopped(system: System) -> None:
    """The plan stays, logs are read on, an incident says so; a moved alias is followed once it is back."""
    with system.load() as load:
        with system["sync"].complaints(most=2), system["scheduler"].complaints(most=3):
            system["mlflow"].kill()
            wait_for(lambda: "refused" in str(system.status()["registry"]["problem"]), "status says so")
            wait_for(lambda: system.incident(NOT_FOLLOWED) == "open", "an incident says so")
            system.watched.shows("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=0, sync=0)
            followed = system.watched.figures(FOLLOWED)
            system.caught_up(load.answered | system.log_beside_the_scheduler(), 15)
            system.watched.shows("IncidentOpen", INCIDENTS, scheduler=1)
            assert system.watched.figures(FOLLOWED) == followed  # SyncStalled reads it
        system.start_mlflow()
        system.move_champion("2", RECOVERY)
        wait_for(lambda: system.incident(NOT_FOLLOWED) == "resolved", "it is over", RECOVERY)
        assert system.status()["registry"]["problem"] is None
        system.watched.shows_no_longer("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=1, sync=1)
        system.watched.shows_no_longer("IncidentOpen", INCIDENTS, scheduler=0)
        assert system.watched.figures(f"{FOLLOWED} > bool {followed['sync']}") == {"scheduler": 1, "sync": 1}
    assert load.failures == []
    system.assert_counted_once()


def test_mlflow_hanging(system: System) -> None:
    """Each question ends at a time-out, and other jobs get their time: sync and scheduler read, watch and tell."""
    with system.load() as load:
        with system["sync"].complaints(most=2), system["scheduler"].complaints(most=3), system["mlflow"].held_still():
            wait_for(lambda: system.incident(NOT_FOLLOWED) == "open", "an incident says so")
            assert "no answer in time" in system.status()["registry"]["problem"]
            system.watched.shows("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=0, sync=0)
            system.caught_up(load.answered | system.log_beside_the_scheduler(), 15)
        system.move_champion("1", RECOVERY)
        wait_for(lambda: system.incident(NOT_FOLLOWED) == "resolved", "it is over", RECOVERY)
        system.watched.shows_no_longer("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=1, sync=1)
    assert load.failures == []
    system.assert_counted_once()


def test_a_host_starts_and_serves_while_mlflow_hangs(system: System) -> None:
    """All that it needs to answer is on its disk."""
    with system["mlflow"].held_still():
        for name in ("server", "sync"):
            system[name].kill()
        system["sync"].start()
        assert system.start_server() < 15
        with system.load() as load:
            system.caught_up(load.answered, 30)
    assert load.failures == []
