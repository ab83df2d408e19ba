"""Whether the accuracy rises or falls from day to day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

#: The last so many days with enough labels are looked at; fewer than three have no trend.
WINDOWS, LEAST_WINDOWS = 5, 3
LEAST_LABELS_A_DAY = 50
#: A trend is one when chance gives it in less than this share of steady days, and it has moved the accuracy so far.
SIGNIFICANCE, LEAST_CHANGE = 0.01, 0.01

Direction = Literal["improving", "stable", "declining", "not_known"]


class DayCount(Struct, frozen=True):
    """`day` counts days from any beginning."""

    day: int
    labels: int
    right: int


class Trend(Struct, frozen=True, kw_only=True):
    direction: Direction
    #: Days that it was taken over.
    windows: int
    #: Accuracy a day; None when it is not known.
    slope: float | None = None
    p_value: float | None = None


def trend_of(days: Sequence[DayCount]) -> Trend:
    """Trend of the accuracy over the last five days that have 50 labels or more; days without are gaps, not zeros.

    The slope of the accuracies yᵢ on the days xᵢ, weighted by the labels nᵢ: b = Σnᵢ(xᵢ−x̄)(yᵢ−ȳ) / S,
    S = Σnᵢ(xᵢ−x̄)². Of steady days its variance is ȳ(1−ȳ)/S, which is the test of Cochran (1954) and Armitage (1955)
    for a trend in shares; where days differ more than chance makes them, it is multiplied by how much more,
    φ = max(1, Σ nᵢ(yᵢ−ŷᵢ)² / (ȳ(1−ȳ)(k−2))), ŷ being on the line through k days. Two-sided normal p-value. A trend
    must have p < 0.01, and its line must have moved by a point over the days.
    """
    used = [one for one in sorted(days, key=lambda one: one.day) if one.labels >= LEAST_LABELS_A_DAY][-WINDOWS:]
    if len(used) < LEAST_WINDOWS:
        return Trend(direction="not_known", windows=len(used))
    x = np.array([one.day for one in used], dtype=np.float64)
    n = np.array([one.labels for one in used], dtype=np.float64)
    y = np.array([one.right for one in used]) / n
    mean, centred = float(n @ y / n.sum()), x - n @ x / n.sum()
    spread, variance = float(n @ centred**2), mean * (1.0 - mean)
    slope = float((n * centred) @ (y - mean)) / spread
    if variance <= 0.0:
        return Trend(direction="stable", windows=len(used), slope=slope, p_value=1.0)
    residual = y - mean - slope * centred
    excess = max(1.0, float(n @ residual**2) / variance / (len(used) - 2))
    p_value = math.erfc(abs(slope) / math.sqrt(2.0 * excess * variance / spread))
    moved = abs(slope) * (x[-1] - x[0]) >= LEAST_CHANGE
    direction: Direction = "stable"
    if p_value < SIGNIFICANCE and moved:
        direction = "improving" if slope > 0 else "declining"
    return Trend(direction=direction, windows=len(used), slope=slope, p_value=p_value)
