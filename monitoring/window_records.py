"""Hourly profiles in the store, and any window as their sum: hours, hosts and arms add up, and no log is read twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, Row, Select, func, select, tuple_

from monitoring.hour_tallies import HourKey, HourTally, latency_quantile
from monitoring.known_models import KnownModels
from monitoring.profile_codec import decode_profile, encode_profile, merge_encoded
from monitoring.store import Store, upsert
from monitoring.tables import window_profiles
from monitoring.window_profile import Layout, ProfileError, WindowProfile, merge

_KEY = ("hour", "model_version", "experiment", "arm")
_KEYS_A_QUERY = 500


class Window(Struct, frozen=True, kw_only=True):
    """The rows of one version in a stretch of whole hours."""

    #: None when no row could be counted in this reference's bins.
    profile: WindowProfile | None
    rows: int
    #: Rows that are not in the profile: their reference was not at hand, or was another one.
    unprofiled_rows: int
    #: Features that are hashed or dropped in the logs: their cells of the profile mean nothing.
    withheld: frozenset[str]
    #: Rows by the code of a warning.
    warnings: dict[str, int]


class ServedHours(Struct, frozen=True, kw_only=True):
    """How a version was served in one hour or day, whatever the reference."""

    since: datetime
    model_version: str
    predictions: int
    warned_rows: int
    #: Rows by the code of a warning.
    warnings: dict[str, int]
    fallback_rows: int
    mean_latency_ms: float
    #: Within a tenth of itself.
    p95_latency_ms: float | None
    mean_max_probability: float


def add_tallies(connection: Connection, source: int, tallies: Mapping[HourKey, HourTally], models: KnownModels) -> None:
    """Adds counts to the rows of this source, which nobody else writes, inside the caller's transaction."""
    stored = _stored(connection, source, list(tallies))
    for key, tally in tallies.items():
        row = stored.get(key)
        total = HourTally() if row is None else _tally_of(row)
        total.add_figures(tally)
        profile = _added(None if row is None else row.profile, tally, total, key, models)
        values = _values(total) | {"profile": profile}
        upsert(connection, window_profiles, {"source": source, **_key_values(key)}, values)


def window(
    store: Store, layout: Layout, version: str, since: datetime, until: datetime, arm: tuple[str, str] | None = None
) -> Window:
    """The rows of `version` in all hours that touch [since, until), over all hosts.

    `layout` is that of the version's reference; `arm` is (experiment, arm), None takes the rows of all.
    """
    t = window_profiles.c
    query = select(t.rows, t.unprofiled_rows, t.withheld, t.warnings, t.profile)
    with store.reading() as connection:
        rows = connection.execute(_within(query, since, until, version, arm)).all()
    total, unprofiled = sum(row.rows for row in rows), sum(row.unprofiled_rows for row in rows)
    blobs = [row.profile for row in rows if row.profile is not None]
    profile = _merged(blobs, layout)
    return Window(
        profile=profile,
        rows=total,
        unprofiled_rows=max(unprofiled, total - (profile.rows if profile else 0)),
        withheld=frozenset(name for row in rows for name in row.withheld),
        warnings=dict(sum((Counter(row.warnings) for row in rows), Counter())),
    )


def start_of(store: Store, version: str, until: datetime, least: timedelta, most: timedelta, rows: int) -> datetime:
    """Where a window that ends at `until` begins so that it holds `rows` rows of a version: `least` back, or further
    back by whole hours, `most` at most; `least` back too where even that holds none."""
    t = window_profiles.c
    since = hour_start(until - least)
    query = select(t.hour, func.sum(t.rows)).group_by(t.hour).order_by(t.hour.desc())
    found = 0
    with store.reading() as connection:
        for hour, count in connection.execute(_within(query, until - most, until, version)):
            if found >= rows and hour < since:
                break
            found += int(count)
            since = min(since, hour)
    return since


def served_versions(
    store: Store, since: datetime, until: datetime, version: str | None = None, *, by_day: bool = True
) -> list[ServedHours]:
    """Volume, latency and warnings by version, over all hosts and arms: by day (UTC), or the whole window as one."""

    def key_of(row: Row[Any]) -> HourKey:
        return HourKey(day_start(row.hour) if by_day else hour_start(since), row.model_version)

    return _served_by(store, since, until, version, key_of)


def served_altogether(store: Store, since: datetime, until: datetime) -> ServedHours | None:
    """The same of everything that was answered in the window, as one, with '' for the version; None of nothing."""

    def key_of(_: Row[Any]) -> HourKey:
        return HourKey(hour_start(since), "")

    found = _served_by(store, since, until, None, key_of)
    return found[0] if found else None


