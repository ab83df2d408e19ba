"""Drift in words: which way something moved and how far, read off the counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from models.binning import Counts, Numbers
from monitoring.drift_report import ShareChange
from monitoring.window_profile import Part

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: A median that moved by less of the middle half's width is called unmoved.
_MOVED = 0.1
_WIDER = 1.1


def describe_share(name: str, what: str, change: ShareChange) -> str:
    """`Income: missing 2.1 % to 32 %`; `what` is "missing" or "unseen"."""
    label = "levels not seen in training" if what == "unseen" else what
    return f"{name}: {label} {_percent(change.reference)} to {_percent(change.window)}"


def describe_part(part: Part, window: Counts) -> str:
    """What changed most in one distribution; both sides hold at least one row."""
    if part.numbers is not None:
        name = f"{part.owner} (lag)" if part.name == "lag" else part.owner
        return _describe_numbers(name, part.numbers.bins.edges, part.counts, window.tolist())
    reference = np.array(part.counts, dtype=np.int64)
    return _describe_cells(part, reference / reference.sum(), window / window.sum())


def _describe_cells(part: Part, before: Numbers, after: Numbers) -> str:
    cell = int(np.argmax(np.abs(after - before)))
    return f"{part.owner}: {_cell_name(part, cell)} {_percent(before[cell])} to {_percent(after[cell])}"


def _cell_name(part: Part, cell: int) -> str:
    if part.name == "hour":
        return f"hour {cell:02d} UTC"
    if part.name == "weekday":
        return _WEEKDAYS[cell]
    if part.levels is not None:
        rest = cell - part.levels.separate
        return ("rare levels", "levels not seen in training")[rest] if rest >= 0 else repr(part.levels.levels[cell])
    return part.labels[cell]


def _describe_numbers(name: str, edges: Sequence[float], reference: Sequence[int], window: Sequence[int]) -> str:
    low, middle, high = _quartiles(edges, reference)
    low_now, middle_now, high_now = _quartiles(edges, window)
    width, width_now = high.value - low.value, high_now.value - low_now.value
    moved = middle_now.value - middle.value
    if middle_now.beyond or abs(moved) > _MOVED * width:
        way = "up" if (middle_now.beyond or moved) > 0 else "down"
        return f"{name} {way}: median {middle} to {middle_now}"
    if width_now > width * _WIDER or width > width_now * _WIDER:
        way = "wider" if width_now > width else "narrower"
        return f"{name} {way}: middle half {low} … {high} to {low_now} … {high_now}"
    before, after = np.array(reference), np.array(window)
    return _describe_bin(name, np.array(edges), before / before.sum(), after / after.sum())


def _describe_bin(name: str, edges: Numbers, before: Numbers, after: Numbers) -> str:
    """The share below the edge at which the distributions differ most, or of one bin when that changed more."""
    apart = np.cumsum(after - before)
    edge, single = int(np.argmax(np.abs(apart[:-1]))), int(np.argmax(np.abs(after - before)))
    if abs(after[single] - before[single]) <= abs(apart[edge]):
        was, now = before[: edge + 1].sum(), after[: edge + 1].sum()
        return f"{name}: share below {_number(edges[edge])} {_percent(was)} to {_percent(now)}"
    return f"{name}: share {_bin_name(edges, single)} {_percent(before[single])} to {_percent(after[single])}"


def _bin_name(edges: Numbers, index: int) -> str:
    if index == 0:
        return f"below {_number(edges[0])}"
    if index == len(edges):
        return f"above {_number(edges[-1])}"
    low, high = _number(edges[index - 1]), _number(edges[index])
    return f"at {low}" if low == high else f"of {low} … {high}"


@dataclass(frozen=True, slots=True)
class _Quantile:
    """A quantile read off bins; in an open bin (`beyond` -1 or 1) only the side of the range is known."""

    value: float
    beyond: int = 0

    def __str__(self) -> str:
        if not self.beyond:
            return _number(self.value)
        side = "below" if self.beyond < 0 else "above"
        return f"{side} {_number(self.value)}, the {'lowest' if self.beyond < 0 else 'highest'} of training"


def _quartiles(edges: Sequence[float], counts: Sequence[int]) -> list[_Quantile]:
    """The three quartiles, values taken as spread evenly within a bin."""
    running = list(accumulate(counts))
    return [_quantile(edges, counts, running, share * running[-1]) for share in (0.25, 0.5, 0.75)]


def _quantile(edges: Sequence[float], counts: Sequence[int], running: list[int], target: float) -> _Quantile:
    index = min(bisect_left(running, target), len(edges))
    if index in (0, len(edges)):
        return _Quantile(edges[0 if index == 0 else -1], -1 if index == 0 else 1)
    part = (target - (running[index] - counts[index])) / counts[index]
    return _Quantile(edges[index - 1] * (1.0 - part) + edges[index] * part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share < 0.995 else f"{100.0 * share:.0f} %"
