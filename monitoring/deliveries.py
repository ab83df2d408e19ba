"""The outbox: alerts that are to be sent, written with the event that deserves them, and what became of each.

A delivery is claimed before it is sent, and the claim ends by itself: a sender that is killed in between leaves it to
be tried again. So each alert is sent at least once, and twice only when a sender was killed after the receiver had
taken it and before that was noted, or when a receiver took it and did not answer in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection, func, insert, or_, select, update

from config.alert_settings import AlertSettings
from monitoring.alert_tables import deliveries, incident_events
from monitoring.incident_events import EventKind, add_event
from monitoring.store import Store, to_record
from monitoring.tables import incidents

LONGEST_WAIT = timedelta(hours=1)
#: Over the time-out of the receiver, so that a claim outlasts the sending.
_MARGIN = timedelta(seconds=30)


class Delivery(Struct, frozen=True, kw_only=True):
    id: int
    incident: int
    event: int
    channel: str
    status: Literal["waiting", "sent", "failed"]
    attempts: int
    created_at: datetime
    #: While it waits: not before then.
    next_attempt_at: datetime
    #: Why the last attempt failed.
    last_error: str | None
    sent_at: datetime | None


def add_deliveries(
    connection: Connection, incident_id: int, event_id: int, channels: Iterable[str], at: datetime
) -> None:
    """In the transaction of the event, so that there is either both or neither."""
    for channel in channels:
        values = {"incident": incident_id, "event": event_id, "channel": channel, "status": "waiting", "attempts": 0}
        connection.execute(insert(deliveries).values(**values, created_at=at, next_attempt_at=at))


def heard(connection: Connection, incident_id: int) -> dict[str, list[EventKind]]:
    """What each channel was told of an incident, or will be, oldest first; what was given up was not."""
    query = (
        select(deliveries.c.channel, incident_events.c.event)
        .join(incident_events, incident_events.c.id == deliveries.c.event)
        .where(deliveries.c.incident == incident_id, deliveries.c.status != "failed")
        .order_by(deliveries.c.id)
    )
    found: dict[str, list[EventKind]] = {}
    for channel, event in connection.execute(query):
        found.setdefault(channel, []).append(event)
    return found


class Outbox:
    """Hands deliveries to who sends them. Any number of senders may work on one store."""

    def __init__(self, store: Store, settings: AlertSettings) -> None:
        self._store = store
        self._settings = settings

    def due_channels(self, now: datetime) -> list[str]:
        """Names of the channels that something is to be sent to now."""
        due = select(deliveries.c.channel).distinct().where(*self._due(now)).order_by(deliveries.c.channel)
        with self._store.reading() as connection:
            return [str(name) for name in connection.execute(due).scalars()]

    def claim(self, channel: str, now: datetime) -> Delivery | None:
        """The oldest delivery that is due, counted as attempted and kept from other senders for a while."""
        query = select(deliveries).where(*self._due(now), deliveries.c.channel == channel).order_by(deliveries.c.id)
        while True:
            with self._store.writing() as connection:
                row = connection.execute(query.limit(1)).one_or_none()
                if row is None:
                    return None
                waiting = to_record(row, Delivery)
                if waiting.attempts < self._settings.attempts:
                    claimed = self._claimed(connection, waiting, now)
                    if claimed is not None:
                        return claimed
                else:  # the sender of the last attempt was killed
                    self._give_up(connection, waiting, now, waiting.last_error or "ended while it was being sent")

    def sent(self, delivery: Delivery, at: datetime) -> None:
        with self._store.writing() as connection:
            if _close(connection, delivery, status="sent", sent_at=at, last_error=None):
                _note(connection, delivery, "alert_sent", at, {"attempts": delivery.attempts})

    def failed(self, delivery: Delivery, at: datetime, error: str) -> None:
        """Tried again later, or given up after the last attempt."""
        with self._store.writing() as connection:
            if delivery.attempts >= self._settings.attempts:
                self._give_up(connection, delivery, at, error)
            else:
                wait = self._wait_after(delivery.attempts)
                _close(connection, delivery, last_error=error, next_attempt_at=at + wait)

    def refuse(self, delivery: Delivery, at: datetime, error: str) -> None:
        """Given up at once: no attempt can help."""
        with self._store.writing() as connection:
            self._give_up(connection, delivery, at, error)

    def counts(self) -> dict[str, int]:
        """Of all deliveries, by status."""
        query = select(deliveries.c.status, func.count()).group_by(deliveries.c.status)
        with self._store.reading() as connection:
            found = {str(status): int(count) for status, count in connection.execute(query)}
        return {"waiting": 0, "sent": 0, "failed": 0} | found

    def of_incident(self, incident_id: int) -> list[Delivery]:
        """Oldest first."""
        query = select(deliveries).where(deliveries.c.incident == incident_id).order_by(deliveries.c.id)
        with self._store.reading() as connection:
            return [to_record(row, Delivery) for row in connection.execute(query)]

    def _claimed(self, connection: Connection, waiting: Delivery, now: datetime) -> Delivery | None:
        """None when another sender was faster."""
        attempts = waiting.attempts + 1
        until = now + max(self._wait_after(attempts), self._lease)
        statement = (
            update(deliveries)
            .where(deliveries.c.id == waiting.id, *_unchanged(waiting))
            .values(attempts=attempts, next_attempt_at=until)
        )
        row = connection.execute(statement.returning(*deliveries.c)).one_or_none()
        return None if row is None else to_record(row, Delivery)

    def _wait_after(self, attempts: int) -> timedelta:
        seconds = self._settings.retry_seconds * 2.0 ** min(attempts - 1, 30)
        return min(timedelta(seconds=min(seconds, 1e6)), self._longest_wait)

    @property
    def _longest_wait(self) -> timedelta:
        return max(LONGEST_WAIT, timedelta(seconds=self._settings.retry_seconds))

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._settings.timeout_seconds) + _MARGIN

    def _due(self, now: datetime) -> tuple[Any, ...]:
        """Its time has come, or was set by a clock that has been set back since."""
        d, beyond = deliveries.c, now + max(self._longest_wait, self._lease)
        return d.status == "waiting", or_(d.next_attempt_at <= now, d.next_attempt_at > beyond)

    def _give_up(self, connection: Connection, delivery: Delivery, at: datetime, error: str) -> None:
        if _close(connection, delivery, status="failed", last_error=error):
            _note(connection, delivery, "alert_failed", at, {"attempts": delivery.attempts, "error": error})


def _unchanged(delivery: Delivery) -> tuple[Any, ...]:
    """Nobody has sent, given up or claimed it since it was read."""
    return deliveries.c.status == "waiting", deliveries.c.attempts == delivery.attempts


def _close(connection: Connection, delivery: Delivery, **values: Any) -> bool:
    statement = update(deliveries).where(deliveries.c.id == delivery.id, *_unchanged(delivery)).values(**values)
    return bool(connection.execute(statement).rowcount)


def _note(connection: Connection, delivery: Delivery, event: EventKind, at: datetime, detail: dict[str, Any]) -> None:
    severity = connection.execute(select(incidents.c.severity).where(incidents.c.id == delivery.incident)).scalar_one()
    add_event(connection, delivery.incident, event, severity, at, detail={"channel": delivery.channel, **detail})
