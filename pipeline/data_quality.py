"""The quality gate: what a table is like, as plain JSON, and whether it may be trained on.

QualityError (an InputError)    the gate refuses the table; holds the report
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct
from numpy.typing import NDArray

from config.settings import Settings
from models.row_hash import row_hashes
from models.schema import ClassLabel, Kind
from pipeline.column_kinds import Column
from pipeline.data_split import LazyRaw
from pipeline.errors import InputError
from pipeline.findings import Finding, FindingLevel, warn, worst
from pipeline.leaks import SuspectedLeak
from pipeline.table_cleaning import Cleaned

#: A class with a smaller share is worth a word: accuracy says little then.
RARE_SHARE = 0.05


class QualityError(InputError):
    """The gate refuses the table; the report says why, for whoever wants to keep it."""

    def __init__(self, message: str, report: QualityReport) -> None:
        super().__init__(message)
        self.report = report


class ColumnQuality(Struct, frozen=True, kw_only=True):
    name: str
    dtype: str
    #: None for a column that is left out.
    kind: Kind | None
    missing: int
    missing_share: float
    unique: int
    #: Of numeric columns a number, of dates ISO 8601 text.
    minimum: float | str | None = None
    maximum: float | str | None = None
    left_out: str | None = None
    left_out_code: str | None = None


class ClassShare(Struct, frozen=True, kw_only=True):
    label: ClassLabel
    rows: int
    share: float


class TimeOrder(Struct, frozen=True, kw_only=True):
    column: str
    #: The rows stand in the file in the order of time.
    sorted: bool
    #: Numbers, or seconds since 1970 UTC.
    first: float
    last: float
    distinct: int


class QualityReport(Struct, frozen=True, kw_only=True):
    """Counts are of rows with a usable target, but for `rows` and `quarantined`."""

    source: str
    level: FindingLevel
    rows: int
    columns: int
    quarantined: int
    duplicates: int
    duplicate_share: float
    constants: list[str]
    target: str
    target_balance: list[ClassShare]
    suspected_leaks: list[SuspectedLeak]
    time_order: TimeOrder | None
    findings: list[Finding]
    column_reports: list[ColumnQuality]
    format_version: int = 1


def quality_report(cleaned: Cleaned, settings: Settings, more: Sequence[Finding] = ()) -> QualityReport:
    """What there is to say about a cleaned table, and `more` findings of later steps."""
    columns, rows = cleaned.columns, len(cleaned.target)
    duplicates = _duplicates(cleaned)
    share = duplicates / rows
    shares = balance(cleaned.classes, cleaned.target)
    quarantined = cleaned.table_rows - rows
    every = [*cleaned.findings, *more, *balance_findings(shares), *left_out_findings(columns)]
    if share > settings.data_quality.duplicate_threshold:
        every.append(warn("duplicates", f"{duplicates} rows ({share:.0%}) repeat an earlier row"))
    if quarantined:
        every.append(warn("quarantined", f"{quarantined} rows without a usable target or time are set aside"))
    order = None if cleaned.time is None else time_order(str(settings.data_split.time_column), cleaned.time)
    if order is not None and not order.sorted:
        every.append(warn("time_order", f"the rows do not stand in the order of '{order.column}'", order.column))
    return QualityReport(
        source=cleaned.source,
        level=worst(every),
        rows=cleaned.table_rows,
        columns=cleaned.table_columns,
        quarantined=quarantined,
        duplicates=duplicates,
        duplicate_share=round(share, 6),
        constants=[column.name for column in columns if column.code == "constant"],
        target=cleaned.target_name,
        target_balance=shares,
        suspected_leaks=list(cleaned.leaks),
        time_order=order,
        findings=every,
        column_reports=[column_quality(column, cleaned) for column in columns],
    )


def _duplicates(cleaned: Cleaned) -> int:
    """Rows that repeat an earlier one in every feature and in the target."""
    hashes = row_hashes(LazyRaw(cleaned.frame, cleaned.features), 0)
    # Classes are few; an odd factor moves them apart without a collision of their own.
    distinct = np.unique(hashes * np.uint64(0x9E3779B97F4A7C15) + cleaned.target.astype(np.uint64))
    return len(cleaned.target) - len(distinct)


def refuse_if_told(report: QualityReport) -> None:
    """Raises QualityError with the messages of the findings that refuse the table."""
    messages = [finding.message for finding in report.findings if finding.level == "refuse"]
    if messages:
        more = f" (and {len(messages) - 3} more)" if len(messages) > 3 else ""
        sentence = f"{report.source}: refused by the quality gate: {'; '.join(messages[:3])}{more}"
        raise QualityError(sentence, report)


def column_quality(column: Column, cleaned: Cleaned) -> ColumnQuality:
    low, high = _range(column.kind, cleaned.frame[column.name]) if column.kind else (None, None)
    return ColumnQuality(
        name=column.name,
        dtype=column.dtype,
        kind=column.kind,
        missing=column.missing,
        missing_share=round(column.missing / max(1, len(cleaned.target)), 6),
        unique=column.distinct,
        minimum=low,
        maximum=high,
        left_out=column.reason,
        left_out_code=column.code,
    )


def _range(kind: Kind, values: pd.Series[Any]) -> tuple[float | str | None, float | str | None]:
    if kind not in ("numeric", "datetime"):
        return None, None
    low, high = values.min(), values.max()
    if pd.isna(low):
        return None, None
    return (low.isoformat(), high.isoformat()) if kind == "datetime" else (float(low), float(high))


def balance(classes: Sequence[ClassLabel], target: NDArray[np.int64]) -> list[ClassShare]:
    counts = np.bincount(target, minlength=len(classes))
    total = max(1, int(counts.sum()))
    return [
        ClassShare(label=label, rows=int(count), share=round(int(count) / total, 6))
        for label, count in zip(classes, counts, strict=True)
    ]


def balance_findings(shares: Sequence[ClassShare]) -> list[Finding]:
    rare = [share for share in shares if share.share < min(RARE_SHARE, 0.5 / len(shares))]
    return [
        warn(
            "rare_class", f"class '{share.label}' has {share.rows} rows ({share.share:.2%}); accuracy alone says little"
        )
        for share in rare
    ]


def time_order(column: str, time: NDArray[np.float64]) -> TimeOrder:
    return TimeOrder(
        column=column,
        sorted=bool((np.diff(time) >= 0).all()),
        first=float(time.min()),
        last=float(time.max()),
        distinct=len(np.unique(time)),
    )


def left_out_findings(columns: Sequence[Column]) -> list[Finding]:
    """One 'ok' finding for each column that is left out: it is no fault, and it should be seen."""
    return [
        Finding(
            level="ok",
            code=column.code or "left_out",
            message=f"'{column.name}' is left out: {column.reason}",
            column=column.name,
        )
        for column in columns
        if column.kind is None
    ]


def write_quarantine(frame: pd.DataFrame, directory: Path, run_id: str) -> Path:
    """Writes set-aside rows as `<run_id>.csv`, all or nothing; where the name is taken, a number is added."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f".{run_id}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            frame.to_csv(stream, index=False)
            stream.flush()
            os.fsync(stream.fileno())
        return _link_unused(temporary, directory, run_id)
    finally:
        temporary.unlink(missing_ok=True)


def _link_unused(temporary: Path, directory: Path, run_id: str) -> Path:
    number = 1
    while True:
        path = directory / (f"{run_id}.csv" if number == 1 else f"{run_id}-{number}.csv")
        try:
            os.link(temporary, path)  # unlike a rename, fails when the name is taken
        except FileExistsError:
            number += 1
            continue
        return path
