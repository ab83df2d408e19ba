"""Drifts to try a configuration with: each says what becomes of the shares of a distribution's cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.binning import Numbers
from models.reference import Reference
from monitoring.window_profile import Part

#: The shares after the drift; None where it makes no sense for this part.
Move = Callable[[Part, Numbers], Numbers | None]
SHIFT, SCALE, GAPS = 0.5, 1.2, 0.2
#: A level that vanishes holds this much, where one does; one of less than the second figure is too rare to be missed.
_LEVEL_SHARE, _LEAST_LEVEL_SHARE = 0.1, 0.05
#: A column that is one value in more than this share of its rows is a constant: it takes another value.
_CONSTANT = 0.9
#: A column with more gaps than this has no room for a fifth more that would matter.
_MOST_GAPS = 0.5


@dataclass(frozen=True)
class Drift:
    """One kind of drift; `label` is what people read."""

    name: str
    label: str
    move: Move
    #: Share of the rows with a value that lose it.
    missing: float = 0.0
    #: All dates of the window become one.
    one_moment: bool = False

    def suits(self, reference: Reference, part: Part) -> bool:
        """Whether the drift changes this part at all, by an amount that ought to be found."""
        if self.missing:
            feature = reference.features[part.feature] if part.feature >= 0 else None
            return feature is not None and feature.missing + feature.infinite <= _MOST_GAPS * reference.rows
        return self.move(part, np.array(part.counts) / sum(part.counts)) is not None


def _shifted(part: Part, shares: Numbers) -> Numbers | None:
    return _mapped(part, shares, 1.0, SHIFT)


def _scaled(part: Part, shares: Numbers) -> Numbers | None:
    return _mapped(part, shares, SCALE, 0.0)


def _mapped(part: Part, shares: Numbers, scale: float, shift: float) -> Numbers | None:
    """Shares after x → mean + scale (x − mean) + shift sd, the values spread evenly within a bin."""
    if part.numbers is None or not part.numbers.sd > 0.0:
        return None
    mean, sd, edges = part.numbers.mean, part.numbers.sd, np.array(part.numbers.bins.edges)
    with np.errstate(over="ignore", invalid="ignore"):
        origins = np.nan_to_num((edges - mean - shift * sd) / scale + mean)
    below = np.interp(origins, edges, np.cumsum(shares)[:-1])
    after = np.diff(below, prepend=0.0, append=1.0)
    if part.name == "score":  # a probability stays one: what would leave the range ends at its border
        after[1] += after[0]
        after[-2] += after[-1]
        after[[0, -1]] = 0.0
    return np.maximum(after, 0.0)


def _without_a_level(part: Part, shares: Numbers) -> Numbers | None:
    """Rows of one level turn into the others, by their shares: the rarest of those that hold a tenth, else the largest.

    A column of one level, or of none that holds enough, is left alone.
    """
    if part.levels is None:
        return None
    known = np.array(part.counts[: part.levels.separate]) / sum(part.counts)
    if np.count_nonzero(known) < 2 or known.max() < _LEAST_LEVEL_SHARE:
        return None
    common = np.flatnonzero(known >= _LEVEL_SHARE)
    after = shares.copy()
    after[common[np.argmin(known[common])] if len(common) else np.argmax(known)] = 0.0
    return after / after.sum() if after.sum() > 0.0 else None


def _constant(part: Part, shares: Numbers) -> Numbers | None:
    """Of a feature: all rows in the cell of the median or of the commonest level; in another where they are already."""
    if part.feature < 0:
        return None
    counts = np.array(part.counts)
    held = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2.0)) if part.ordered else int(np.argmax(counts))
    if counts[held] > _CONSTANT * counts.sum():
        held = len(counts) - 1 if held != len(counts) - 1 else 0
    after = np.zeros(len(shares))
    after[held] = 1.0
    return after


def _unmoved(_part: Part, _shares: Numbers) -> Numbers | None:
    return None


DRIFTS: tuple[Drift, ...] = (
    Drift("shift", "numbers shifted by half a standard deviation", _shifted),
    Drift("scale", "numbers spread by a fifth about their mean", _scaled),
    Drift("missing", "a fifth of a column turning missing", _unmoved, missing=GAPS),
    Drift("vanished", "a common level vanishing", _without_a_level),
    Drift("constant", "a column turning constant, or a constant taking another value", _constant, one_moment=True),
)
SCORE_SHIFT = Drift("score_shift", "the model's scores shifted by half a standard deviation", _shifted)
