"""Writes a commented configuration for a table: what `main.py init` does.

Whatever stands in it was tried: `prepare` accepts the table with these settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import yaml

from config.settings import Metric, Settings
from pipeline.column_kinds import named_identifier
from pipeline.column_values import is_text
from pipeline.data_processing import Preparation, prepare
from pipeline.data_quality import QualityReport
from pipeline.data_split import time_values
from pipeline.errors import InputError
from pipeline.table_reading import Table

TIME_NAMES = frozenset(
    {
        "t",
        "ts",
        "time",
        "timestamp",
        "date",
        "datetime",
        "day",
        "month",
        "year",
        "week",
        "hour",
        "step",
        "tick",
        "epoch",
    }
)
#: Fewer moments than this do not order a table.
FEWEST_MOMENTS = 20
#: A smallest class of this share of its even share still counts as balanced, and as not rare.
BALANCED, NOT_RARE = 0.5, 0.1
#: Left out by `features.drop`, so that retraining on more rows does not change its mind about them.
SETTLED = ("identifier", "free_text")
#: An address that names somebody, perhaps with a password.
_HAS_PASSWORD = re.compile(r"://[^/\s]+@")


def write_configuration(
    table: Table, target: str, path: Path, source: str, settings: Settings | None = None
) -> Preparation:
    """Looks at a table and writes the settings for it to `path`; returns what the table becomes with them.

    `source` is written as `data.source`, a path in full, since a configured one is relative to the state root, not to
    the caller; `settings` are the base (format, delimiter, …) that the table was read with.
    Raises InputError when `path` exists, or when the table cannot be trained on with any number of folds.
    """
    if path.exists():
        raise InputError(f"{path}: is there already and is not overwritten; change it by hand, or move it away first")
    base = settings or Settings()
    tried = _with_time(table, msgspec.structs.replace(base, target_column=target))
    preparation = prepare(table, tried)
    metric, reason = suitable_metric(preparation.quality)
    _write_new(path, configuration_text(preparation, tried, _in_full(source), metric, reason))
    return preparation


def _with_time(table: Table, settings: Settings) -> Settings:
    """With a time column where there clearly is one and the table can be split by it, and folds that each class has."""
    column = settings.data_split.time_column or find_time_column(table, settings.target_column)
    if column is not None:
        split = msgspec.structs.replace(settings.data_split, time_column=column)
        by_time = msgspec.structs.replace(settings, data_split=split)
        try:
            prepare(table, by_time)
        except InputError:
            pass
        else:
            return by_time
    return _with_folds(table, settings)


def _with_folds(table: Table, settings: Settings) -> Settings:
    first: InputError | None = None
    for folds in range(settings.model_selection.cross_validation_folds, 1, -1):
        selection = msgspec.structs.replace(settings.model_selection, cross_validation_folds=folds)
        tried = msgspec.structs.replace(settings, model_selection=selection)
        try:
            prepare(table, tried)
        except InputError as error:
            first = first or error
            if "folds" not in str(error):
                break
        else:
            return tried
    raise first or InputError(f"{table.source}: cannot be trained on")


def find_time_column(table: Table, target: str) -> str | None:
    """A column in whose order the rows stand: dates of any name, or numbers with a name of time (`t`, `timestamp`)."""
    for name in table.frame.columns:
        if name == target:
            continue
        series = table.frame[name]
        numeric = not is_text(series) and series.dtype.kind in "iuf"
        if series.isna().any() or (numeric and name.strip().casefold() not in TIME_NAMES):
            continue
        try:
            time = time_values(series, table.source, name)
        except InputError:
            continue
        of_dates = not numeric and bool(np.abs(time).max() >= 86_400)
        ordered = bool(np.isfinite(time).all() and (np.diff(time) >= 0).all())
        if ordered and (numeric or of_dates) and len(np.unique(time)) >= FEWEST_MOMENTS and not named_identifier(name):
            return str(name)
    return None


def suitable_metric(quality: QualityReport) -> tuple[Metric, str]:
    """A metric that the balance of the classes does not fool, and why it is that one."""
    shares = [share.share for share in quality.target_balance]
    smallest, classes = min(shares), len(shares)
    even = smallest * classes
    said = f"The smallest of {classes} classes has {smallest:.1%} of the rows"
    if even >= BALANCED:
        return "f1", f"{said}: balanced enough for weighted F1"
    if classes == 2:
        if even >= NOT_RARE:
            return "roc_auc", f"{said}: the ranking counts, not the share that is right"
        return "pr_auc", f"{said}: accuracy and ROC AUC look good whatever becomes of so rare a class"
    return "balanced_accuracy", f"{said}: every class counts the same, however rare"


def configuration_text(preparation: Preparation, settings: Settings, source: str, metric: Metric, reason: str) -> str:
    quality = preparation.quality
    folds = settings.model_selection.cross_validation_folds
    time = settings.data_split.time_column
    lines = [
        "# Written by `python main.py init`; change it as you like, nothing overwrites it.",
        f"# The table: {quality.rows} rows, {quality.columns} columns. Every key: docs/configuration.md",
        "",
        f"target_column: {quoted(preparation.target_name)}",
        *_comments(_balance_lines(quality)),
        "",
        "data:",
        f"  source: {quoted(source)}",
        *_data_lines(settings),
        "",
        "data_split:",
        f"  test_size: {settings.data_split.test_size}",
        *_split_lines(time, quality),
        "",
        "model_selection:",
        f"  # {reason}.",
        f"  metric: {metric}",
        *([] if folds >= 5 else ["  # The smallest class has too few rows for more folds."]),
        f"  cross_validation_folds: {folds}",
        "",
        "features:",
        *_feature_lines(preparation),
    ]
    findings = [finding.message for finding in quality.findings if finding.level == "warn"]
    if findings:
        lines += ["", "# Worth a look:", *_comments(f"- {message}" for message in findings)]
    return "\n".join(lines) + "\n"


def _in_full(source: str) -> str:
    return source if "://" in source else str(Path(source).expanduser().resolve())


def _data_lines(settings: Settings) -> list[str]:
    data = settings.data
    chosen = {"query": data.query, "delimiter": data.delimiter, "encoding": data.encoding, "sheet": data.sheet}
    lines = [f"  {key}: {quoted(value)}" for key, value in chosen.items() if value is not None]
    return lines if data.format == "auto" else [f"  format: {data.format}", *lines]


def _balance_lines(quality: QualityReport) -> list[str]:
    shares = sorted(quality.target_balance, key=lambda share: -share.rows)
    lines = [f"class {quoted(str(share.label))}: {share.rows} rows ({share.share:.1%})" for share in shares[:30]]
    return lines if len(shares) <= 30 else [*lines, f"and {len(shares) - 30} more"]


def _split_lines(time: str | None, quality: QualityReport) -> list[str]:
    if time is None:
        return [
            "  # Rows are held out by a hash of their content. Name a column here to hold out the latest rows instead.",
            "  time_column: null",
        ]
    count = quality.time_order.distinct if quality.time_order else 0
    return [
        f"  # The rows stand in the order of this column ({count} moments): the latest are held out.",
        f"  time_column: {quoted(time)}",
    ]


def _feature_lines(preparation: Preparation) -> list[str]:
    lines = ["  # Kinds are learnt; put a name on a list below to overrule that."]
    for kind in ("numeric", "categorical", "boolean", "datetime"):
        names = [quoted(column.name) for column in preparation.columns if column.kind == kind]
        if names:
            lines += _comments([f"{kind}: {', '.join(names)}"], "  # ")
    left_out = [column for column in preparation.columns if column.kind is None]
    if left_out:
        lines.append("  # Left out:")
        lines += _comments((f"- {quoted(column.name)}: {column.reason}" for column in left_out), "  # ")
    settled = [quoted(column.name) for column in left_out if column.code in SETTLED]
    lines.append(f"  drop: [{', '.join(settled)}]")
    return [*lines, "  categorical: []", "  numeric: []", "  datetime: []"]


def quoted(text: str) -> str:
    """As a YAML scalar on one line, in double quotes, whatever is in it."""
    dumped: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=2**31 - 1)
    return dumped.rstrip("\n")


def _comments(texts: Iterable[str], prefix: str = "# ") -> Sequence[str]:
    """Comment lines; control characters, which YAML forbids even there, become spaces."""
    return [prefix + "".join(c if c.isprintable() else " " for c in text) for text in texts]


def _write_new(path: Path, text: str) -> None:
    """Whole or not at all, and never over another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            if _HAS_PASSWORD.search(text):
                os.fchmod(stream.fileno(), 0o600)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)
    except FileExistsError:
        raise InputError(f"{path}: is there already and is not overwritten; move it away first") from None
    finally:
        temporary.unlink(missing_ok=True)
