"""The clock of a host jumps by a day, forth and back, while everything runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.parts import wait_for
from tests.whole_system import System

pytestmark = pytest.mark.integration
DAY = 86_400
BEHIND = "time() - mlops_sync_last_success_timestamp_seconds > bool 300"
LATE = "max by (job) (job:mlops_overdue_seconds) > bool 3600"


def checks_of_drift(system: System) -> int:
    with system.database() as connection:
        row = connection.execute("SELECT count(*) FROM drift_checks").fetchone()
    return int(row[0]) if row else 0


def daily_file(system: System, days: int) -> bool:
    """Whether the log has a file of the day so many days from now."""
    day = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y%m%d")
    return (system.server_home / "logs" / f"predictions_{day}.jsonl").exists()


def assert_shown(system: System, *, behind: bool) -> None:
    shows = system.watched.shows if behind else system.watched.shows_no_longer
    shows("SyncStalled", BEHIND, scheduler=behind, sync=behind)
    shows("JobMissed", LATE, scheduler=behind)


@pytest.mark.parametrize("days", [1, -1])
def test_clock_jumps_by_a_day_and_back(system: System, days: int) -> None:
    """Predictions go on in the file of the day that the clock says; no job is missed, and none runs twice a jump.

    To Prometheus, which keeps the time, what a host that is a day behind has just done is a day old.
    """
    before = checks_of_drift(system)
    with system.load() as load, system["scheduler"].complaints(most=2), system["sync"].complaints(most=2):
        for jumps, seconds in enumerate((days * DAY, 0), start=1):
            system.clock.set_ahead(seconds)
            load.goes_on(100)
            system.caught_up(load.answered | system.log_beside_the_scheduler(), 15)
            system.move_champion("2" if seconds else "1", 15)
            wait_for(lambda: checks_of_drift(system) == before + jumps, "the check that is due has run")  # noqa: B023
            assert_shown(system, behind=seconds < 0)
        load.goes_on(250)  # longer than between two looks at what is due
        assert checks_of_drift(system) == before + 2
    assert load.failures == []
    assert daily_file(system, days)
    assert len(load.answered) == len(load.ids)
    system.assert_counted_once()
    assert system.run_main(system.server_home, "monitor")["rows"] > 0
    assert system.incidents_open() == []
