"""Finds columns that give the target away: what a single column, alone, says about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct
from numpy.typing import NDArray

from config.settings import Settings
from models.schema import Kind
from pipeline.column_kinds import Column
from pipeline.findings import Finding, refuse, warn

#: Rows looked at, spread evenly over the classes; half teach, half are scored.
SAMPLE_ROWS = 5_000
FEWEST_PER_CLASS = 4


class SuspectedLeak(Struct, frozen=True, kw_only=True):
    column: str
    #: Balanced accuracy of the target told from this column alone; see `leak_score`.
    score: float


def find_leaks(
    columns: list[Column], target: NDArray[np.int64], settings: Settings
) -> tuple[list[Column], list[SuspectedLeak], list[Finding]]:
    """Applies `data_quality.leak_policy`: the columns (without the leaks, where they are dropped), leaks, findings."""
    sample = leak_sample(target, np.random.default_rng(settings.data_split.random_state))
    policy, threshold = settings.data_quality.leak_policy, settings.data_quality.leak_threshold
    leaks: list[SuspectedLeak] = []
    findings: list[Finding] = []
    checked: list[Column] = []
    for column in columns:
        kept = column
        if column.kind is not None and column.values is not None:
            score = leak_score(column.values.iloc[sample], column.kind, target[sample])
            if score >= threshold:
                leaks.append(SuspectedLeak(column=column.name, score=round(score, 6)))
                message = (
                    f"column '{column.name}' tells the target almost alone (score {score:.4f}): is it known beforehand?"
                )
                findings.append((refuse if policy == "refuse" else warn)("suspected_leak", message, column.name))
                if policy == "drop":
                    reason = f"tells the target almost alone (score {score:.4f})"
                    kept = replace(column, kind=None, values=None, code="suspected_leak", reason=reason)
        checked.append(kept)
    return checked, leaks, findings


def leak_sample(target: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.intp]:
    """Row positions: an even share of `SAMPLE_ROWS` from every class that has enough rows, shuffled."""
    classes, counts = np.unique(target, return_counts=True)
    share = max(FEWEST_PER_CLASS, SAMPLE_ROWS // max(1, len(classes)))
    taken = [
        generator.choice(np.flatnonzero(target == label), size=min(share, int(count)), replace=False)
        for label, count in zip(classes, counts, strict=True)
        if count >= FEWEST_PER_CLASS
    ]
    return generator.permutation(np.concatenate(taken)) if taken else np.empty(0, dtype=np.intp)


def leak_score(values: pd.Series[Any], kind: Kind, target: NDArray[np.int64]) -> float:
    """Balanced accuracy (0 to 1, guessing is 1/classes) of the target told from one column, on rows that did not teach.

    A categorical tells the majority class of each level, so a level seen once tells nothing; any other kind tells it
    through a small decision tree.
    """
    half = len(target) // 2
    if half < FEWEST_PER_CLASS:
        return 0.0
    if kind == "categorical":
        guessed = _by_level(values, target, half)
    else:
        guessed = _by_tree(_numbers(values, kind), target, half)
    actual = target[half:]
    shares = [float((guessed[actual == label] == label).mean()) for label in np.unique(actual)]
    return float(np.mean(shares)) if len(shares) > 1 else 0.0


def _by_level(values: pd.Series[Any], target: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    codes = values.cat.codes.to_numpy().astype(np.int64) + 1
    votes = np.zeros((int(codes.max(initial=0)) + 1, int(target.max()) + 1), dtype=np.int64)
    np.add.at(votes, (codes[:half], target[:half]), 1)
    guess = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return guess[codes[half:]]


def _by_tree(numbers: NDArray[np.float64], target: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    from sklearn.tree import DecisionTreeClassifier

    leaves = 2 * len(np.unique(target)) + 2
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)
    # A tree sees only the order, and ranks fit its float32 whatever the numbers are.
    column = pd.Series(numbers).rank(method="dense").to_numpy().reshape(-1, 1)
    guessed: NDArray[np.int64] = tree.fit(column[:half], target[:half]).predict(column[half:])
    return guessed


def _numbers(values: pd.Series[Any], kind: Kind) -> NDArray[np.float64]:
    if kind != "datetime":
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    moments = values.to_numpy(dtype="datetime64[s]")
    return np.where(np.isnat(moments), np.nan, moments.astype(np.float64))
