"""The self-test: its rates are those of a simulation with rows, and it says what to change when they are bad."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from benchmarks.drift_rates import SCHEMA, awkward_rows
from models.reference import Reference, build_reference
from models.schema import Feature, Schema
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftThresholds
from monitoring.self_test import (
    MOST_SECONDS,
    Rate,
    SelfTest,
    SelfTester,
    alarms_too_often,
    found_too_seldom,
    run_self_test,
)
from monitoring.window_profile import profile
from tests import drift_rows
from tests.drift_rows import NOW, detect

AWKWARD = build_reference(SCHEMA, awkward_rows(6_400, np.random.default_rng(3)))
#: Of the real normal columns of `AWKWARD`.
NORMAL = ("normal_0", "normal_1", "normal_2", "normal_3")


def tried(
    reference: Reference = AWKWARD,
    rows: int = 1_000,
    windows: int = 60,
    thresholds: DriftThresholds | None = None,
    seconds: float = 0.0,
    told: list[str] | None = None,
    withheld: frozenset[str] = frozenset(),
    seed: int = 0,
) -> SelfTest:
    """A self-test at a clock that goes on by `seconds` at every look."""
    ticks = itertools.count()
    return run_self_test(
        SelfTester(DriftDetector(reference, thresholds), rows, withheld=withheld, seed=seed),
        "1",
        NOW,
        rows_from="option",
        windows=windows,
        clock=lambda: next(ticks) * seconds,
        tell=None if told is None else told.append,
    )


def test_the_default_configuration_is_sensible_for_a_thousand_rows() -> None:
    result = tried(windows=100)
    assert result.verdict == "sensible"
    assert result.advice == "The configuration is sensible for windows of 1,000 rows: nothing needs to be changed."
    assert result.false_alarms.share <= 0.03
    assert {name: rate.found.share > 0.85 for name, rate in result.drifts.items()} == dict.fromkeys(
        ("shift", "scale", "missing", "vanished", "constant"), True
    )


@pytest.mark.parametrize(("rows", "p_value"), [(1_000, 0.01), (300, 0.2)])
def test_false_alarms_are_as_many_as_on_fresh_rows_of_the_same_population(rows: int, p_value: float) -> None:
    """Windows drawn from the reference itself would be too quiet; a laxer threshold makes the difference visible."""
    thresholds = DriftThresholds(p_value=p_value, effect=0.02)
    rng = np.random.default_rng(5)
    flagged = 0
    for _ in range(10):
        reference = build_reference(SCHEMA, awkward_rows(6_400, rng))
        for _ in range(30):
            flagged += detect(reference, profile(reference, awkward_rows(rows, rng)), NOW, thresholds).overall_drift
    resampled = tried(rows=rows, windows=300, thresholds=thresholds).false_alarms.share
    assert resampled == pytest.approx(flagged / 300, abs=3.0 * np.sqrt(max(flagged, 3) / 300 * 2 / 300) + 0.01)


@pytest.mark.parametrize(("drift", "rows"), [("shift", 100), ("scale", 500)])
def test_detection_is_as_frequent_as_on_fresh_rows_that_have_drifted(drift: str, rows: int) -> None:
    names = tuple(f"x{index}" for index in range(10))
    schema = Schema(target="y", classes=(0, 1), features=tuple(Feature(name=name, kind="numeric") for name in names))
    rng, found = np.random.default_rng(6), 0
    for _ in range(10):
        reference = build_reference(schema, [rng.normal(size=6_400) for _ in names])
        for repeat in range(30):
            window = [rng.normal(size=rows) for _ in names]
            moved = repeat % 10
            window[moved] = window[moved] + 0.5 if drift == "shift" else window[moved] * 1.2
            report = detect(reference, profile(reference, window), NOW)
            found += names[moved] in report.drifted_features
    result = tried(reference, rows=rows, windows=300)
    assert result.drifts[drift].found.share == pytest.approx(found / 300, abs=0.13)


def test_every_kind_of_feature_is_tried_with_what_makes_sense_for_it() -> None:
    result = tried(windows=20)
    assert {name: rate.features for name, rate in result.drifts.items()} == {
        "shift": 9, "scale": 9, "missing": 15, "vanished": 3, "constant": 15
    }  # fmt: skip
    assert all(rate.found.of == 20 for rate in result.drifts.values())


def test_the_same_seed_gives_the_same_answer_and_another_one_another() -> None:
    same = [msgspec.json.encode(tried(rows=100, windows=40, seed=seed)) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_a_threshold_that_is_too_lax_is_called_so_with_a_better_one() -> None:
    result = tried(thresholds=DriftThresholds(p_value=0.9, effect=0.001, share_effect=0.001))
    assert result.verdict == "false_alarms"
    assert result.advice.endswith("(now 0.9): python main.py monitors set data_drift --threshold p_value=0.01")


def test_a_threshold_that_is_too_strict_is_called_so() -> None:
    result = tried(thresholds=DriftThresholds(p_value=1e-30))
    assert result.verdict == "misses"
    assert result.advice.endswith("(now 1e-30): python main.py monitors set data_drift --threshold p_value=0.01")


def test_windows_that_are_too_small_are_told_to_be_larger() -> None:
    result = tried(rows=100)
    assert result.verdict == "misses"
    assert "until a window holds 500 rows or more" in result.advice
    assert set(result.drifts["scale"].missed_in) >= set(NORMAL)


def test_a_small_reference_is_what_limits_large_windows() -> None:
    small = build_reference(SCHEMA, awkward_rows(150, np.random.default_rng(3)))
    assert "train on more rows than the 150" in tried(small, rows=5_000).advice


def test_windows_under_fifty_rows_give_no_verdict() -> None:
    result = tried(rows=49, windows=5)
    assert (result.verdict, result.false_alarms.count) == ("not_enough_data", 0)
    assert result.advice.startswith("Windows of 49 rows give no verdict at all")


def test_one_alarm_among_ten_windows_is_no_proof() -> None:
    assert [alarms_too_often(Rate.of_windows(*counts)) for counts in ((1, 10), (7, 300), (8, 300), (2, 10))] == [
        False, False, True, True
    ]  # fmt: skip
    assert [found_too_seldom(Rate.of_windows(*counts)) for counts in ((7, 10), (6, 10), (260, 300), (250, 300))] == [
        False, True, False, True
    ]  # fmt: skip


def test_scores_are_tried_too_where_the_reference_has_them() -> None:
    scored = tried(drift_rows.reference(), windows=30)
    assert scored.prediction_false_alarms is not None and scored.prediction_shift is not None
    assert scored.prediction_false_alarms.count <= 2
    assert scored.prediction_shift.found.share == 1.0
    assert tried(windows=1).prediction_false_alarms is None


def test_features_that_the_log_withholds_take_no_part() -> None:
    result = tried(windows=15, withheld=frozenset({"region", "flag"}))
    assert (result.features, result.drifts["missing"].features, result.drifts["vanished"].features) == (13, 13, 2)


def test_the_time_is_bounded_and_what_was_measured_by_then_is_the_answer() -> None:
    result = tried(windows=10_000, seconds=MOST_SECONDS / 5.0)
    assert 1 <= result.windows <= 5
    assert (result.windows_asked, result.false_alarms.of) == (10_000, result.windows)


def test_one_window_is_tried_however_slow_it_is() -> None:
    assert tried(seconds=10.0 * MOST_SECONDS).windows == 1


def test_people_are_told_how_far_it_is_only_when_it_takes_long() -> None:
    told: list[str] = []
    tried(windows=3, told=told)
    assert told == []
    tried(windows=3, seconds=2.5, told=told)
    assert told[0].startswith("self-test: 1 of 3 windows")


@pytest.mark.parametrize(
    "values", [np.full(500, np.nan), np.full(500, np.inf), np.full(500, 7.0), np.full(500, 1e308), np.zeros(500)]
)
def test_a_useless_column_breaks_nothing(values: np.ndarray) -> None:
    names = ("useless", "x")
    schema = Schema(target="y", classes=(0, 1), features=tuple(Feature(name=name, kind="numeric") for name in names))
    result = tried(build_reference(schema, [values, np.random.default_rng(1).normal(size=500)]), rows=500, windows=40)
    assert result.false_alarms.share <= 0.1
    assert result.drifts["constant"].found.share == 1.0


def test_a_reference_of_nothing_answers_all_the_same() -> None:
    empty = build_reference(Schema(target="y", classes=(0, 1), features=()), [])
    result = tried(empty, windows=3)
    assert (result.drifts, result.false_alarms.share) == ({}, 0.0)


def test_all_levels_are_new_where_training_has_each_once() -> None:
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="id", kind="categorical"),))
    reference = build_reference(schema, [[f"id{index}" for index in range(900)]])
    assert tried(reference, windows=30).false_alarms.count == 0


def test_dates_are_tried_with_their_hours_weekdays_and_lags() -> None:
    result = tried(drift_rows.reference(), windows=70)
    assert result.false_alarms.count <= 3
    assert result.drifts["shift"].features == 3  # income, gaps, and the lag of the earlier date
    assert result.drifts["constant"].found.share == 1.0
