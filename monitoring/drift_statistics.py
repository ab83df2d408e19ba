"""The statistics of drift, for all distributions of a window at once.

All distributions of a reference lie in one flat vector of counts, one stretch each (a segment); each figure below is
computed for all segments in a few passes over it, so that 100 features take milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.binning import Counts, Numbers
from monitoring.window_profile import Layout

Flags = NDArray[np.bool_]
#: Reference bins are merged into this many groups of about equal mass for the chi-squared test, and into this many for
#: the total variation: 64 bins of 1,000 rows hold so much noise that taking it off doubles what is left of an outlier.
GROUPS, VARIATION_GROUPS = 8, 32
#: Cells with a smaller expected count than this, in either sample, are pooled.
LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class Comparison:
    """One row for each segment; where `compared` is false (too few values on a side), p is 1 and the rest is 0."""

    compared: Flags
    reference_rows: Counts
    window_rows: Counts
    #: Kolmogorov-Smirnov distance on the bins, 0..1; 0 for segments without order.
    ks: Numbers
    chi_squared: Numbers
    p_value: Numbers
    #: The largest of KS, the total variation less its noise, and the share outside the reference's range; 0..1.
    effect: Numbers
    psi: Numbers
    #: In units of the value, values clipped to the reference's range; 0 for segments without order.
    wasserstein: Numbers


class Segments:
    """What of a layout the comparison needs, made once for each reference."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        parts = layout.parts
        self.starts = np.array([part.start for part in parts], dtype=np.intp)
        self.lengths = np.array([len(part.counts) for part in parts], dtype=np.intp)
        self.ordered = np.array([part.ordered for part in parts], dtype=np.bool_)
        self.reference = layout.counts
        self.reference_rows = _add(self.reference, self.starts)
        self.always_pooled = np.zeros(layout.cells, dtype=np.bool_)
        #: Cells of numbers outside the reference's range, which the total variation leaves aside.
        self.outside = np.zeros(layout.cells, dtype=np.bool_)
        widths = np.zeros(layout.cells)
        groups: list[Counts] = []
        fine_groups: list[Counts] = []
        for part in parts:
            if part.levels is not None:
                self.always_pooled[part.stop - 2 : part.stop] = True
            if part.numbers is not None:
                with np.errstate(over="ignore"):  # the widest are cut to the largest double below
                    widths[part.start + 1 : part.stop - 1] = np.diff(np.array(part.numbers.bins.edges) / 2.0) * 2.0
                counts = np.array(part.counts)
                groups.append(part.start + _group_starts(counts, GROUPS))
                fine_groups.append(part.start + _group_starts(counts, VARIATION_GROUPS))
                self.outside[[part.start, part.stop - 1]] = counts[[0, -1]] == 0
            else:
                groups.append(np.arange(part.start, part.stop))
                fine_groups.append(groups[-1])
        self.widths = np.minimum(widths, np.finfo(np.float64).max)
        self.groups, self.fine_groups = _Groups(groups), _Groups(fine_groups)
        self.cell_segment = np.repeat(np.arange(len(parts)), self.lengths)


class _Groups:
    """Neighbouring cells taken together: where each group begins, its segment, and each segment's first group."""

    def __init__(self, starts: list[Counts]) -> None:
        lengths = np.array([len(group) for group in starts], dtype=np.intp)
        self.starts = np.concatenate(starts) if starts else np.zeros(0, dtype=np.intp)
        self.segment = np.repeat(np.arange(len(starts)), lengths)
        self.firsts = np.cumsum(lengths) - lengths


def compare(segments: Segments, window: Counts, least_rows: int) -> Comparison:
    """Compares window counts with the reference's, segment by segment."""
    count = len(segments.starts)
    if not count:
        none = np.zeros(0)
        return Comparison(none > 0, none.astype(np.int64), none.astype(np.int64), *[none] * 6)
    N, n = segments.reference_rows, _add(window, segments.starts)
    compared = (least_rows <= N) & (n >= least_rows)
    share_reference, share_window = _shares(segments, segments.reference, N), _shares(segments, window, n)
    rising = _cumulated(segments, share_window - share_reference)
    ks = np.where(segments.ordered, np.maximum.reduceat(np.abs(rising), segments.starts), 0.0)
    chi_squared, cells = _chi_squared(segments, window, N, n)
    effect = np.maximum(ks, _variation_or_outside(segments, window, N, n))
    return Comparison(
        compared=compared,
        reference_rows=N,
        window_rows=n,
        ks=np.where(compared, ks, 0.0),
        chi_squared=np.where(compared, chi_squared, 0.0),
        p_value=np.where(compared, _p_values(segments.ordered, ks, chi_squared, cells, N, n), 1.0),
        effect=np.where(compared, effect, 0.0),
        psi=np.where(compared, _psi(segments, window, N, n), 0.0),
        wasserstein=np.where(compared, _wasserstein(segments, rising), 0.0),
    )


