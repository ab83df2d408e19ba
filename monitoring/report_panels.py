"""The four panels of a report's picture, each drawn on axes that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from monitoring.intervals import Interval
from monitoring.performance import METRIC_NAMES, DayPerformance, ModelPerformance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAINT = "#6a737d"
#: Better when smaller.
_LOSSES = ("log_loss", "brier", "ece")
_MOST_DAY_TICKS = 8
#: Up to so many days a marker each reads well; of more they run into one another.
_MARKED_DAYS = 45
#: An axis of shares shows at least this much, so that noise does not fill the panel.
_LEAST_RANGE = 0.2
_NO_PREDICTIONS = "No predictions were logged\nin these days."
_NO_OUTCOMES = "Not known:\nno outcome has come back."
_NAN = float("nan")


@dataclass(frozen=True)
class Drawn:
    """A version that is drawn."""

    model: ModelPerformance
    colour: str


def draw_f1(axes: Axes, drawn: Sequence[Drawn], days: Sequence[date]) -> None:
    axes.set(title="F1 by day", ylabel="F1, weighted by class")
    shown = [one for one in drawn if any(day.metrics["f1_score"] is not None for day in one.model.by_day)]
    if not shown:
        _say(axes, _why_nothing(drawn))
        return
    bounds: list[float] = []
    for one in shown:
        bounds += _f1_line(axes, one, days)
        trained = one.model.baseline["f1_score"]
        if trained is not None:
            axes.axhline(trained, color=one.colour, linestyle="--", linewidth=1.3, alpha=0.8)
            bounds.append(trained)
    _share_limits(axes, bounds)
    _day_axis(axes, days)


def draw_confidence(axes: Axes, drawn: Sequence[Drawn]) -> None:
    """A dot is as large as its rows are many."""
    axes.set(
        title="Accuracy against confidence",
        xlabel="how sure the model was (highest probability)",
        ylabel="how often it was right",
    )
    bins = [row for one in drawn for row in one.model.confidence]
    if not bins:
        _say(axes, _why_nothing(drawn))
        return
    axes.plot([0, 1], [0, 1], color=_FAINT, linestyle=":", linewidth=1.5)
    largest = max(row.rows for row in bins)
    for one in drawn:
        rows = one.model.confidence
        x, y = [row.mean_confidence for row in rows], [row.accuracy for row in rows]
        lows, highs = [row.accuracy_interval[0] for row in rows], [row.accuracy_interval[1] for row in rows]
        axes.vlines(x, lows, highs, color=one.colour, alpha=0.35, linewidth=3)
        axes.plot(x, y, color=one.colour, linewidth=1.3, alpha=0.8)
        axes.scatter(x, y, s=[18 + 110 * row.rows / largest for row in rows], color=one.colour, zorder=3)
    low = min(0.5, *(row.mean_confidence for row in bins))
    axes.set(xlim=(low - 0.03, 1.02))
    _share_limits(axes, [*(bound for row in bins for bound in row.accuracy_interval), low, 1.0])
    axes.text(0.98, 0.04, "dotted: as often right as sure", transform=axes.transAxes, ha="right", color=_FAINT)


def draw_volume(axes: Axes, drawn: Sequence[Drawn], days: Sequence[date]) -> None:
    """Versions stand on one another; labels of predictions that were not logged here make a bar no less tall."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set(title="Predictions by day", ylabel="predictions (filled: with an outcome)")
    if not any(day.predictions or day.labels for one in drawn for day in one.model.by_day):
        _say(axes, _NO_PREDICTIONS)
        return
    base = dict.fromkeys(days, 0)
    for one in drawn:
        for day in one.model.by_day:
            tall, x, bottom = max(day.predictions, day.labels), day.day.toordinal(), base[day.day]
            axes.bar(x, tall, bottom=bottom, width=0.8, color=one.colour, alpha=0.3, linewidth=0)
            axes.bar(x, day.labels, bottom=bottom, width=0.8, color=one.colour, linewidth=0)
            base[day.day] += tall
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=False, axis="x")
    _day_axis(axes, days)


