"""From a table to what training needs: typed features, class indices, a split, and the schema of the training rows.

    read_data ─► clean (kinds of columns, quarantine; all rows) ─► split_rows ─► learn_schema (training rows)

`prepare` is the whole way after reading. `conform` is the other one: a new table, typed as an existing schema says.
As a script it checks a table and prints the quality report: `python -m pipeline.data_processing --data P --target C`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from config.settings import ConfigurationError, Settings, load_settings
from models.bundle import SplitRule
from models.schema import Schema
from pipeline.conforming import conform
from pipeline.data_quality import QualityError, QualityReport, quality_report, refuse_if_told
from pipeline.data_split import Mask, Rows, Split, apply_rule, hash_rule, held_out_by, time_rule, time_values
from pipeline.errors import InputError
from pipeline.findings import Finding, warn
from pipeline.schema_learning import learn_schema
from pipeline.table_cleaning import Cleaned, clean, why_none
from pipeline.table_reading import Table, read_table

__all__ = [
    "Cleaned", "InputError", "Preparation", "QualityError", "Split", "Table", "clean", "conform", "held_out_by",
    "held_out_of_table", "learn_schema", "prepare", "read_data", "read_table", "split_rows",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Preparation(Cleaned):
    """A cleaned table, split, with the schema of its training rows; `frame` has the schema's columns in its order."""

    schema: Schema
    split: Split
    quality: QualityReport


def read_data(settings: Settings, source: str | Path | None = None, schema: Schema | None = None) -> Table:
    """`read_table` that keeps the text of what is categorical by configuration, or in an existing schema."""
    names = set(settings.features.categorical)
    if schema is not None:
        names |= {feature.name for feature in schema.features if feature.kind == "categorical"}
        names |= {schema.target} if all(isinstance(label, str) for label in schema.classes) else set()
    return read_table(settings.data, source, names)


def prepare(
    table: Table, settings: Settings, schema: Schema | None = None, previous: SplitRule | None = None
) -> Preparation:
    """Everything from a table to a split and a schema; with a `schema`, kinds and classes are taken from it.

    `previous` is the split rule of the model in service: its columns are used again where they are all still here.
    Raises InputError when the table cannot be trained on, QualityError when it may not.
    """
    cleaned = clean(table, settings, schema)
    if any(finding.level == "refuse" for finding in cleaned.findings):
        refuse_if_told(quality_report(cleaned, settings))
    while True:
        split = split_rows(cleaned, settings, previous)
        learnt, empty = learn_schema(cleaned.frame, cleaned.columns, cleaned.classes, split.train, settings)
        if not empty or schema is not None:
            break
        cleaned = _without(cleaned, empty)
    quality = quality_report(cleaned, settings, _split_findings(cleaned, split, previous))
    known = {name: getattr(cleaned, name) for name in Cleaned.__dataclass_fields__}
    return Preparation(**known, schema=schema or learnt, split=split, quality=quality)


def split_rows(cleaned: Cleaned, settings: Settings, previous: SplitRule | None = None) -> Split:
    """Raises InputError when the training part lacks rows of a class, or one part is empty."""
    if cleaned.time is not None:
        rule = time_rule(cleaned.time, settings, cleaned.source)
    else:
        rule = hash_rule(cleaned.features, settings, previous)
    split = apply_rule(rule, cleaned.frame, cleaned.features, cleaned.time)
    if not len(split.test):
        raise InputError(f"{cleaned.source}: no row falls into the test part; the rows are too few or too much alike")
    _refuse_thin_training(cleaned, split.train, settings.model_selection.cross_validation_folds)
    return split


def held_out_of_table(rule: SplitRule, table: Table, rows: Rows, schema: Schema) -> Mask | None:
    """Whether a rule held each of some rows of a table out; None when that cannot be told.

    `schema` is the one that the rule was learnt with. A rule by time reads its own column of the table, whatever column
    orders the rows now.
    """
    if rule.method != "time":
        return held_out_by(rule, conform(table.frame.take(rows), schema, table.source), schema)
    if rule.time_column not in table.frame.columns:
        return None
    time = time_values(table.frame[rule.time_column], table.source, str(rule.time_column))
    return held_out_by(rule, table.frame, schema, time[rows])


def _refuse_thin_training(cleaned: Cleaned, train: Rows, folds: int) -> None:
    total = np.bincount(cleaned.target, minlength=len(cleaned.classes))
    trained = np.bincount(cleaned.target[train], minlength=len(cleaned.classes))
    for label, have, there_are in zip(cleaned.classes, trained, total, strict=True):
        if have < folds and there_are:
            raise InputError(
                f"{cleaned.source}: class '{label}' has {have} of its {there_are} rows in the training part, fewer "
                f"than the {folds} folds; add rows of it, or lower model_selection.cross_validation_folds"
            )


def _without(cleaned: Cleaned, empty: dict[str, str]) -> Cleaned:
    """Leaves out features of which the training rows hold nothing."""
    columns = tuple(
        replace(column, kind=None, code="empty_in_training", reason=empty[column.name])
        if column.name in empty
        else column
        for column in cleaned.columns
    )
    if len(empty) == cleaned.frame.shape[1]:
        raise InputError(f"{cleaned.source}: no column is left to learn from: {why_none(columns)}")
    return replace(cleaned, columns=columns, frame=cleaned.frame.drop(columns=list(empty)))


def _split_findings(cleaned: Cleaned, split: Split, previous: SplitRule | None) -> list[Finding]:
    tested = np.bincount(cleaned.target[split.test], minlength=len(cleaned.classes))
    findings = [
        warn("class_not_in_test", f"the test part holds no row of class '{label}': its figures leave that class out")
        for label, count in zip(cleaned.classes, tested, strict=True)
        if count == 0
    ]
    if previous is not None and (previous.method, previous.columns) != (split.rule.method, split.rule.columns):
        findings.append(warn("split_changed", "the split differs from that of the model in service; rows change sides"))
    return findings


def main(arguments: list[str] | None = None) -> int:
    """Checks a table and prints its quality report as JSON; 2 when it cannot be trained on."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m pipeline.data_processing", description=main.__doc__)
    parser.add_argument("--data", help="a table; by default data.source of the configuration")
    parser.add_argument("--target", help="the column to predict; by default target_column of the configuration")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        if given.target:
            settings = msgspec.structs.replace(settings, target_column=given.target)
        report = prepare(read_data(settings, given.data), settings).quality
    except QualityError as refusal:
        sys.stderr.write(f"{refusal}\n")
        _print(refusal.report)
        return 2
    except (ConfigurationError, InputError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _print(report)
    return 0


def _print(report: QualityReport) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