def two_proportions(a: Counts, of_a: Counts, b: Counts, of_b: Counts) -> tuple[Numbers, Numbers, Numbers]:
    """z, its two-sided p and Cohen's h (positive when b's share is the larger) for shares a/of_a and b/of_b.

    The variance is that of the pooled share. Where counts are small the normal tail is too thin: p is never below that
    of the binomial test of b among a + b. Where nothing or everything counts, or a side is empty: z 0, p 1.
    """
    from scipy.special import erfc

    p, q = a / np.maximum(of_a, 1), b / np.maximum(of_b, 1)
    pooled = (a + b) / np.maximum(of_a + of_b, 1)
    variance = pooled * (1.0 - pooled) * (1.0 / np.maximum(of_a, 1) + 1.0 / np.maximum(of_b, 1))
    usable = (variance > 0.0) & (of_a > 0) & (of_b > 0)
    z = np.where(usable, (q - p) / np.sqrt(np.where(usable, variance, 1.0)), 0.0)
    h = 2.0 * (np.arcsin(np.sqrt(q)) - np.arcsin(np.sqrt(p)))
    least = np.where(usable, _binomial_p(a, of_a, b, of_b), 1.0)
    return z, np.maximum(erfc(np.abs(z) / np.sqrt(2.0)), least), np.where((of_a > 0) & (of_b > 0), h, 0.0)


def _binomial_p(a: Counts, of_a: Counts, b: Counts, of_b: Counts) -> Numbers:
    """Two-sided p of b among a + b, each of which falls to b's side with b's share of all rows (of the rarer case)."""
    from scipy.special import bdtr, bdtrc

    rare = 2 * (a + b) <= of_a + of_b
    a, b = np.where(rare, a, of_a - a), np.where(rare, b, of_b - b)
    share = of_b / np.maximum(of_a + of_b, 1)
    above = np.where(b > 0, bdtrc(np.maximum(b - 1, 0), a + b, share), 1.0)
    return np.asarray(np.minimum(1.0, 2.0 * np.minimum(above, bdtr(b, a + b, share))))


def benjamini_hochberg(p_values: Numbers) -> Numbers:
    """Adjusted p-values (Benjamini and Hochberg, 1995), in the order given."""
    count = len(p_values)
    if not count:
        return p_values
    order = np.argsort(p_values)
    ranked = p_values[order] * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return adjusted


