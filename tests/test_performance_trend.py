"""The trend of the accuracy: its test against scipy, its false alarms and its power by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from monitoring.performance_trend import DayCount, Trend, trend_of


def days(shares: list[float], labels: int = 1000) -> list[DayCount]:
    return [DayCount(day, labels, round(share * labels)) for day, share in enumerate(shares)]


def drawn(draw: Generator, shares: list[float], labels: int) -> Trend:
    return trend_of([DayCount(day, labels, int(draw.binomial(labels, share))) for day, share in enumerate(shares)])


def test_a_fall_and_a_rise_have_their_names_and_their_slopes() -> None:
    falling, rising = trend_of(days([0.9, 0.88, 0.86, 0.84, 0.82])), trend_of(days([0.82, 0.84, 0.86, 0.88, 0.9]))
    assert (falling.direction, rising.direction, falling.windows) == ("declining", "improving", 5)
    assert falling.slope == pytest.approx(-0.02)
    assert rising.slope == pytest.approx(0.02)


def test_the_slope_is_that_of_a_weighted_regression_and_the_p_value_that_of_cochran_and_armitage() -> None:
    counts = [DayCount(0, 400, 341), DayCount(1, 900, 772), DayCount(3, 150, 125), DayCount(4, 600, 492)]
    x, n, y = (
        np.array(values) for values in zip(*((c.day, c.labels, c.right / c.labels) for c in counts), strict=True)
    )
    found = trend_of(counts)
    assert found.slope == pytest.approx(np.polyfit(x, y, 1, w=np.sqrt(n))[0])
    rows = np.repeat(x, n), np.concatenate([np.arange(c.labels) < c.right for c in counts])
    z = np.corrcoef(rows)[0, 1] * np.sqrt(n.sum())  # the test's other form: n r² of the single rows
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-6)


def test_only_the_last_five_days_with_enough_labels_count() -> None:
    early = days([0.1, 0.2, 0.3])
    late = [DayCount(10 + one.day, one.labels, one.right) for one in days([0.85] * 5)]
    few = [DayCount(20, 49, 0)]
    assert trend_of([*few, *late, *early]) == trend_of(late)
    assert trend_of(late).direction == "stable"


@pytest.mark.parametrize("counts", [[], days([0.5]), days([0.9, 0.1]), days([0.9, 0.5, 0.1], labels=49)])
def test_fewer_than_three_days_have_no_trend(counts: list[DayCount]) -> None:
    found = trend_of(counts)
    assert (found.direction, found.slope, found.p_value) == ("not_known", None, None)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_days_that_are_all_right_or_all_wrong_are_stable(share: float) -> None:
    assert trend_of(days([share] * 5)).direction == "stable"


def test_a_fall_that_does_not_matter_is_stable_however_sure_it_is() -> None:
    found = trend_of(days([0.9, 0.8995, 0.899, 0.8985, 0.898], labels=10_000_000))
    assert found.p_value is not None and found.p_value < 1e-9
    assert found.direction == "stable"


def test_days_that_differ_more_than_chance_make_them_are_no_trend() -> None:
    assert trend_of(days([0.9, 0.8, 0.91, 0.78, 0.84], labels=5000)).direction == "stable"


@pytest.mark.parametrize(("share", "labels"), [(0.85, 50), (0.85, 1000), (0.6, 200), (0.97, 300)])
def test_steady_days_raise_a_false_alarm_in_one_of_a_hundred_at_most(share: float, labels: int) -> None:
    draw = np.random.default_rng(labels)
    alarms = sum(drawn(draw, [share] * 5, labels).direction != "stable" for _ in range(4000))
    assert alarms <= 40


def test_two_points_a_day_are_found() -> None:
    draw = np.random.default_rng(3)
    found = [drawn(draw, [0.9, 0.88, 0.86, 0.84, 0.82], 500).direction for _ in range(500)]
    assert found.count("declining") >= 0.8 * 500
