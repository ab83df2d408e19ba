"""`monitors`: what is watched, and how."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from commands.people import user_name
from commands.tables import say, show_table
from config.settings import load_settings
from monitoring.monitors import ALL_CHANNELS, Monitor, MonitorError, Monitors, MonitorStatus
from monitoring.store import Store


def list_monitors() -> list[Monitor]:
    settings = load_settings()
    with Store(settings.store_address) as store:
        return Monitors(store, settings).all()


def set_monitor(
    kind: str, version: str | None, thresholds: Sequence[str], frequency: float | None, channels: str | None
) -> Monitor:
    """Raises MonitorError for what there is none of."""
    if not thresholds and frequency is None and channels is None:
        raise MonitorError("nothing to set: give --threshold NAME=VALUE, --frequency HOURS or --channels NAMES")
    settings = load_settings()
    with Store(settings.store_address) as store:
        return Monitors(store, settings).set(
            kind,
            version,
            datetime.now(UTC),
            user_name(),
            thresholds=dict(_threshold(text) for text in thresholds),
            frequency_hours=frequency,
            channels=_channels(channels),
        )


def switch_monitor(kind: str, version: str | None, status: MonitorStatus) -> Monitor:
    settings = load_settings()
    with Store(settings.store_address) as store:
        return Monitors(store, settings).set(kind, version, datetime.now(UTC), user_name(), status=status)


def reset_monitor(kind: str, version: str | None) -> Monitor:
    settings = load_settings()
    with Store(settings.store_address) as store:
        return Monitors(store, settings).reset(kind, version)


def print_monitors(monitors: Sequence[Monitor]) -> None:
    rows = [
        (
            monitor.kind,
            monitor.model_version or "any",
            monitor.status,
            "–" if monitor.frequency_hours is None else f"{monitor.frequency_hours:g} h",
            _told(monitor),
            ", ".join(f"{name}={value:g}" for name, value in monitor.thresholds.items()),
        )
        for monitor in monitors
    ]
    show_table(rows, ("kind", "version", "status", "every", "channels", "thresholds"))


def print_monitor(monitor: Monitor) -> None:
    print_monitors([monitor])
    say("as configured" if not monitor.set_by else f"set by {', '.join(monitor.set_by)}")


def _told(monitor: Monitor) -> str:
    if monitor.channels is None:
        return "all"
    return ", ".join(monitor.channels) or "none"


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise MonitorError(f"--threshold {text}: expected NAME=VALUE with a number, such as drift_score=0.2") from None


def _channels(text: str | None) -> tuple[str, ...] | None:
    """None leaves them as they are; empty text names none."""
    if text is None:
        return None
    if text.strip() == "all":
        return ALL_CHANNELS
    return tuple(name.strip() for name in text.split(",") if name.strip())
