"""Monitors: what is watched, how closely, how often, and who is told; for a registered model or one version of it.

    MonitorError            a kind, threshold, frequency or channel that there is none of

Nothing needs to be stored: a monitor is as configured, but for what somebody has set for the model, but for what they
have set for the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from config.alert_settings import IncidentKind
from config.errors import ProductError
from config.settings import Settings
from monitoring.alert_tables import monitors
from monitoring.monitor_thresholds import RANGES, default_frequency, default_thresholds
from monitoring.store import Store, lock_writers, to_record, upsert

MonitorStatus = Literal["active", "paused"]
KINDS: tuple[IncidentKind, ...] = tuple(RANGES)
#: Set over a list of channels that would be inherited.
ALL_CHANNELS = ("*",)
_YEAR_HOURS = 8760.0


class MonitorError(ProductError):
    """A monitor cannot be set like that; the message names what can."""

    exit_code: ClassVar[int] = 2


class StoredMonitor(Struct, frozen=True, kw_only=True):
    """What somebody has set; what is None or not among the thresholds is inherited."""

    kind: IncidentKind
    model_name: str
    #: '' is any.
    model_version: str
    thresholds: dict[str, float]
    frequency_hours: float | None
    channels: tuple[str, ...] | None
    status: MonitorStatus | None
    changed_at: datetime
    changed_by: str

    @property
    def scope(self) -> str:
        return scope_of(self.kind, self.model_name, self.model_version)


class Monitor(Struct, frozen=True, kw_only=True):
    """A monitor in force."""

    kind: IncidentKind
    model_name: str
    #: None is any version.
    model_version: str | None
    thresholds: dict[str, float]
    #: None where every event is looked at.
    frequency_hours: float | None
    #: Names of the channels that are told; None is all.
    channels: tuple[str, ...] | None
    status: MonitorStatus
    #: Where what is set for it stands, as `kind/model` or `kind/model/version`; None when all is as configured.
    set_by: tuple[str, ...]

    @property
    def paused(self) -> bool:
        return self.status == "paused"

    @property
    def name(self) -> str:
        return scope_of(self.kind, self.model_name, self.model_version or "")


def monitor_for(
    store: Store, settings: Settings, kind: IncidentKind, model_name: str, model_version: str | None
) -> Monitor:
    """The monitor in force for a version (None: for any, as where a check is of no version)."""
    with store.reading() as connection:
        stored = stored_monitors(connection, kind, model_name, model_version)
    return effective(settings, kind, model_name, model_version, stored)


def stored_monitors(
    connection: Connection, kind: IncidentKind, model_name: str, model_version: str | None
) -> list[StoredMonitor]:
    """What is set for the model, then what is set for the version."""
    query = (
        select(monitors)
        .where(monitors.c.kind == kind, monitors.c.model_name == model_name)
        .where(monitors.c.model_version.in_(["", model_version or ""]))
        .order_by(monitors.c.model_version)
    )
    return [_record(row) for row in connection.execute(query)]


def effective(
    settings: Settings,
    kind: IncidentKind,
    model_name: str,
    model_version: str | None,
    stored: Iterable[StoredMonitor],
) -> Monitor:
    """The configured monitor with what is stored laid over it in turn."""
    layers = list(stored)
    thresholds = default_thresholds(settings, kind)
    channels = _last([one.channels for one in layers])
    for layer in layers:
        thresholds |= {name: value for name, value in layer.thresholds.items() if name in thresholds}
    return Monitor(
        kind=kind,
        model_name=model_name,
        model_version=model_version,
        thresholds=thresholds,
        frequency_hours=_last([default_frequency(settings, kind), *(one.frequency_hours for one in layers)]),
        channels=None if channels == ALL_CHANNELS else channels,
        status=_last(["active", *(one.status for one in layers)]),
        set_by=tuple(one.scope for one in layers),
    )


class Monitors:
    """Reads and sets what is stored."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def all(self) -> list[Monitor]:
        """Those of each kind for any version of the configured model, and those of versions with something set."""
        model = self._settings.registered_model_name
        with self._store.reading() as connection:
            query = select(monitors).where(monitors.c.model_name == model).order_by(monitors.c.model_version)
            stored = [_record(row) for row in connection.execute(query)]
        scopes = [(kind, "") for kind in KINDS]
        scopes += [(one.kind, one.model_version) for one in stored if one.model_version]
        return [
            effective(
                self._settings,
                kind,
                model,
                version or None,
                (one for one in stored if one.kind == kind and one.model_version in ("", version)),
            )
            for kind, version in sorted(scopes, key=lambda scope: KINDS.index(scope[0]))
        ]

    def set(
        self,
        kind: str,
        model_version: str | None,
        at: datetime,
        who: str,
        *,
        thresholds: Mapping[str, float] | None = None,
        frequency_hours: float | None = None,
        channels: tuple[str, ...] | None = None,
        status: MonitorStatus | None = None,
    ) -> Monitor:
        """Sets what is given and leaves the rest as it is. Raises MonitorError for what there is none of."""
        known = _known_kind(kind)
        changed = {"frequency_hours": frequency_hours, "channels": channels, "status": status}
        changed = {name: value for name, value in changed.items() if value is not None}
        self._check(known, thresholds or {}, frequency_hours, () if channels in (None, ALL_CHANNELS) else channels)
        model = self._settings.registered_model_name
        with self._store.writing() as connection:
            lock_writers(connection, monitors)
            stored = stored_monitors(connection, known, model, model_version)
            own = next((one.thresholds for one in stored if one.model_version == (model_version or "")), {})
            merged = {**own, **(thresholds or {})}
            key = {"kind": known, "model_name": model, "model_version": model_version or ""}
            values = {**changed, "thresholds": merged, "changed_at": at, "changed_by": who}
            upsert(connection, monitors, key, values)
        return monitor_for(self._store, self._settings, known, model, model_version)

    def reset(self, kind: str, model_version: str | None) -> Monitor:
        """As configured again (a version's: as what is set for the model)."""
        known, model = _known_kind(kind), self._settings.registered_model_name
        statement = delete(monitors).where(
            monitors.c.kind == known, monitors.c.model_name == model, monitors.c.model_version == (model_version or "")
        )
        with self._store.writing() as connection:
            connection.execute(statement)
        return monitor_for(self._store, self._settings, known, model, model_version)

    def _check(
        self, kind: IncidentKind, thresholds: Mapping[str, float], hours: float | None, channels: Iterable[str]
    ) -> None:
        for name, value in thresholds.items():
            if name not in RANGES[kind]:
                raise MonitorError(f"{kind} has no threshold {name}; it has {', '.join(RANGES[kind]) or 'none'}")
            if not RANGES[kind][name].holds(value):
                raise MonitorError(f"{name} of {kind}: expected {RANGES[kind][name]}, got {value:.15g}")
        if hours is not None and default_frequency(self._settings, kind) is None:
            raise MonitorError(f"{kind} has no frequency: every event is looked at")
        if hours is not None and not 0 < hours <= _YEAR_HOURS:
            raise MonitorError(f"frequency of {kind}: expected over 0, up to {_YEAR_HOURS:.0f} hours, got {hours:.15g}")
        configured = [channel.name for channel in self._settings.alerts.channels]
        if unknown := [name for name in channels if name not in configured]:
            listed = ", ".join(configured) or "none"
            raise MonitorError(f"there is no channel {', '.join(unknown)}; `alerts.channels` names {listed}")


def scope_of(kind: str, model_name: str, model_version: str) -> str:
    return "/".join(filter(None, (kind, model_name, model_version)))


def _known_kind(kind: str) -> IncidentKind:
    for known in KINDS:
        if kind == known:
            return known
    raise MonitorError(f"there is no monitor {kind}; there are {', '.join(KINDS)}")


def _record(row: Any) -> StoredMonitor:
    return to_record(row, StoredMonitor)


def _last(values: list[Any]) -> Any:
    """The last that is not None."""
    return next((value for value in reversed(values) if value is not None), None)
