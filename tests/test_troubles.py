"""What is away for a while: told when it lasts, told afterwards when it could not be told before, and told once."""

from __future__ import annotations

import pytest

from monitoring.alerts import Alerts
from monitoring.incidents import Incidents
from monitoring.store import Store, StoreError
from pipeline.troubles import Troubles
from tests.alerting import NOON, later


class Away:
    """Troubles of a scheduler by a clock that the test moves."""

    def __init__(self, store: Store) -> None:
        from config.settings import Settings

        self.now = 0.0
        self.incidents = Incidents(store)
        self.troubles = Troubles(Alerts.of(Settings(), store), 300.0, lambda: self.now)

    def look(self, minutes: float) -> None:
        self.now = minutes * 60
        self.troubles.tolerate("logs", "the logs are not read", "python main.py doctor", NOON)

    def causes(self) -> list[tuple[str, str]]:
        return [(one.status, one.cause) for one in self.incidents.latest()]


def test_a_short_outage_is_nobodys_concern(store: Store) -> None:
    away = Away(store)
    away.look(0)
    away.look(4.9)
    away.troubles.settle("logs", NOON)
    away.look(9)
    away.look(13)
    assert away.causes() == []


def test_an_outage_that_lasts_is_told_once_and_resolved_at_its_end(store: Store) -> None:
    away = Away(store)
    for minutes in (0, 5, 6, 7):
        away.look(minutes)
    assert away.causes() == [("open", "the logs are not read")]
    away.troubles.settle("logs", later(1))
    assert away.causes() == [("resolved", "the logs are not read")]
    assert away.incidents.latest()[0].count == 1


def test_an_outage_of_the_store_itself_is_told_when_it_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise StoreError("the store is away")

    away = Away(store)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "writing", gone)
        away.look(0)
        for minutes in (5, 60):
            with pytest.raises(StoreError):
                away.look(minutes)
        with pytest.raises(StoreError):
            away.troubles.settle("logs", NOON)
    away.now = 90 * 60
    away.troubles.settle("logs", NOON)
    assert away.causes() == [("resolved", "for 90 minutes, until now: the logs are not read")]
    away.troubles.settle("logs", NOON)
    assert len(away.causes()) == 1
