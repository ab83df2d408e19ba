"""The target: from a column to class labels, or the sentence that says why it cannot be one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.schema import ClassLabel
from pipeline.column_kinds import listed
from pipeline.column_values import Levels, is_text
from pipeline.errors import InputError

#: More distinct values than this, and a numeric target is a quantity.
MOST_WHOLE_CLASSES = 100
MOST_REAL_CLASSES = 20
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Target:
    classes: tuple[ClassLabel, ...]
    #: Index into `classes` for each row; -1 where the row has no target (or none of the classes).
    codes: NDArray[np.int64]

    def without(self, rows: NDArray[np.bool_], keep_classes: bool) -> Target:
        """The target with some rows taken as having none; classes that lose their last row go, unless kept."""
        codes = np.where(rows, -1, self.codes)
        used = np.arange(len(self.classes)) if keep_classes else np.unique(codes[codes >= 0])
        places = np.full(len(self.classes) + 1, -1, dtype=np.int64)
        places[used] = np.arange(len(used))
        return Target(tuple(self.classes[place] for place in used), places[codes])


def require_column(name: str, columns: Sequence[str], source: str, setting: str) -> None:
    """Raises InputError with the columns that there are, and the likeliest one meant."""
    if name in columns:
        return
    folded = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    hint = f"did you mean '{folded[close[0]]}'? columns:" if close else "give one of these:"
    raise InputError(f"{source}: has no column '{name}' ({setting}); {hint} {listed(columns)}")


def read_target(series: pd.Series[Any], source: str, known: tuple[ClassLabel, ...] | None = None) -> Target:
    """Labels of a column: true and false, whole numbers, or text, in that order, sorted.

    With `known` classes, rows of other classes get -1. Raises InputError when the column is a quantity.
    """
    found = Levels.of(series)
    _refuse_quantity(series, found, source)
    labels = _labels(series, found.levels)
    classes = known if known is not None else tuple(sorted(set(labels)))
    places = {(type(label), label): position for position, label in enumerate(classes)}
    codes = np.array([places.get((type(label), label), -1) for label in labels], dtype=np.int64)
    return Target(classes, found.spread(codes, -1))


def _labels(series: pd.Series[Any], levels: pd.Index[Any]) -> list[Any]:
    if pd.api.types.is_bool_dtype(series.dtype) or _holds_truth(series):
        return [level == "true" for level in levels]
    if not is_text(series) or (series.dtype == object and not any(isinstance(cell, str) for cell in series)):
        whole = [level.removeprefix("-").isdecimal() for level in levels]
        return [int(level) for level in levels] if all(whole) else list(levels)
    return list(levels)


def _holds_truth(series: pd.Series[Any]) -> bool:
    return series.dtype == object and pd.api.types.infer_dtype(series, skipna=True) == "boolean"


def _refuse_quantity(series: pd.Series[Any], found: Levels, source: str) -> None:
    distinct = len(found.levels)
    where = f"{source}: the target '{series.name}' has {distinct} distinct values"
    if not is_text(series):
        whole = all(level.removeprefix("-").isdecimal() for level in found.levels)
        if distinct > (MOST_WHOLE_CLASSES if whole else MOST_REAL_CLASSES):
            raise InputError(
                f"{where}, so it is a quantity; only classification is supported: give a column of classes"
            )
    if distinct > MOST_CLASSES:
        raise InputError(f"{where}, more than {MOST_CLASSES} classes; give a column with fewer classes")


def refuse_too_few(target: Target, source: str, name: str, folds: int, minimum_rows: int) -> None:
    """Raises InputError for fewer than two classes, a class with fewer rows than folds, or too few rows."""
    counts = np.bincount(target.codes[target.codes >= 0], minlength=len(target.classes))
    rows = int(counts.sum())
    present = [label for label, count in zip(target.classes, counts, strict=True) if count]
    if not present:
        raise InputError(f"{source}: no row has a value in the target '{name}'; give rows with known outcomes")
    if len(present) == 1:
        raise InputError(
            f"{source}: the target '{name}' has one class only ('{present[0]}'); a model needs rows of two or more"
        )
    if rows < minimum_rows:
        raise InputError(f"{source}: {rows} rows with a target, fewer than data_quality.minimum_rows = {minimum_rows}")
    for label, count in zip(target.classes, counts, strict=True):
        if 0 < count < folds:
            raise InputError(
                f"{source}: class '{label}' of '{name}' has {count} rows, fewer than the {folds} folds; add rows of "
                "it, remove it, or lower model_selection.cross_validation_folds"
            )
