"""`alerts`: tries the channels, and sends what waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from commands.tables import say, show_table
from config.settings import ConfigurationError, load_settings
from monitoring.alert_delivery import AlertDelivery
from monitoring.alert_sending import send
from monitoring.alert_text import trial_message
from monitoring.deliveries import Outbox
from monitoring.store import Store


class Trial(Struct, frozen=True, kw_only=True):
    channel: str
    #: The environment variable that holds the address.
    url_env: str
    #: Why the receiver did not take it; None when it did.
    error: str | None


class Sent(Struct, frozen=True, kw_only=True):
    """What the outbox holds after a round, by status."""

    sent: int
    waiting: int
    failed: int


def try_channels(name: str | None) -> list[Trial]:
    """Sends a test message to each channel or to one. Raises ConfigurationError when there is none."""
    settings = load_settings().alerts
    channels = [channel for channel in settings.channels if name in (None, channel.name)]
    if not channels:
        known = ", ".join(channel.name for channel in settings.channels)
        missing = f"`alerts.channels` names no channel {name}; it names {known}" if known else "there are no channels"
        raise ConfigurationError(f"{missing}; docs/alerts.md says how to add one to `alerts.channels`")
    return [
        Trial(
            channel=channel.name,
            url_env=channel.url_env,
            error=send(channel.url_env, trial_message(channel.name), settings.timeout_seconds),
        )
        for channel in channels
    ]


def send_due() -> Sent:
    """One round over all channels; each ends when nothing is due any more or its receiver fails."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        delivery = AlertDelivery(settings, store, lambda: datetime.now(UTC))
        outbox = Outbox(store, settings.alerts)
        before = outbox.counts()
        delivery.look()
        try:
            delivery.wait()
        finally:
            delivery.stop()
        after = outbox.counts()
    new = {status: after[status] - before[status] for status in ("sent", "failed")}
    return Sent(sent=new["sent"], failed=new["failed"], waiting=after["waiting"])


def print_trials(trials: Sequence[Trial]) -> None:
    rows = [(one.channel, "failed" if one.error else "taken", one.error or "the receiver has it") for one in trials]
    show_table(rows, ("channel", "test", ""))


def print_sent(sent: Sent) -> None:
    say(f"{sent.sent} sent, {sent.failed} given up, {sent.waiting} waiting to be tried again")