def _add(values: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def _group_starts(counts: Counts, groups: int) -> NDArray[np.intp]:
    """Where each of up to `groups` groups of bins begins; a bin goes to the one where the middle of its mass is."""
    total = max(1, int(counts.sum()))
    middle = (np.cumsum(counts) - counts / 2.0) / total
    group = np.minimum((middle * groups).astype(np.intp), groups - 1)
    return np.flatnonzero(np.diff(group, prepend=-1))


def _shares(segments: Segments, counts: Counts, totals: Counts) -> Numbers:
    return np.asarray(counts / np.maximum(totals, 1)[segments.cell_segment])


def _cumulated(segments: Segments, differences: Numbers) -> Numbers:
    """Running sums that begin anew in each segment."""
    running = np.cumsum(differences)
    before = np.concatenate([[0.0], running[segments.starts[1:] - 1]])
    return np.asarray(running - before[segments.cell_segment])


def _p_values(ordered: Flags, ks: Numbers, chi_squared: Numbers, cells: Counts, N: Counts, n: Counts) -> Numbers:
    from scipy.special import chdtrc, kolmogorov

    by_chi = np.where(cells > 1, chdtrc(np.maximum(cells - 1, 1), chi_squared), 1.0)
    by_ks = kolmogorov(np.sqrt(N / np.maximum(N + n, 1) * n) * ks)
    return np.asarray(np.where(ordered, np.minimum(1.0, 2.0 * np.minimum(by_chi, by_ks)), by_chi))


def _pooled_cells(always: Flags, reference: Counts, window: Counts, N: Counts, n: Counts) -> Flags:
    expected = (reference + window) * (np.minimum(N, n) / np.maximum(N + n, 1))
    return np.asarray(always | (expected < LEAST_EXPECTED))


def _chi_squared(segments: Segments, window: Counts, N: Counts, n: Counts) -> tuple[Numbers, Counts]:
    """Pearson's statistic of the 2 x cells table of each segment, small cells pooled, and how many cells it has.

    With the margins N and n it is N n Σ (R/N − W/n)² / (R + W).
    """
    R, W = _add(segments.reference, segments.groups.starts), _add(window, segments.groups.starts)
    N_cell, n_cell = N[segments.groups.segment], n[segments.groups.segment]
    always = np.logical_or.reduceat(segments.always_pooled, segments.groups.starts)
    pooled = _pooled_groups(segments, always, R, W, N_cell, n_cell)
    terms = np.where(pooled, 0.0, _chi_terms(R, W, N_cell, n_cell))
    rest_R, rest_W = (_add(np.where(pooled, counts, 0), segments.groups.firsts) for counts in (R, W))
    cells = _add((~pooled).astype(np.int64), segments.groups.firsts) + (rest_R + rest_W > 0)
    return _add(terms, segments.groups.firsts) + _chi_terms(rest_R, rest_W, N, n), cells


def _pooled_groups(segments: Segments, always: Flags, R: Counts, W: Counts, N: Counts, n: Counts) -> Flags:
    """Small groups, and the smallest other one too where those that are pooled are still too few together."""
    pooled = _pooled_cells(always, R, W, N, n)
    expected = (R + W) * (np.minimum(N, n) / np.maximum(N + n, 1))
    rest = _add(np.where(pooled, expected, 0.0), segments.groups.firsts)
    smallest = np.minimum.reduceat(np.where(pooled, np.inf, expected), segments.groups.firsts)
    too_few = (rest > 0.0) & (rest < LEAST_EXPECTED)
    return np.asarray(
        pooled
        | (too_few & np.isfinite(smallest))[segments.groups.segment] & (expected <= smallest[segments.groups.segment])
    )


def _chi_terms(R: Counts, W: Counts, N: Counts, n: Counts) -> Numbers:
    N, n = np.maximum(N, 1), np.maximum(n, 1)
    return np.asarray((R / N - W / n) ** 2 / np.maximum(R + W, 1) * N * n)


def _variation_or_outside(segments: Segments, window: Counts, N: Counts, n: Counts) -> Numbers:
    """The larger of TV* among the values within the reference's range, times their share, and of the share outside.

    Neither exceeds the total variation of the whole. Apart, so that rows of garbage move the effect by no more than
    their share: what TV* adds when its noise is taken off would make more of them.
    """
    inside = np.where(segments.outside, 0, window)
    n_inside = _add(inside, segments.starts)
    share = n_inside / np.maximum(n, 1)
    return np.maximum(share * _total_variation(segments, inside, N, n_inside), np.where(n > 0, 1.0 - share, 0.0))


def _total_variation(segments: Segments, window: Counts, N: Counts, n: Counts) -> Numbers:
    """TV* = √max(0, TV² − b²), b the total variation that samples of one distribution show on average."""
    groups = segments.fine_groups
    R, W = _add(segments.reference, groups.starts), _add(window, groups.starts)
    N_cell, n_cell = N[groups.segment], n[groups.segment]
    pooled = _pooled_cells(segments.always_pooled[groups.starts], R, W, N_cell, n_cell)
    pooled &= ~segments.ordered[groups.segment]
    rest_R, rest_W = (_add(np.where(pooled, counts, 0), groups.firsts) for counts in (R, W))
    each, noise = _variation_terms(R, W, N_cell, n_cell)
    rest, rest_noise = _variation_terms(rest_R, rest_W, N, n)
    variation = (_add(np.where(pooled, 0.0, each), groups.firsts) + rest) / 2.0
    expected = (_add(np.where(pooled, 0.0, noise), groups.firsts) + rest_noise) / 2.0
    return np.sqrt(np.maximum(0.0, variation**2 - expected**2))


def _variation_terms(R: Counts, W: Counts, N: Counts, n: Counts) -> tuple[Numbers, Numbers]:
    """|R/N − W/n| of each cell, and its mean when both samples are of one distribution (a half-normal's mean)."""
    N, n = np.maximum(N, 1), np.maximum(n, 1)
    q = (R + W) / (N + n)
    return np.abs(R / N - W / n), np.sqrt(2.0 / np.pi * np.maximum(0.0, q * (1.0 - q)) * (1.0 / n + 1.0 / N))


def _psi(segments: Segments, window: Counts, N: Counts, n: Counts) -> Numbers:
    """Population stability index over the merged groups, half a row added to each cell so that it stays finite."""
    R, W = _add(segments.reference, segments.groups.starts), _add(window, segments.groups.starts)
    cells = _add(np.ones(len(R)), segments.groups.firsts)
    p = (R + 0.5) / (N + 0.5 * cells)[segments.groups.segment]
    q = (W + 0.5) / (n + 0.5 * cells)[segments.groups.segment]
    return _add((q - p) * np.log(q / p), segments.groups.firsts)


def _wasserstein(segments: Segments, rising: Numbers) -> Numbers:
    """∫ |F − G| over the reference's range, the distribution functions taken as straight lines within a bin."""
    left = np.concatenate([[0.0], rising[:-1]])
    left[segments.starts] = 0.0
    a, b = np.abs(left), np.abs(rising)
    crossing = left * rising < 0.0
    mean = np.where(crossing, (a * a + b * b) / np.where(crossing, 2.0 * (a + b), 1.0), (a + b) / 2.0)
    with np.errstate(over="ignore"):
        distance = _add(mean * segments.widths, segments.starts)
    return np.asarray(np.minimum(distance, np.finfo(np.float64).max))
