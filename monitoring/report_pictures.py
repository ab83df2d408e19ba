"""The four-panel picture of a report: F1 by day, accuracy against confidence, volume, all metrics.

A colour is a model version in every panel. What is not known is a gap or a sentence, never a zero.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

from monitoring.plain_json import valid_text
from monitoring.report_data import Report
from monitoring.report_panels import Drawn, draw_confidence, draw_f1, draw_metrics, draw_volume

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

#: Pixels of the picture.
SIZE = (1680, 1260)
_DPI = 120
#: More versions cannot be told apart; those with the most predictions are drawn.
MOST_VERSIONS = 6
#: Told apart by people who see few colours (after Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#c98a00", "#4d4d4d")
_INK, _FAINT = "#24292f", "#6a737d"
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK,
    "axes.edgecolor": "#b5bcc4", "axes.labelcolor": _INK, "axes.titlesize": 12.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlepad": 10, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e3e6ea", "axes.spines.top": False, "axes.spines.right": False, "xtick.color": "#6a737d",
    "ytick.color": "#6a737d", "xtick.labelcolor": _INK, "ytick.labelcolor": _INK, "legend.frameon": False,
    "figure.facecolor": "white",
}  # fmt: skip


def report_picture(report: Report) -> bytes:
    """The picture as PNG of `SIZE`; any report has one."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for it, which is enough
        figure = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI)
        figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.14, wspace=0.03, hspace=0.05)
        FigureCanvasAgg(figure)
        _compose(figure, report)
        figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def drawn_versions(report: Report) -> list[Drawn]:
    """The versions with the most predictions, in the report's order."""
    by_size = sorted(report.models, key=lambda model: (model.predictions, model.labels), reverse=True)
    kept = {model.model_version for model in by_size[:MOST_VERSIONS]}
    models = [model for model in report.models if model.model_version in kept]
    return [Drawn(model, colour) for model, colour in zip(models, _COLOURS, strict=False)]


def reported_days(report: Report) -> list[date]:
    """Every day of the report, those without a prediction too."""
    known = [day.day for model in report.models for day in model.by_day]
    first = min([(report.timestamp - timedelta(days=report.days)).date(), *known])
    last = max([report.timestamp.date(), *known])
    return [first + timedelta(days=place) for place in range((last - first).days + 1)]


def _compose(figure: Figure, report: Report) -> None:
    drawn, days = drawn_versions(report), reported_days(report)
    figure.suptitle(f"Models in service, {days[0]} to {days[-1]}", fontsize=16, fontweight="bold")
    (f1, confidence), (volume, metrics) = figure.subplots(2, 2)
    draw_f1(f1, drawn, days)
    draw_confidence(confidence, drawn)
    draw_volume(volume, drawn, days)
    draw_metrics(metrics, drawn)
    _legend(figure, drawn, len(report.models))


def _legend(figure: Figure, drawn: Sequence[Drawn], versions: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Line2D([], [], color=one.colour, marker="o", linewidth=2, label=f"version {_short(one.model.model_version)}")
        for one in drawn
    ]
    if drawn:
        handles += [
            Line2D([], [], color=_FAINT, linestyle="--", linewidth=1.5, label="at training"),
            Patch(color=_FAINT, alpha=0.25, label="95 % interval"),
        ]
    more = f"The {len(drawn)} of {versions} versions with the most predictions" if versions > len(drawn) else None
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), title=more)


def _short(text: str, limit: int = 24) -> str:
    """Cut, on one line, and with dollars that matplotlib takes for dollars and not for mathematics."""
    plain = " ".join(valid_text(text).split())
    cut = plain if len(plain) <= limit else f"{plain[: limit - 1]}…"
    return cut.replace("$", r"\$")
