"""How the training rows are divided for cross-validation, and how slow candidates get fewer of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Positions among the training rows: fitted on `train`, scored on `test`."""

    train: Indices
    test: Indices


def make_folds(y: NDArray[np.int64], count: int, seed: int, time: NDArray[np.float64] | None = None) -> list[Fold]:
    """Stratified folds; with `time`, forward ones: each is fitted on what lies before the block that it is scored on.

    Raises:
        InputError: the rows are too few, or too unvaried, to make two folds with two classes in each training part.
    """
    folds = _stratified(y, count, seed) if time is None else _forward(time, count)
    usable = [fold for fold in folds if len(fold.test) and len(np.unique(y[fold.train])) > 1]
    if len(usable) < 2:
        how = "by time" if time is not None else "by class"
        raise InputError(
            f"the {len(y)} training rows make fewer than two of the {count} cross-validation folds {how} with two "
            "classes to learn from; give more rows or set model_selection.cross_validation_folds lower"
        )
    return usable


def _stratified(y: NDArray[np.int64], count: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import StratifiedKFold

    if np.bincount(y, minlength=1).max() < count:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds: metrics are defined there
        splits = list(StratifiedKFold(count, shuffle=True, random_state=seed).split(y, y))
    return [Fold(train.astype(np.int64), test.astype(np.int64)) for train, test in splits]


def _forward(time: NDArray[np.float64], count: int) -> list[Fold]:
    """`count` + 1 blocks of about equal size in time; rows of one moment stay in one block."""
    ordered = np.sort(time)
    cuts = [float(ordered[block * len(time) // (count + 1)]) for block in range(1, count + 1)]
    ends = [*cuts[1:], float("inf")]
    return [
        Fold(np.flatnonzero(time < cut), np.flatnonzero((time >= cut) & (time < end)))
        for cut, end in zip(cuts, ends, strict=True)
    ]


def stratified_sample(y: NDArray[np.int64], rows: int, seed: int) -> Indices:
    """Sorted positions of about `rows` random rows, each class keeping its share and at least one row in each class."""
    if rows >= len(y):
        return np.arange(len(y))
    generator = np.random.default_rng(seed)
    chosen = [
        generator.choice(members, size=min(len(members), max(1, round(rows * len(members) / len(y)))), replace=False)
        for members in (np.flatnonzero(y == label) for label in np.unique(y))
    ]
    return np.sort(np.concatenate(chosen))


def within(fold: Fold, sample: NDArray[Any] | None) -> Fold:
    """The fold with its training rows cut down to the sample; it is scored on all of its rows."""
    if sample is None:
        return fold
    return Fold(np.intersect1d(fold.train, sample, assume_unique=True), fold.test)