def answered_hours(store: Store, since: datetime, until: datetime) -> dict[tuple[datetime, str], int]:
    """Rows that were answered in the hours that touch [since, until), by hour and version, over all hosts and arms."""
    t = window_profiles.c
    query = select(t.hour, t.model_version, func.sum(t.rows)).group_by(t.hour, t.model_version)
    with store.reading() as connection:
        rows = connection.execute(_within(query, since, until, None)).all()
    return {(hour, version): int(count) for hour, version, count in rows}


def _served_by(
    store: Store, since: datetime, until: datetime, version: str | None, key_of: Callable[[Row[Any]], HourKey]
) -> list[ServedHours]:
    t = window_profiles.c
    query = select(*(column for column in t if column.name != "profile"))
    sums: dict[HourKey, HourTally] = {}
    with store.reading() as connection:
        for row in connection.execute(_within(query, since, until, version)):
            sums.setdefault(key_of(row), HourTally()).add_figures(_tally_of(row))
    return [_served(key, tally) for key, tally in sorted(sums.items()) if tally.rows]


def day_start(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def hour_start(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _within(
    query: Select[Any], since: datetime, until: datetime, version: str | None, arm: tuple[str, str] | None = None
) -> Select[Any]:
    t = window_profiles.c
    query = query.where(t.hour >= hour_start(since), t.hour < until)
    if version is not None:
        query = query.where(t.model_version == version)
    return query if arm is None else query.where(t.experiment == arm[0], t.arm == arm[1])


def _merged(blobs: Sequence[bytes], layout: Layout) -> WindowProfile | None:
    """The sum of the blobs of this layout, those of another one left aside; None when there are none."""
    try:
        return merge_encoded(blobs, layout) if blobs else None
    except ProfileError:
        found = [profile for profile in (_decoded(blob, layout) for blob in blobs) if profile is not None]
        return merge(found) if found else None


def _decoded(blob: bytes, layout: Layout) -> WindowProfile | None:
    try:
        return decode_profile(blob, layout)
    except ProfileError:
        return None


def _stored(connection: Connection, source: int, keys: Sequence[HourKey]) -> dict[HourKey, Row[Any]]:
    t = window_profiles.c
    found = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        wanted = [tuple(_key_values(key).values()) for key in keys[start : start + _KEYS_A_QUERY]]
        query = select(window_profiles).where(t.source == source, tuple_(*(t[name] for name in _KEY)).in_(wanted))
        for row in connection.execute(query):
            found[HourKey(row.hour, row.model_version, row.experiment, row.arm)] = row
    return found


def _key_values(key: HourKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in _KEY}


def _added(stored: bytes | None, tally: HourTally, total: HourTally, key: HourKey, models: KnownModels) -> bytes | None:
    """The blob with the tally's profile in it; rows that cannot be added to what is stored count as unprofiled."""
    if tally.profile is None:
        return stored
    if stored is None:
        return encode_profile(tally.profile)
    model = models.get(key.model_version)
    before = None if model is None else _decoded(stored, model.profiler.layout)
    if before is None or before.identity != tally.profile.identity:
        total.unprofiled_rows += tally.rows
        return stored
    return encode_profile(merge([before, tally.profile]))


def _tally_of(row: Row[Any]) -> HourTally:
    return HourTally(
        rows=row.rows,
        unprofiled_rows=row.unprofiled_rows,
        withheld=set(row.withheld),
        warned_rows=row.warned_rows,
        warnings=Counter(row.warnings),
        fallback_rows=row.fallback_rows,
        latency_counts=np.frombuffer(row.latency_counts, dtype="<i8").astype(np.int64),
        latency_microseconds=row.latency_microseconds,
        confidence_millionths=row.confidence_millionths,
        estimated_rows=row.estimated_rows,
        estimate_millionths=row.estimate_millionths,
        estimate_variance_millionths=row.estimate_variance_millionths,
    )


def _values(total: HourTally) -> dict[str, Any]:
    return {
        "rows": total.rows,
        "unprofiled_rows": total.unprofiled_rows,
        "withheld": sorted(total.withheld),
        "warned_rows": total.warned_rows,
        "warnings": dict(sorted(total.warnings.items())),
        "fallback_rows": total.fallback_rows,
        "latency_counts": total.latency_counts.astype("<i8").tobytes(),
        "latency_microseconds": total.latency_microseconds,
        "confidence_millionths": total.confidence_millionths,
        "estimated_rows": total.estimated_rows,
        "estimate_millionths": total.estimate_millionths,
        "estimate_variance_millionths": total.estimate_variance_millionths,
    }


def _served(key: HourKey, tally: HourTally) -> ServedHours:
    return ServedHours(
        since=key.hour,
        model_version=key.model_version,
        predictions=tally.rows,
        warned_rows=tally.warned_rows,
        warnings=dict(tally.warnings),
        fallback_rows=tally.fallback_rows,
        mean_latency_ms=tally.latency_microseconds / tally.rows / 1000.0,
        p95_latency_ms=latency_quantile(tally.latency_counts, 0.95),
        mean_max_probability=tally.confidence_millionths / tally.rows / 1e6,
    )
