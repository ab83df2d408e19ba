"""The estimated accuracy of a window: its interval, and how labels judge it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from monitoring.performance_estimation import (
    JUDGING_LABELS,
    LabelledEstimates,
    PerformanceEstimate,
    check_estimates,
    estimate_performance,
    labelled_estimates,
    standard_error,
)
from monitoring.store import Store
from tests.made_hours import PROFILE, put_estimates, put_outcomes

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RANDOM = np.random.default_rng(7)


@pytest.fixture
def one(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Store]:
    """SQLite alone, for what does not depend on the database."""
    path = tmp_path / "one.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    with Store(f"sqlite:///{path}") as opened:
        yield opened


def estimate(store: Store, hours: int = 1) -> PerformanceEstimate:
    return estimate_performance(store, "1", NOON, NOON + hours * HOUR, NOON + hours * HOUR, PROFILE)


def test_the_estimate_is_the_mean_over_hours_hosts_and_no_other_version(store: Store) -> None:
    first, second = RANDOM.uniform(0.6, 1.0, 300), RANDOM.uniform(0.6, 1.0, 100)
    put_estimates(store, NOON, first, more=7)
    put_estimates(store, NOON + HOUR, second, source=2)
    put_estimates(store, NOON, np.zeros(50), version="2")
    put_estimates(store, NOON + 2 * HOUR, np.zeros(50))
    found = estimate(store, 2)
    both = np.concatenate([first, second])
    assert (found.status, found.rows, found.unestimated_rows) == ("ok", 400, 7)
    assert found.accuracy == pytest.approx(both.mean(), abs=1e-5)
    half = 1.959964 * np.sqrt((both * (1 - both)).sum() / 400**2 + 0.85 * 0.15 / 8_000)
    assert found.interval == pytest.approx((both.mean() - half, both.mean() + half), abs=1e-5)
    assert "no outcomes have borne it out yet (0 of the 200 needed)" in found.words


def test_nineteen_of_twenty_intervals_hold_what_turns_out() -> None:
    random = np.random.default_rng(1)
    inside = []
    for _ in range(2_000):
        error = random.normal(0, np.sqrt(0.85 * 0.15 / PROFILE.rows))  # what an error model of N rows is off by
        c = random.beta(5, 1, 1_000)
        realised = (random.random(1_000) < np.clip(c + error, 0, 1)).mean()
        margin = 1.959964 * standard_error(1_000, float((c * (1 - c)).sum()), PROFILE)
        inside.append(abs(realised - c.mean()) <= margin)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_few_rows_and_no_error_model_give_no_figure_but_a_sentence(one: Store) -> None:
    put_estimates(one, NOON, np.full(49, 0.9))
    few = estimate(one)
    assert (few.status, few.accuracy, few.interval) == ("not_enough_data", None, None)
    assert few.words == "49 estimated rows are too few to tell; 50 are needed."
    without = estimate_performance(one, "1", NOON, NOON + HOUR, NOON, None)
    assert without.status == "no_error_model" and "python main.py run" in without.words
    empty = estimate_performance(one, "9", NOON, NOON + HOUR, NOON, PROFILE)
    assert (empty.status, empty.rows) == ("not_enough_data", 0)


def test_labels_that_bear_it_out_are_named(one: Store) -> None:
    c = RANDOM.uniform(0.7, 1.0, 1_000)
    put_estimates(one, NOON, c)
    put_outcomes(one, NOON, c, RANDOM.random(1_000) < c)
    found = estimate(one)
    assert (found.status, found.check.verdict, found.check.labels) == ("ok", "right", 1_000)
    assert found.words.endswith("turned out right.")


def test_it_is_switched_off_where_labels_have_shown_it_wrong_and_comes_back_when_they_bear_it_out(one: Store) -> None:
    c = np.full(JUDGING_LABELS, 0.9)
    put_estimates(one, NOON, c)
    put_outcomes(one, NOON, c, RANDOM.random(len(c)) < 0.8)
    off = estimate(one)
    assert (off.status, off.accuracy, off.check.verdict) == ("switched_off", None, "wrong")
    assert off.words.startswith("The estimate is switched off: on the newest 1,000 rows with outcomes it said 90.0%")
    put_estimates(one, NOON + HOUR, c)
    put_outcomes(one, NOON + HOUR, c, RANDOM.random(len(c)) < 0.9)
    assert estimate(one, 2).status == "ok"


def test_a_gap_that_may_be_an_accident_or_does_not_matter_switches_nothing_off(one: Store) -> None:
    put_outcomes(one, NOON, np.full(250, 0.9), np.arange(250) < 215)  # 4 points, and 1.9 standard errors
    assert check_estimates(one, "1", NOON, PROFILE).verdict == "right"
    exact = PROFILE.__class__(**{**{f: getattr(PROFILE, f) for f in PROFILE.__struct_fields__}, "rows": 10**9})
    put_outcomes(one, NOON, np.full(90_000, 0.9), np.arange(90_000) < 79_200, "2")  # 2 points, 20 standard errors
    assert check_estimates(one, "2", NOON, exact).verdict == "right"
    put_outcomes(one, NOON, np.full(199, 0.9), np.arange(199) < 0, "3")
    assert check_estimates(one, "3", NOON, PROFILE).verdict == "unproven"


def test_right_estimates_are_rarely_switched_off() -> None:
    random, wrong = np.random.default_rng(2), 0
    for _ in range(3_000):
        c = random.beta(5, 1, 300)
        found = LabelledEstimates(
            labels=300, right=int((random.random(300) < c).sum()), expected=float(c.sum()),
            variance=float((c * (1 - c)).sum()),
        )  # fmt: skip
        wrong += abs(found.realised - found.estimated) > 0.025 and abs(found.z(PROFILE)) > 3.2905
    assert wrong <= 9


def test_only_the_newest_labels_judge(one: Store) -> None:
    c = np.full(1_000, 0.9)
    put_outcomes(one, NOON - timedelta(days=40), c, np.zeros(1_000, bool))
    assert check_estimates(one, "1", NOON, PROFILE).labels == 0
    put_outcomes(one, NOON - timedelta(days=20), c, np.zeros(1_000, bool))
    put_outcomes(one, NOON - timedelta(days=2), c, np.arange(1_000) < 900)
    found = check_estimates(one, "1", NOON, PROFILE)
    assert (found.verdict, found.labels, found.since) == ("right", 1_000, NOON - timedelta(days=2))


def test_realised_and_estimated_are_of_the_same_rows(store: Store) -> None:
    c = RANDOM.uniform(0.5, 1.0, 400)
    right = RANDOM.random(400) < c
    put_outcomes(store, NOON, c, right)
    put_outcomes(store, NOON + HOUR, c, np.zeros(400, bool))
    found = labelled_estimates(store, "1", NOON, NOON + HOUR)
    assert (found.labels, found.right) == (400, int(right.sum()))
    assert found.estimated == pytest.approx(c.mean(), abs=1e-5)
    assert found.variance == pytest.approx((c * (1 - c)).sum(), abs=1e-5)


def test_estimates_of_0_and_1_have_an_interval_and_a_z() -> None:
    sure = LabelledEstimates(labels=500, right=500, expected=500.0, variance=0.0)
    assert sure.z(PROFILE) == 0.0
    assert standard_error(500, 0.0, PROFILE) == pytest.approx(np.sqrt(0.85 * 0.15 / 8_000))
