"""Drift in words: which way something moved and how far, read off the counts."""

from __future__ import annotations

import numpy as np

from models.binning import Counts, Numbers
from models.reference import NumericProfile
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
    reference = np.array(part.counts, dtype=np.int64)
    name = f"{part.owner} (lag)" if part.name == "lag" else part.owner
    if part.numbers is not None:
        return _describe_numbers(name, part.numbers, reference, window)
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


def _describe_numbers(name: str, numbers: NumericProfile, reference: Counts, window: Counts) -> str:
    edges = np.array(numbers.bins.edges)
    low, middle, high = (_Quantile(edges, reference, share) for share in (0.25, 0.5, 0.75))
    low_now, middle_now, high_now = (_Quantile(edges, window, share) for share in (0.25, 0.5, 0.75))
    width, width_now = high.value - low.value, high_now.value - low_now.value
    moved = middle_now.value - middle.value
    if middle_now.beyond or abs(moved) > _MOVED * max(width, 0.0):
        way = "up" if (middle_now.beyond or moved) > 0 else "down"
        return f"{name} {way}: median {middle} to {middle_now}"
    if width_now > width * _WIDER or width > width_now * _WIDER:
        way = "wider" if width_now > width else "narrower"
        return f"{name} {way}: middle half {low} … {high} to {low_now} … {high_now}"
    return _describe_bin(name, edges, reference / reference.sum(), window / window.sum())


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


class _Quantile:
    """A quantile read off bins, straight within a bin; in an open bin only the side of the range is known."""

    def __init__(self, edges: Numbers, counts: Counts, share: float) -> None:
        running = np.cumsum(counts)
        target = share * running[-1]
        index = min(int(np.searchsorted(running, target)), len(edges))
        self.beyond = -1 if index == 0 else int(index == len(edges))
        if self.beyond:
            self.value = float(edges[0 if index == 0 else -1])
            return
        part = (target - (running[index] - counts[index])) / counts[index]
        self.value = float(edges[index - 1] * (1.0 - part) + edges[index] * part)

    def __str__(self) -> str:
        if not self.beyond:
            return _number(self.value)
        return (
            f"below {_number(self.value)}, the lowest of training"
            if self.beyond < 0
            else f"above {_number(self.value)}, the highest of training"
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share < 0.995 else f"{100.0 * share:.0f} %"
