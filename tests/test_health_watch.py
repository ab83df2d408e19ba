"""An outage of the server: one incident, and no more words than there is news."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from monitoring.alerts import Alerts
from monitoring.detections import Detections
from monitoring.incidents import Incidents
from monitoring.store import Store
from pipeline.health import HealthWatch
from tests.alerting import later


class Watched:
    """A watch over a server that has `problem`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.problem: str | None = None
        self._seconds = 0
        self._watch = HealthWatch(Alerts.of(Settings(), store), lambda: self.problem)

    def looks(self, count: int) -> None:
        """Every half minute."""
        for _ in range(count):
            self._watch.look(later(seconds=self._seconds))
            self._seconds += 30

    def detections(self) -> list[float | None]:
        return [one.score for one in Detections(self.store).latest()][::-1]


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Watched]:
    del home
    with Store(f"sqlite:///{tmp_path / 'mlops.db'}") as store:
        yield Watched(store)


def test_a_server_that_is_down_all_night_is_written_down_once_an_hour(server: Watched) -> None:
    server.looks(1)
    server.problem = "refused"
    server.looks(2 + 8 * 120)
    assert server.detections() == [3.0, 123.0, 243.0, 363.0, 483.0, 603.0, 723.0, 843.0]
    [incident] = Incidents(server.store).unresolved()
    assert (incident.count, incident.severity) == (8, "critical")


def test_another_cause_is_news_and_one_that_alternates_is_not(server: Watched) -> None:
    server.looks(1)
    for problem in ["refused"] * 3 + ["answers 503", "refused"] * 20:
        server.problem = problem
        server.looks(1)
    assert len(server.detections()) == 2
    assert "answers 503" in Incidents(server.store).unresolved()[0].cause


def test_an_outage_after_a_recovery_is_told_anew(server: Watched) -> None:
    for _ in range(2):
        server.problem = None
        server.looks(1)
        assert Incidents(server.store).unresolved() == []
        server.problem = "refused"
        server.looks(4)
    assert server.detections() == [3.0, 3.0]
