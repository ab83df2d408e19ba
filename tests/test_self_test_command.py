"""`monitor --self-test`: which windows it tries, and what people and programs read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.monitoring_jobs import monitor_now
from tests.command_line import failure, json_of, run_command
from tests.states import state
from tests.traffic import new_rows, serve
from tests.trained import TrainedState, copy_of, in_force

__all__ = ["state"]
SELF_TEST = ("monitor", "--self-test", "--windows", "10")


def test_people_read_a_short_table_and_what_to_do(state: Path) -> None:
    lines = run_command(*SELF_TEST).stdout.splitlines()
    assert lines[0].startswith("version 1, ")
    assert "windows of 1,000 rows (the default, for the live window holds too few), 10 of each kind" in lines[0]
    assert lines[1].split() == ["share", "95", "%", "interval", "windows"]
    assert lines[2].startswith("no drift: alarms")
    assert lines[-1].startswith("The configuration is ")
    assert len(lines) < 25


def test_programs_read_rates_with_intervals(state: Path) -> None:
    answer = json_of(*SELF_TEST, "--rows", "700")
    assert (answer["rows"], answer["rows_from"], answer["windows"], answer["model_version"]) == (700, "option", 10, "1")
    assert answer["verdict"] in ("sensible", "misses")
    for rate in (answer["false_alarms"], *(drift["found"] for drift in answer["drifts"].values())):
        assert 0.0 <= rate["low"] <= rate["share"] <= rate["high"] <= 1.0


def test_the_configured_threshold_is_the_one_tried(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_DATA_QUALITY__DRIFT_THRESHOLD", "1e-40")
    answer = json_of("monitor", "--self-test", "--windows", "30")
    assert (answer["verdict"], answer["thresholds"]["p_value"]) == ("misses", 1e-40)


def test_the_advice_is_a_command_that_changes_what_is_tried(state: Path) -> None:
    assert run_command("monitors", "set", "data_drift", "--threshold", "p_value=1e-40").exit_code == 0
    advice = json_of("monitor", "--self-test", "--windows", "30")["advice"]
    command = advice.partition("python main.py ")[2].split()
    assert run_command(*command).exit_code == 0
    assert json_of(*SELF_TEST)["thresholds"]["p_value"] == 0.01


def test_a_floor_of_nothing_breaks_nothing(state: Path) -> None:
    floors = ("--threshold", "share_effect=0", "--threshold", "effect=0")
    assert run_command("monitors", "set", "data_drift", *floors).exit_code == 0
    assert json_of(*SELF_TEST)["thresholds"]["share_effect"] == 0.0


def test_without_rows_given_windows_are_as_large_as_the_live_one(sample: TrainedState, tmp_path: Path) -> None:
    home = copy_of(sample, tmp_path)
    with in_force(home):
        serve(home, sample, new_rows(sample), datetime.now(UTC) - timedelta(minutes=1))
        assert monitor_now().rows == 2_000
        answer = json_of(*SELF_TEST)
    assert (answer["rows"], answer["rows_from"]) == (2_000, "live window")


def test_a_self_test_opens_no_incident_and_keeps_no_check(state: Path) -> None:
    run_command(*SELF_TEST)
    assert json_of("monitor")["incidents"] == []


def test_rows_and_windows_belong_to_the_self_test(state: Path) -> None:
    assert run_command("monitor", "--rows", "100").exit_code == 2
    assert run_command("monitor", "--self-test", "--rows", "0").exit_code == 2


def test_without_a_model_it_says_what_to_do(home: Path) -> None:
    assert "next: python main.py run" in failure(*SELF_TEST)
