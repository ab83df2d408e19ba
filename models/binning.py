"""Bins of a numeric feature: edges taken from training data alone, and fast, exact counting in them.

Bin i holds edge[i-1] <= x < edge[i]; the first and the last bin are open, so every number has a bin. Values go to
equal-width cells by one multiplication, and edges that lie on a cell's border are read off the cells' histogram. The
few others (minimum, maximum, single values of much mass, the dense end of a skewed distribution) are counted by one
comparison each. Values are taken in chunks, so that the memory added is small and flat.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]

QUANTILES = 64
_CELLS = 4096
_MOST_CELLS = 16_384
_CHUNK = 65_536
#: Cells of these widths (powers of two) map every normal number exactly: the product can neither underflow nor overflow
#: before it is clipped.
_LEAST_EXPONENT, _MOST_EXPONENT = -500, 52
#: Fewer bordering edges than this are compared one by one: cheaper than the histogram.
_FEW_EDGES = 8
_TWO_52 = 2.0**52
_BITS_OF_TWO_52 = int(np.float64(_TWO_52).view(np.int64))


class Bins(Struct, frozen=True):
    """Edges in rising order, and the width of a cell (a power of two, so that its borders are exact; 0: no cells)."""

    edges: tuple[float, ...] = ()
    cell: float = 0.0

    @property
    def count(self) -> int:
        return len(self.edges) + 1


class NumericCounts(Struct, frozen=True):
    """What was counted of one column: `bins` of its finite values, and their sum, each clipped to the outer edges."""

    bins: Counts
    missing: int
    infinite: int
    clipped_sum: float


def learn_bins(values: Numbers, quantiles: int = QUANTILES) -> Bins:
    """Edges at quantiles of the finite ones among `values`, at their minimum and just above their maximum.

    A value that holds 1/quantiles of the mass or more gets a bin of its own, so that it cannot move unseen.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if not len(ordered):
        return Bins()
    inner = ordered[np.arange(1, quantiles) * len(ordered) // quantiles]
    atoms = _heavy_values(ordered, max(2.0, len(ordered) / quantiles))
    cell = _cell_width(float(inner[0]), float(inner[-1]))
    plain = inner[~np.isin(inner, atoms)]
    edges = np.concatenate(
        [ordered[:1], _on_borders(plain, cell), atoms, _just_above(atoms), _just_above(ordered[-1:])]
    )
    edges = np.unique(edges)
    edges = edges[(edges >= ordered[0]) & np.isfinite(edges) & (edges <= _just_above(ordered[-1:])[0])]
    return Bins(tuple(edges.tolist()), cell)


def _heavy_values(ordered: Numbers, least: float) -> Numbers:
    values, counts = np.unique(ordered, return_counts=True)
    return values[counts >= least]


def _just_above(values: Numbers) -> Numbers:
    """The next larger number; after 0 the next that a process which flushes denormals to zero can tell from it."""
    with np.errstate(over="ignore"):
        return np.asarray(np.where(values == 0.0, np.finfo(np.float64).tiny, np.nextafter(values, np.inf)))


def _cell_width(low: float, high: float) -> float:
    """The power of two that divides `high - low` into 2,048 to 4,096 cells; 0 where that has no exact meaning."""
    with np.errstate(over="ignore"):
        spread = float(np.float64(high) - low)
    if not 0.0 < spread < math.inf or max(abs(low), abs(high)) > spread * 2.0**40:
        return 0.0
    exponent = math.frexp(spread / _CELLS)[1]
    return 2.0**exponent if _LEAST_EXPONENT <= exponent <= _MOST_EXPONENT else 0.0


def _on_borders(edges: Numbers, cell: float) -> Numbers:
    """Moves edges to the nearest border of a cell, those aside that would meet another there."""
    if not cell or not len(edges):
        return edges
    moved = np.round(edges / cell) * cell
    _, where, counts = np.unique(moved, return_inverse=True, return_counts=True)
    return np.where(counts[where] == 1, moved, edges)


class Binner:
    """Counts values in bins. Immutable after construction; `count` may run in several threads."""

    def __init__(self, bins: Bins) -> None:
        self.edges = np.array(bins.edges, dtype=np.float64)
        self.scale = 1.0 / bins.cell if bins.cell else 0.0
        self.first_cell = self.last_cell = 0
        self.covers_all = False
        on_border = self._lay_cells()
        #: Edges that the histogram of the cells answers for, the cells that begin at them, and the other edges.
        self.bordering = np.flatnonzero(on_border)
        self.border_cells = (self.edges[on_border] * self.scale).astype(np.int64) - self.first_cell
        self.compared = np.flatnonzero(~on_border)

    def _lay_cells(self) -> NDArray[np.bool_]:
        """Chooses the first and the last cell; tells which edges are on the border of a cell."""
        with np.errstate(over="ignore"):
            scaled = np.clip(self.edges * self.scale, -(2.0**52), 2.0**52)
        on_border: NDArray[np.bool_] = (np.floor(scaled) == scaled) & (np.abs(scaled) < 2.0**52)
        on_border[:1] = on_border[-1:] = False  # outermost ones may be outliers: they never stretch the cells
        if not self.scale or np.count_nonzero(on_border) <= _FEW_EDGES:
            self.scale = 0.0
            return np.zeros(len(scaled), dtype=np.bool_)
        self.first_cell, self.last_cell = int(scaled[on_border][0]) - 1, int(scaled[on_border][-1])
        lowest, highest = math.floor(scaled[0]), math.floor(scaled[-1])
        if highest - lowest < _MOST_CELLS:
            self.covers_all = True
            self.first_cell, self.last_cell = min(self.first_cell, lowest), max(self.last_cell, highest)
        return on_border

    def count(self, values: Numbers) -> NumericCounts:
        """Counts a column of any length; NaN is missing, infinities are counted apart and in no bin."""
        if not len(self.edges):
            return _count_without_edges(values)
        tally = _Tally(self, min(_CHUNK, max(1, len(values))))
        for start in range(0, len(values), _CHUNK):
            tally.add(values[start : start + _CHUNK])
        return tally.result()


def _count_without_edges(values: Numbers) -> NumericCounts:
    missing, infinite = int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))
    return NumericCounts(np.array([len(values) - missing - infinite]), missing, infinite, 0.0)