def draw_metrics(axes: Axes, drawn: Sequence[Drawn]) -> None:
    axes.set(title="All metrics")
    known = [one for one in drawn if any(value is not None for value in one.model.metrics.values())]
    if not known:
        _say(axes, _why_nothing(drawn))
        return
    step = min(0.26, 0.78 / len(known))
    for place, one in enumerate(known):
        for row, name in enumerate(METRIC_NAMES):
            _metric(axes, one, name, row + (place - (len(known) - 1) / 2) * step, step)
    names = [f"{name} ↓" if name in _LOSSES else name for name in METRIC_NAMES]
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.4, -0.6), xlabel="↓ smaller is better; of all others, larger")
    axes.grid(visible=False, axis="y")
    for row in range(0, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f6f8", linewidth=0, zorder=0)


def _f1_line(axes: Axes, one: Drawn, days: Sequence[date]) -> list[float]:
    """Draws line and band; returns what the axis must hold. A day without labels is NaN, which interrupts both,
    and one between two such has a bar for a band."""
    known = {day.day: day for day in one.model.by_day}
    found = [_f1_of(known.get(day)) for day in days]
    values, lows, highs = [value for value, _ in found], [span[0] for _, span in found], [span[1] for _, span in found]
    x = [day.toordinal() for day in days]
    axes.fill_between(x, lows, highs, color=one.colour, alpha=0.13, linewidth=0)
    alone = [
        at for at in range(len(x)) if all(v != v for v in (*values[max(0, at - 1) : at], *values[at + 1 : at + 2]))
    ]
    axes.vlines(*([row[at] for at in alone] for row in (x, lows, highs)), color=one.colour, alpha=0.35, linewidth=3)
    size = 5.0 if len(days) <= _MARKED_DAYS else 2.5
    axes.plot(x, values, color=one.colour, linewidth=2, marker="o", markersize=size)
    return [bound for bound in (*lows, *highs) if bound == bound]


def _f1_of(day: DayPerformance | None) -> tuple[float, Interval]:
    value = None if day is None else day.metrics["f1_score"]
    if day is None or value is None:
        return _NAN, (_NAN, _NAN)
    return value, day.intervals["f1_score"] or (value, value)


def _metric(axes: Axes, one: Drawn, name: str, y: float, step: float) -> None:
    """A dot, its interval and the figure at training; a loss beyond the axis stands at its end as a number."""
    value, interval, trained = one.model.metrics[name], one.model.intervals[name], one.model.baseline[name]
    if value is None:
        return
    if trained is not None and trained <= 1.0:
        axes.vlines(trained, y - 0.6 * step, y + 0.6 * step, color=one.colour, linestyle=(0, (2, 1)), linewidth=1.6)
    if value > 1.0:
        axes.text(1.0, y, f"{value:.3g} ▸", ha="right", va="center", color=one.colour, fontsize=9)
        return
    if interval is not None:
        axes.hlines(y, interval[0], interval[1], color=one.colour, alpha=0.35, linewidth=3.5)
    axes.plot([value], [y], color=one.colour, marker="o", markersize=5)


def _day_axis(axes: Axes, days: Sequence[date]) -> None:
    shown = days[:: -max(1, -(-len(days) // _MOST_DAY_TICKS))]
    axes.set_xticks([day.toordinal() for day in shown], [f"{day.day} {day:%b}" for day in shown])
    axes.set(xlim=(days[0].toordinal() - 0.6, days[-1].toordinal() + 0.6))


def _share_limits(axes: Axes, bounds: Iterable[float]) -> None:
    """An axis that holds all bounds, of `_LEAST_RANGE` at least, within 0..1."""
    found = list(bounds)
    low, high = min(found), max(found)
    spare = max(0.0, _LEAST_RANGE - (high - low)) / 2 + 0.02
    axes.set(ylim=(max(-0.02, low - spare), min(1.02, high + spare)))


def _why_nothing(drawn: Sequence[Drawn]) -> str:
    return _NO_OUTCOMES if any(one.model.predictions or one.model.labels for one in drawn) else _NO_PREDICTIONS


def _say(axes: Axes, sentence: str) -> None:
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", fontsize=13, color=_FAINT)
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
