"""What the error model's logistic regression is made of: an encoded row as numbers, levels and their products.

A logistic regression on these was compared with histogram boosting on the same rows: it was as sharp at about half the
cost, and goes on sensibly where a feature leaves the range that trees have leaves for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoder, Matrix
from models.error_model import ANSWER_COLUMNS
from models.schema import Schema

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

#: Standardised numbers are clipped here: beyond, a square says more than anybody has seen.
CLIP = 4.0
#: Levels of a categorical column that get a column of their own, the most frequent ones.
MOST_LEVELS = 10
#: Columns whose squares and products are taken; of more, those that tell most of the target.
MOST_CROSSED = 24


@dataclass(frozen=True)
class Basis:
    """Everything learnt about the columns; `numbers` and `levels` are positions in the error model's input."""

    logit: int
    numbers: Positions
    mean: Floats
    scale: Floats
    levels: Positions
    codes: Floats
    #: Positions in `base`, in pairs; two levels are never multiplied.
    first: Positions
    second: Positions

    def base(self, inputs: Matrix) -> Floats:
        """(rows, numbers + levels): numbers standardised and clipped, missing ones at their mean; levels as 0 or 1."""
        numbers = inputs[:, self.numbers].astype(np.float64)
        numbers = (np.where(np.isnan(numbers), self.mean, numbers) - self.mean) / self.scale
        return np.hstack([np.clip(numbers, -CLIP, CLIP), inputs[:, self.levels] == self.codes])

    def design(self, inputs: Matrix) -> Floats:
        """(rows, columns): the logit, the base, and the products."""
        base = self.base(inputs)
        made = np.empty((len(inputs), 1 + base.shape[1] + len(self.first)))
        made[:, 0] = inputs[:, self.logit]
        made[:, 1 : 1 + base.shape[1]] = base
        products = made[:, 1 + base.shape[1] :]
        for column, (first, second) in enumerate(zip(self.first, self.second, strict=True)):  # no copy of the whole
            np.multiply(base[:, first], base[:, second], out=products[:, column])
        return made


def learn_basis(schema: Schema, inputs: Matrix, target: NDArray[Any]) -> Basis:
    """Learns the columns from the rows to fit on.

    Args:
        inputs: (rows, width + 2) as `error_inputs` makes them.
        target: (rows,) what is to be told, 0 or 1.
    """
    width = inputs.shape[1] - ANSWER_COLUMNS
    columns = Encoder(schema).columns
    numbers = np.array([at for at, column in enumerate(columns) if column.role == "numeric"], dtype=np.int64)
    mean, scale = _moments(inputs[:, numbers].astype(np.float64))
    varying = scale > 0
    coded = [at for at, column in enumerate(columns) if column.role != "numeric"]
    if len(schema.classes) > 2:  # which class was answered; of two, the sign of the logit says it
        coded.append(width + 1)
    found = [(at, code) for at in coded for code in _frequent(inputs[:, at])]
    basis = Basis(
        logit=width,
        numbers=numbers[varying],
        mean=mean[varying],
        scale=scale[varying],
        levels=np.array([at for at, _ in found], dtype=np.int64),
        codes=np.array([code for _, code in found], dtype=np.float64),
        first=np.empty(0, dtype=np.int64),
        second=np.empty(0, dtype=np.int64),
    )
    return _crossed(basis, inputs, target)


def _moments(numbers: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column without its gaps; 0 for a column of nothing else."""
    known = ~np.isnan(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / count
    squares = np.where(known, numbers - mean, 0.0) ** 2
    return mean, np.sqrt(squares.sum(axis=0) / count)


def _frequent(codes: NDArray[np.float32]) -> list[float]:
    """The most frequent codes, without those of too few rows to learn anything from."""
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_LEVELS]
    return [float(values[at]) for at in order if 20 <= counts[at] < len(codes)]


def _crossed(basis: Basis, inputs: Matrix, target: NDArray[Any]) -> Basis:
    base = basis.base(inputs)
    chosen = _telling(base, np.asarray(target, dtype=np.float64))
    first, second = np.triu_indices(len(chosen))
    useful = chosen[first] < len(basis.numbers)
    return replace(basis, first=chosen[first][useful], second=chosen[second][useful])


def _telling(base: Floats, target: Floats) -> Positions:
    """Positions of at most `MOST_CROSSED` columns, in order: those that correlate most with the target, themselves or
    their squares."""
    if base.shape[1] <= MOST_CROSSED:
        return np.arange(base.shape[1])
    strength = np.maximum(_correlation(base, target), _correlation(base * base, target))
    return np.sort(np.argsort(-strength, kind="stable")[:MOST_CROSSED])


def _correlation(columns: Floats, target: Floats) -> Floats:
    centred, aim = columns - columns.mean(axis=0), target - target.mean()
    norm = np.sqrt((centred**2).sum(axis=0) * (aim @ aim))
    found: Floats = np.divide(aim @ centred, norm, out=np.zeros(columns.shape[1]), where=norm > 0)
    return np.abs(found)
