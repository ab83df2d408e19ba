"""From a table as it was read to features by kind and class indices, with what there is to say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings
from models.schema import ClassLabel, Feature, Schema
from pipeline.column_kinds import Column, Rules, learn_column
from pipeline.conforming import conform, conform_column
from pipeline.data_split import Rows, time_values
from pipeline.errors import InputError
from pipeline.findings import Finding, warn
from pipeline.leaks import SuspectedLeak, find_leaks
from pipeline.table_reading import Table
from pipeline.target_column import Target, read_target, refuse_too_few, require_column


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """A table made ready: rows with a target (and a time, where one orders them), columns by kind."""

    source: str
    table_rows: int
    table_columns: int
    target_name: str
    #: The kept features, typed as `pipeline.column_values` says; rows are numbered anew from 0.
    frame: pd.DataFrame
    #: Every column but the target, with its kind or why it is left out; without values.
    columns: tuple[Column, ...]
    classes: tuple[ClassLabel, ...]
    #: Indices into `classes`.
    target: NDArray[np.int64]
    #: Of the time column: numbers, or seconds since 1970 UTC.
    time: NDArray[np.float64] | None
    #: Positions in the table of the rows that are kept.
    rows: Rows
    #: The rows that are not, as they were read, with the `reason`.
    quarantine: pd.DataFrame
    leaks: tuple[SuspectedLeak, ...]
    findings: tuple[Finding, ...]

    @property
    def features(self) -> tuple[Feature, ...]:
        """Names and kinds, without what only training rows can tell."""
        return tuple(Feature(name=column.name, kind=column.kind) for column in self.columns if column.kind)


def clean(table: Table, settings: Settings, schema: Schema | None = None) -> Cleaned:
    """Target, quarantine, kinds and findings; raises InputError where no table to train on comes of it."""
    time = _time(table, settings)
    target, rows, quarantine = _usable_rows(table, settings, time, schema)
    codes = target.codes[rows]
    columns, leaks, findings = find_leaks(_columns(table, rows, settings, schema), codes, settings)
    names = list(table.frame.columns)
    findings = [*(f for c in columns for f in c.findings), *findings, *_setting_findings(settings, names)]
    frame = pd.DataFrame({c.name: c.values for c in columns if c.kind is not None}, copy=False)
    if frame.shape[1] == 0:
        raise InputError(f"{table.source}: no column is left to learn from: {why_none(columns)}")
    return Cleaned(
        source=table.source,
        table_rows=table.rows,
        table_columns=len(names),
        target_name=settings.target_column,
        frame=frame,
        classes=target.classes,
        target=codes,
        time=None if time is None else time[rows],
        columns=tuple(replace(column, values=None) for column in columns),
        rows=rows,
        quarantine=quarantine,
        leaks=tuple(leaks),
        findings=tuple(findings),
    )


def _usable_rows(
    table: Table, settings: Settings, time: NDArray[np.float64] | None, schema: Schema | None
) -> tuple[Target, Rows, pd.DataFrame]:
    """The target, the positions of the rows to keep, and the other rows with the reason."""
    name = settings.target_column
    require_column(name, list(table.frame.columns), table.source, "target_column")
    target = read_target(table.frame[name], table.source, schema.classes if schema else None)
    if time is not None:
        target = target.without(~np.isfinite(time), keep_classes=schema is not None)
    folds = settings.model_selection.cross_validation_folds
    refuse_too_few(target, table.source, name, folds, settings.data_quality.minimum_rows)
    return target, np.flatnonzero(target.codes >= 0), _set_aside(table, target, time, settings)


def _time(table: Table, settings: Settings) -> NDArray[np.float64] | None:
    name = settings.data_split.time_column
    if name is None:
        return None
    require_column(name, list(table.frame.columns), table.source, "data_split.time_column")
    if name == settings.target_column:
        raise InputError(f"{table.source}: '{name}' is both target_column and data_split.time_column; give another")
    return time_values(table.frame[name], table.source, name)


def _set_aside(table: Table, target: Target, time: NDArray[np.float64] | None, settings: Settings) -> pd.DataFrame:
    name, most = settings.target_column, settings.data_quality.maximum_quarantined_share
    aside = np.flatnonzero(target.codes < 0)
    share = len(aside) / table.rows
    if share > most:
        raise InputError(
            f"{table.source}: {share:.0%} of the rows have no target '{name}' or no time, more than "
            f"data_quality.maximum_quarantined_share = {most}; mend the table or raise that setting"
        )
    quarantine = table.frame.iloc[aside].copy()
    no_time = np.zeros(len(aside), dtype=bool) if time is None else ~np.isfinite(time[aside])
    reasons = np.where(no_time, "no value in the time column", f"no usable value in the target '{name}'")
    quarantine["reason" if "reason" not in quarantine.columns else "quarantine_reason"] = reasons
    return quarantine


def _columns(table: Table, rows: Rows, settings: Settings, schema: Schema | None) -> list[Column]:
    names = [name for name in table.frame.columns if name != settings.target_column]
    whole = len(rows) == table.rows
    index = pd.RangeIndex(len(rows))

    def values(name: str) -> pd.Series[Any]:
        series = table.frame[name] if whole else table.frame[name].take(rows)
        return series.set_axis(index)

    if schema is None:
        rules = Rules.of(settings, names)
        return [learn_column(name, values(name), rules) for name in names]
    conform(table.frame.iloc[:0], schema, table.source)
    known = {feature.name: feature for feature in schema.features}
    order = [*known, *(name for name in names if name not in known)]
    return [_known_column(name, values(name), known.get(name)) for name in order]


def _known_column(name: str, series: pd.Series[Any], feature: Feature | None) -> Column:
    about = Column(name, str(series.dtype), int(series.isna().sum()), 0)
    if feature is None:
        return replace(about, code="not_in_schema", reason="the model does not read it")
    values = conform_column(series, feature)
    return replace(
        about, kind=feature.kind, values=values, missing=int(values.isna().sum()), distinct=int(values.nunique())
    )


def _setting_findings(settings: Settings, names: Sequence[str]) -> list[Finding]:
    return [
        warn("unknown_column", f"features.drop names '{name}', which is no column", name)
        for name in settings.features.drop
        if name not in names
    ]


def why_none(columns: Sequence[Column]) -> str:
    return "; ".join(f"'{column.name}' {column.reason}" for column in columns[:5]) or "the target is the only column"