class _Tally:
    """The running counts of one column, and scratch memory that stays in the processor's cache."""

    def __init__(self, binner: Binner, rows: int) -> None:
        self._binner = binner
        self._above = np.zeros(len(binner.edges), dtype=np.int64)  # values at or above each edge
        self._cells = np.zeros(binner.last_cell - binner.first_cell + 1, dtype=np.int64)
        self._numbers = np.empty(rows, dtype=np.float64)
        self._flags = np.empty(rows, dtype=np.bool_)
        self._finite = self._missing = self._infinite = 0
        self._sum = 0.0

    def add(self, chunk: Numbers) -> None:
        edges, numbers = self._binner.edges, self._numbers[: len(chunk)]
        np.clip(chunk, edges[0], edges[-1], out=numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.add.reduce(numbers))
        above = [self._count_above(chunk, edges[index]) for index in self._binner.compared]
        # The sum is NaN where one value is; an infinite one is clipped, and lies beyond an outer edge.
        suspect = math.isnan(total) or above[0] < len(chunk) or above[-1] > 0
        if suspect and not (finite := np.isfinite(chunk)).all():
            self._missing += int(np.count_nonzero(np.isnan(chunk)))
            self._infinite += int(np.count_nonzero(np.isinf(chunk)))
            self.add(chunk[finite])
            return
        self._finite += len(chunk)
        self._sum += total
        self._above[self._binner.compared] += above
        if self._binner.scale:
            self._cells += self._histogram(numbers)

    def _count_above(self, chunk: Numbers, edge: float) -> int:
        return int(np.count_nonzero(np.greater_equal(chunk, edge, out=self._flags[: len(chunk)])))

    def _histogram(self, numbers: Numbers) -> Counts:
        """How many of the clipped `numbers`, which are overwritten, are in each cell."""
        binner, indices = self._binner, numbers.view(np.int64)
        with np.errstate(over="ignore"):
            np.multiply(numbers, binner.scale, out=numbers)
        np.floor(numbers, out=numbers)
        if not binner.covers_all:
            np.clip(numbers, binner.first_cell, binner.last_cell, out=numbers)
        # Whole numbers plus 2^52 are whole numbers in the low bits of a double: cheaper than converting.
        np.add(numbers, _TWO_52 - binner.first_cell, out=numbers)
        np.subtract(indices, _BITS_OF_TWO_52, out=indices)
        return np.bincount(indices, minlength=len(self._cells))

    def result(self) -> NumericCounts:
        binner, above = self._binner, self._above
        if binner.scale:
            below = np.concatenate([[0], np.cumsum(self._cells)])
            above[binner.bordering] = self._finite - below[binner.border_cells]
        bins = -np.diff(above, prepend=self._finite, append=0)
        return NumericCounts(bins, self._missing, self._infinite, float(np.nan_to_num(self._sum)))
