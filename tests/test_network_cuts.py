"""The network between the host of the servers and that of the stores is cut, or swallows every packet."""

from __future__ import annotations

import pytest

from tests.parts import wait_for
from tests.whole_system import System

pytestmark = pytest.mark.integration
#: Seconds after which everything has caught up once packets travel again.
RECOVERY = 45.0


@pytest.fixture(autouse=True)
def with_a_cable(system: System) -> None:
    if not system.network.has_cable:
        pytest.skip("only root may lay a cable between two network namespaces")


def assert_shown_as_away(system: System) -> None:
    system.watched.shows("StoreUnreachable", "mlops_store_reachable", scheduler=0, sync=0)
    system.watched.shows("MlflowUnreachable", "mlops_mlflow_reachable", sync=0)  # the scheduler waits for the store
    wait_for(system.watched.lines_wait, "the lag shows, which IngestionLag reads")


def assert_shown_as_back(system: System) -> None:
    system.watched.shows_no_longer("StoreUnreachable", "mlops_store_reachable", scheduler=1, sync=1)
    system.watched.shows_no_longer("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=1, sync=1)


def test_network_cut(system: System) -> None:
    """No way to the stores: predictions go on, and everything follows within a minute of the way's return."""
    with system.load() as load:
        with system["sync"].complaints(most=6), system["scheduler"].complaints(most=12):
            system.network.cut()
            load.goes_on(100)
            status = system.status()
            assert status["store_problem"] is not None and status["log"]["unread_bytes"] > 0
            assert_shown_as_away(system)
        system.network.mend()
        system.caught_up(load.answered, RECOVERY)
        system.move_champion("2", RECOVERY)
        assert_shown_as_back(system)
    assert load.failures == []
    system.assert_counted_once()


def sessions(system: System) -> int:
    """Of the servers' host, in PostgreSQL."""
    with system.database() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'store' AND client_addr = %s",
            [system.network.servers.address],
        ).fetchone()
    return int(row[0]) if row else 0


def test_packets_swallowed(system: System) -> None:
    """Nobody is told that the other side is gone: both sides give up within half a minute, locks and all."""
    with system.load() as load:
        system.caught_up(load.answered)
        with system["sync"].complaints(most=6), system["scheduler"].complaints(most=12):
            system.network.swallow()
            wait_for(lambda: sessions(system) == 0, "PostgreSQL lets go of the sessions", 40)
            for name in ("sync", "scheduler"):
                words = len(system[name].words())
                wait_for(lambda: "store" in system[name].words()[-words:], f"{name} gives up waiting", 40)  # noqa: B023
            assert system.status()["store_problem"] is not None
            load.goes_on(50)
            assert_shown_as_away(system)
        system.network.mend()
        system.caught_up(load.answered, RECOVERY)
        system.move_champion("1", RECOVERY)
        assert_shown_as_back(system)
    assert load.failures == []
    system.assert_counted_once()
