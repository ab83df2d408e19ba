"""Windows drawn from a reference's profile alone, quiet or with a drift injected: counts, never rows.

Each window is drawn in two steps: first the shares of the cells, from what the reference's counts leave open (Dirichlet
with the counts as parameters: Rubin, 1981, The Bayesian Bootstrap), then the window's counts (multinomial). So window
and reference differ as two samples of one population do; drawn from the reference itself, windows would be too quiet.
Features are drawn independently of each other, and so are the parts of a date.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from models.binning import Counts, Numbers
from monitoring.injected_drifts import Drift
from monitoring.window_profile import Layout, Part, WindowProfile


@dataclass(frozen=True)
class DrawnWindow:
    """A quiet window and its population: shares of the cells, and of missing rows by feature."""

    profile: WindowProfile
    shares: Numbers
    missing: Numbers


class Resampler:
    """Draws windows of `rows` rows from one reference."""

    def __init__(self, layout: Layout, rows: int) -> None:
        self._layout = layout
        self._rows = rows
        self._parts = tuple(part for part in layout.parts if sum(part.counts))
        self._parameters = np.concatenate([_parameters(part) for part in layout.parts] or [np.zeros(0)])
        self._dates = [
            (index, feature.dates) for index, feature in enumerate(layout.reference.features) if feature.dates
        ]

    def draw(self, rng: Generator) -> DrawnWindow:
        """A window without drift, scored rows included where the reference has scores."""
        reference = self._layout.reference
        shares = rng.standard_gamma(self._parameters)
        missing = _beta(rng, self._layout.missing, reference.rows)
        window = self._empty()
        window.missing[:] = rng.binomial(self._rows, missing)
        for part in self._parts:
            cells = slice(part.start, part.stop)
            shares[cells] /= shares[cells].sum()
            window.counts[cells] = rng.multinomial(self._rows_of(part, window, rng), shares[cells])
        return DrawnWindow(window, shares, missing)

    def inject(self, drawn: DrawnWindow, owner: str, drift: Drift, rng: Generator) -> WindowProfile:
        """The window with the columns of one feature (or score) drawn anew, from a population that has drifted."""
        window = copy.deepcopy(drawn.profile)
        parts = [part for part in self._parts if part.owner == owner]
        feature = parts[0].feature
        if feature >= 0 and drift.missing:
            share = drawn.missing[feature] + drift.missing * (1.0 - drawn.missing[feature])
            window.missing[feature] = rng.binomial(self._rows, share)
        for part in parts:
            before = drawn.shares[part.start : part.stop]
            moved = drift.move(part, before)
            after = before if moved is None else moved
            window.counts[part.start : part.stop] = rng.multinomial(self._rows_of(part, window, rng), after)
        if drift.one_moment and feature >= 0:
            window.latest[feature] = window.earliest[feature]
        return window

    def owners(self, drift: Drift, *, scores: bool = False) -> list[str]:
        """The features (or the scores) that this drift makes sense for, judged by the reference's own shares."""
        found: dict[str, None] = {}
        for part in self._parts:
            if (part.feature < 0) is scores and drift.suits(self._layout.reference, part):
                found[part.owner] = None
        return list(found)

    def _empty(self) -> WindowProfile:
        """No counts yet; dates span what they span in the reference."""
        layout, features = self._layout, len(self._layout.reference.features)
        window = WindowProfile(
            identity=layout.identity,
            rows=self._rows,
            scored_rows=self._rows if layout.reference.scores is not None else 0,
            counts=np.zeros(layout.cells, dtype=np.int64),
            missing=np.zeros(features, dtype=np.int64),
            infinite=np.zeros(features, dtype=np.int64),
            sums=np.zeros(len(layout.parts)),
            earliest=np.full(features, np.inf),
            latest=np.full(features, -np.inf),
        )
        for index, dates in self._dates:
            window.earliest[index], window.latest[index] = dates.earliest, dates.latest
        return window

    def _rows_of(self, part: Part, window: WindowProfile, rng: Generator) -> int:
        """Rows of the window that have a value of this part; of lags only those whose other date is there too."""
        if part.feature < 0:
            return self._rows
        present = self._rows - int(window.missing[part.feature])
        if part.name != "lag":
            return present
        reference = self._layout.reference
        dated = max(1, reference.rows - int(self._layout.missing[part.feature]))
        return int(rng.binomial(present, min(1.0, sum(part.counts) / dated)))


def _parameters(part: Part) -> Numbers:
    """Of the shares' Dirichlet distribution: the counts, and what they tell of cells that the reference has nothing in.

    Below the lowest and above the highest of N values lies a share of 1/(N + 1) each, on average. Unseen levels hold as
    much as levels that occur once do (Good and Turing), taken evenly from all levels: the discount of Pitman and Yor
    (1997), without which rare levels would be too common in the windows.
    """
    counts = np.array(part.counts, dtype=np.float64)
    if part.numbers is not None and part.numbers.sd > 0.0:
        counts[[0, -1]] = np.maximum(counts[[0, -1]], 1.0)
    elif part.levels is not None and part.levels.levels:
        known, separate = len(part.levels.levels), part.levels.separate
        once = part.levels.rare_rows - counts[-1]
        counts[:separate] -= once / known
        counts[-2] = max(0.0, counts[-2] - once / known * (known - separate))
        counts[-1] += once
    return counts


def _beta(rng: Generator, counts: Counts, rows: int) -> Numbers:
    """Shares that counts among `rows` leave open; exactly 0 and 1 where nothing or everything was counted."""
    hits, misses = rng.standard_gamma(counts), rng.standard_gamma(rows - counts)
    return np.asarray(hits / np.maximum(hits + misses, np.finfo(np.float64).tiny))
