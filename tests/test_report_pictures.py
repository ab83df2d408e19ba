"""A report's picture: there is one of any report, and it shows no figure that nothing is known of."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from monitoring.report_data import Report
from monitoring.report_panels import Drawn, draw_confidence, draw_f1, draw_metrics, draw_volume
from monitoring.report_pictures import MOST_VERSIONS, SIZE, drawn_versions, report_picture, reported_days
from tests.made_reports import made_model, made_report, month


def f1_lines(report: Report) -> tuple[Sequence[date], list[np.ndarray]]:
    axes, days = Figure().subplots(), reported_days(report)
    draw_f1(axes, drawn_versions(report), days)
    solid = [line for line in axes.get_lines() if line.get_linestyle() == "-"]
    return days, [np.asarray(line.get_ydata(), dtype=float) for line in solid]


def said(draw: Callable[..., None], *more: object) -> list[str]:
    axes = Figure().subplots()
    draw(axes, *more)
    return [text.get_text() for text in axes.texts]


REPORTS: dict[str, Callable[[], Report]] = {
    "no model": lambda: made_report([]),
    "nothing of the version": lambda: made_report([made_model("9", {})]),
    "no labels": lambda: made_report([made_model("1", dict.fromkeys(range(5), (100, 0)))]),
    "one label": lambda: made_report([made_model("1", {0: (1, 1)})], days=1),
    "labels alone": lambda: made_report([made_model("1", {1: (0, 40)})]),
    "gaps": lambda: made_report([made_model(v, {0: (90, 60), 3: (90, 0), 5: (90, 60)}) for v in "12"]),
    "a month": month,
    "a year": lambda: made_report([made_model("1", dict.fromkeys(range(0, 366, 9), (90, 60)))], days=366),
    "names": lambda: made_report([made_model(v, {0: (90, 60)}) for v in ("$\\frac{$ <script>", "日本 é\n\x00", "_")]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_any_report_has_a_picture_of_the_size_that_was_wanted(name: str) -> None:
    picture = imread(io.BytesIO(report_picture(REPORTS[name]())))
    assert picture.shape[1::-1] == SIZE
    assert np.ptp(picture[..., :3]) > 0.5


def test_days_without_labels_are_gaps_and_never_zeros() -> None:
    report = made_report([made_model("1", {0: (90, 60), 3: (90, 0), 5: (90, 60)})])
    days, [line] = f1_lines(report)
    assert len(days) == len(line) == 8
    assert [days[-1].toordinal() - days[at].toordinal() for at in np.flatnonzero(~np.isnan(line)).tolist()] == [5, 0]
    assert np.nanmin(line) > 0.5


def test_the_line_is_the_figures_of_the_report() -> None:
    report = month()
    days, lines = f1_lines(report)
    for model, line in zip(report.models, lines, strict=True):
        drawn = {day: value for day, value in zip(days, line, strict=True) if value == value}
        known = {day.day: day.metrics["f1_score"] for day in model.by_day if day.metrics["f1_score"] is not None}
        assert drawn == known


def test_the_figure_at_training_is_a_dashed_line_where_it_is_known() -> None:
    [model] = made_report([made_model("1", {0: (90, 60)})]).models
    unknown = msgspec.structs.replace(model, baseline=dict.fromkeys(model.baseline))
    for one, heights in ((model, [0.87]), (unknown, [])):
        axes, report = Figure().subplots(), made_report([one])
        draw_f1(axes, drawn_versions(report), reported_days(report))
        assert [np.asarray(line.get_ydata())[0] for line in axes.get_lines() if line.get_linestyle() == "--"] == heights


def test_bars_hold_all_predictions_and_all_labels() -> None:
    report, axes = month(), Figure().subplots()
    draw_volume(axes, drawn_versions(report), reported_days(report))
    total = sum(model.predictions + model.labels for model in report.models)
    assert sum(bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)) == total


def test_a_panel_without_data_says_why() -> None:
    silent = [Drawn(made_model("1", {0: (100, 0)}), "blue")]
    days = reported_days(made_report([]))
    for panel in (partial(draw_f1, days=days), draw_confidence, draw_metrics):
        assert said(panel, silent) == ["Not known:\nno outcome has come back."]
        assert said(panel, []) == ["No predictions were logged\nin these days."]
    assert said(draw_volume, [], days) == ["No predictions were logged\nin these days."]


def test_a_loss_beyond_the_axis_is_told_as_a_number() -> None:
    model = made_model("1", {0: (100, 100)})
    worse = msgspec.structs.replace(model, metrics=model.metrics | {"log_loss": 2.345})
    assert said(draw_metrics, [Drawn(worse, "blue")]) == ["2.35 ▸"]


def test_of_many_versions_those_with_the_most_predictions_are_drawn() -> None:
    report = made_report([made_model(str(at), {0: (100 * (1 + at % 9), 0)}) for at in range(12)])
    drawn = drawn_versions(report)
    assert [one.model.model_version for one in drawn] == ["3", "4", "5", "6", "7", "8"]
    assert len({one.colour for one in drawn}) == MOST_VERSIONS
