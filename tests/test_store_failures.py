"""PostgreSQL is stopped, cuts its connections or hangs, under the store and MLflow at once, while predictions go on."""

from __future__ import annotations

import pytest

from tests.parts import wait_for
from tests.whole_system import System

pytestmark = pytest.mark.integration
#: Seconds after which everything has caught up with a part that is back.
RECOVERY = 40.0


def test_postgresql_stopped(system: System) -> None:
    """Predictions go on and wait in the log; a trouble is told once; all is read once it is back, and told as over."""
    with system.load() as load:
        with system["sync"].complaints(most=4), system["scheduler"].complaints(most=16):
            system.postgres.stop()
            load.goes_on(250)  # two attempts to read, and longer than `alerts.tolerated_outage_minutes` tolerates
            status = system.status()
            system.watched.shows("StoreUnreachable", "mlops_store_reachable", scheduler=0, sync=0)
            system.watched.shows("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=0, sync=0)
        assert "Connection refused" in status["store_problem"]
        assert status["log"]["unread_bytes"] > 0
        system.postgres.start()
        system.caught_up(load.answered, RECOVERY)
        assert system.status()["store_problem"] is None
        wait_for(lambda: system.incident("the logs are not read") == "resolved", "the outage is in the history")
        system.watched.shows_no_longer("StoreUnreachable", "mlops_store_reachable", scheduler=1, sync=1)
        system.watched.shows_no_longer("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=1, sync=1)
    assert load.failures == []
    system.assert_counted_once()


def test_connections_cut_in_mid_transaction(system: System) -> None:
    """Whatever a transaction had done is undone and done again: nothing is lost, nothing counted twice."""
    others = "pg_stat_activity WHERE datname = 'store' AND pid <> pg_backend_pid()"
    with system.load() as load, system.database() as connection:
        cut = 0
        for _ in range(20):
            load.goes_on(10)
            row = connection.execute(f"SELECT count(pg_terminate_backend(pid)) FROM {others}").fetchone()
            cut += row[0] if row else 0
        assert cut >= 5
        system.caught_up(load.answered, RECOVERY)
        system.watched.shows_no_longer("StoreUnreachable", "mlops_store_reachable", scheduler=1, sync=1)
    assert load.failures == []
    system.assert_counted_once()


def test_postgresql_hanging(system: System) -> None:
    """It accepts and never answers: predictions go on, `status` answers, and all is read when it answers again."""
    with system.load() as load:
        with system.postgres.held_still():
            load.goes_on(100)
            assert "store" in system.status()["store_problem"]
            system.watched.shows("StoreUnreachable", "mlops_store_reachable", scheduler=0, sync=0)
            system.watched.shows("MlflowUnreachable", "mlops_mlflow_reachable", sync=0)
            wait_for(system.watched.lines_wait, "the lag shows, which IngestionLag reads")
        system.caught_up(load.answered, RECOVERY)
        wait_for(lambda: not system.watched.lines_wait(), "the lag is gone")
        system.watched.shows_no_longer("StoreUnreachable", "mlops_store_reachable", scheduler=1, sync=1)
        system.watched.shows_no_longer("MlflowUnreachable", "mlops_mlflow_reachable", scheduler=1, sync=1)
    assert load.failures == []
    system.assert_counted_once()
