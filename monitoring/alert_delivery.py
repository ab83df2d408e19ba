"""Delivery: takes alerts out of the outbox and sends them, each channel in a thread of its own.

`look` never blocks: a receiver that hangs holds up the alerts of its own channel and nothing else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from config.alert_settings import AlertChannel
from config.settings import Settings
from monitoring.alert_policy import AlertPolicy
from monitoring.alert_sending import Sending
from monitoring.alert_text import Message, alert_message
from monitoring.deliveries import Delivery, Outbox
from monitoring.incident_events import history
from monitoring.incidents import Incidents
from monitoring.store import Store, StoreError

log = logging.getLogger(__name__)
#: How long the end waits for threads whose sending was ended.
STOP_SECONDS = 1.0


class OnItsWay(Protocol):
    def wait(self) -> str | None: ...

    def end(self) -> None: ...


class AlertDelivery:
    """Sends what is due. `start_sending` is replaced in tests."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Callable[[], datetime],
        start_sending: Callable[[str, Message, float], OnItsWay] = Sending,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._start_sending = start_sending
        self._outbox = Outbox(store, settings.alerts)
        self._incidents = Incidents(store, AlertPolicy(settings))
        self._threads: dict[str, threading.Thread] = {}
        self._under_way: dict[str, OnItsWay] = {}
        self._stopped = threading.Event()

    def look(self) -> None:
        """Tells again what nobody has acknowledged, and starts to send what is due."""
        now = self._clock()
        self._incidents.escalate(now)
        for name in self._outbox.due_channels(now):
            thread = self._threads.get(name)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._work, args=(name,), name=f"alerts to {name}", daemon=True)
                self._threads[name] = thread
                thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Until what was started has ended."""
        for thread in self._threads.values():
            thread.join(seconds)

    def stop(self) -> None:
        """Ends what is on its way; it is tried again by whoever looks next."""
        self._stopped.set()
        for sending in list(self._under_way.values()):
            sending.end()
        self.wait(STOP_SECONDS)

    def _work(self, name: str) -> None:
        try:
            self._send_due(name)
        except (StoreError, OSError) as error:  # what was claimed is tried again when the claim has run out
            log.error("alerts to %s: %s", name, error)

    def _send_due(self, name: str) -> None:
        """Until nothing is due or the receiver fails; then the next look goes on."""
        while not self._stopped.is_set() and (delivery := self._outbox.claim(name, self._clock())) is not None:
            channel = self._settings.alerts.channel(name)
            if channel is None:
                self._outbox.refuse(delivery, self._clock(), f"the channel {name} is no longer configured")
                continue
            error = self._send(channel, delivery)
            if self._stopped.is_set() and error is not None:
                return
            if error is not None:
                log.warning("incident %d was not told to %s: %s", delivery.incident, name, error)
                self._outbox.failed(delivery, self._clock(), error)
                return
            self._outbox.sent(delivery, self._clock())

    def _send(self, channel: AlertChannel, delivery: Delivery) -> str | None:
        if not os.environ.get(channel.url_env, "").strip():
            return f"the environment variable {channel.url_env} is not set"
        sending = self._start_sending(channel.url_env, self._message(delivery), self._settings.alerts.timeout_seconds)
        self._under_way[channel.name] = sending
        try:
            if self._stopped.is_set():
                sending.end()
            return sending.wait()
        finally:
            del self._under_way[channel.name]

    def _message(self, delivery: Delivery) -> Message:
        incident = self._incidents.get(delivery.incident)
        events = {event.id: event for event in history(self._store, delivery.incident)}
        assert incident is not None  # noqa: S101 - a delivery goes with its incident
        return alert_message(incident, events[delivery.event], self._settings.registered_model_name)
