"""Outcomes meet their predictions once, whatever comes first and wherever it arrives; on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from monitoring.ids import uuid7
from monitoring.labelled_rows import label_of
from monitoring.log_tail import Limits
from monitoring.outcome_records import counted_outcomes
from monitoring.prediction_log import PredictionLine
from monitoring.store import Store
from tests.logged import (
    DAY,
    NOON,
    Host,
    count_of,
    host,
    inputs_to_train_on,
    prediction_lines,
    rows_of,
    served_rows,
    write_version,
)

__all__ = ["host"]


def counts(store: Store) -> dict[tuple[object, object], int]:
    """Labelled rows by what was predicted and what it was."""
    found = counted_outcomes(store, NOON - 90 * DAY, NOON + 90 * DAY)
    return {(one.predicted, one.actual): one.rows for one in found}


def test_an_outcome_brings_input_answer_and_truth_together(host: Host) -> None:
    line = prediction_lines(1, experiment="e", arm="b", unit="customer 7")[0]
    host.log([line])
    host.feed_back((line.prediction_id, "yes"))
    report = host.ingestion.run_once()
    assert (report.rows, report.labels, report.joined) == (1, 1, 1)
    (row,) = rows_of(host.store, "labelled_rows")
    assert (row["model_version"], row["experiment"], row["arm"], row["unit"]) == ("1", "e", "b", "customer 7")
    assert (row["actual"], row["delay_seconds"]) == ('"yes"', 300)
    assert inputs_to_train_on(host.store) == [line.input_data]
    assert (json.loads(row["predicted"]), row["score"]) == (line.prediction, line.probability[1])


def test_an_outcome_may_come_before_its_prediction(host: Host) -> None:
    line = prediction_lines(1)[0]
    host.feed_back((line.prediction_id, "no"))
    assert host.ingestion.run_once().joined == 0
    host.log([line])
    assert host.ingestion.run_once().joined == 1
    assert counts(host.store) == {(line.prediction, "no"): 1}


def test_a_repeated_outcome_changes_nothing(host: Host) -> None:
    line = prediction_lines(1)[0]
    host.log([line])
    for minute in (5, 5, 9):
        host.feed_back((line.prediction_id, "no"), moment=NOON + timedelta(minutes=minute))
        host.ingestion.run_once()
    assert counts(host.store) == {(line.prediction, "no"): 1}
    assert count_of(host.store, "outcomes") == 2


def test_the_last_correction_counts_and_all_are_kept(host: Host) -> None:
    line = prediction_lines(1)[0]
    host.log([line])
    for minute, actual in ((5, "no"), (9, "yes"), (7, "maybe")):  # in the order of arrival at different hosts
        host.feed_back((line.prediction_id, actual), moment=NOON + timedelta(minutes=minute))
        host.ingestion.run_once()
    assert counts(host.store) == {(line.prediction, "yes"): 1}
    kept = sorted((row["received"], row["actual"]) for row in rows_of(host.store, "outcomes"))
    assert [actual for _, actual in kept] == ['"no"', '"maybe"', '"yes"']


def test_outcomes_of_predictions_that_nobody_made_wait_and_hold_up_nothing(host: Host) -> None:
    lines = prediction_lines(2)
    host.log(lines)
    host.feed_back(*[(uuid7(), "yes") for _ in range(2500)], (lines[0].prediction_id, "yes"))
    report = host.ingestion.run_once()
    assert (report.labels, report.joined, count_of(host.store, "labelled_rows")) == (2501, 1, 1)


def test_an_outcome_that_arrives_at_another_host_is_joined_by_the_host_with_the_line(
    store: Store, tmp_path: Path
) -> None:
    here, there = Host(tmp_path / "a", store), Host(tmp_path / "b", store)
    lines = prediction_lines(4)
    here.log(lines)
    here.ingestion.run_once()
    there.feed_back(*[(line.prediction_id, "yes") for line in lines])
    assert there.ingestion.run_once().joined == 0
    assert here.ingestion.run_once().joined == 4
    assert inputs_to_train_on(store) == [line.input_data for line in lines]


def test_hosts_that_read_at_once_join_one_anothers_outcomes(store: Store, tmp_path: Path) -> None:
    hosts = [Host(tmp_path / name, store, limits=Limits(rows=20)) for name in "abc"]
    lines = [prediction_lines(200, seed) for seed in range(3)]
    for position, one in enumerate(hosts):
        write_version(one.registry)
        one.log(lines[position])
        for line in lines[(position + 1) % 3]:
            one.feed_back((line.prediction_id, "yes"))
    with ThreadPoolExecutor() as pool:
        reports = [call.result() for call in [pool.submit(one.ingestion.run_once) for one in hosts]]
    for one in hosts:
        one.ingestion.run_once()
    assert [report.rows for report in reports] == [200] * 3
    assert (sum(counts(store).values()), served_rows(store)) == (600, 600)
    assert_counts_follow_from_rows(store)


def test_an_outcome_whose_line_is_gone_is_counted_without_its_input(host: Host) -> None:
    line = prediction_lines(1)[0]
    host.log([line])
    host.ingestion.run_once()
    host.predictions_file().unlink()
    host.feed_back((line.prediction_id, "yes"))
    assert host.ingestion.run_once().joined == 1
    assert counts(host.store) == {(line.prediction, "yes"): 1}
    assert inputs_to_train_on(host.store) == []


@pytest.mark.parametrize("actual", [1, "1", True, "ü\x00\n", "x" * 900, '"\\' * 400, 10**30])
def test_labels_of_every_kind_are_kept_as_they_are(host: Host, actual: object) -> None:
    line = prediction_lines(1)[0]
    host.log([line])
    host.feed_back((line.prediction_id, actual))
    host.ingestion.run_once()
    (row,) = rows_of(host.store, "labelled_rows")
    kept = label_of(row["actual"])
    assert (type(kept), kept) == (type(actual), actual)
    assert sum(counts(host.store).values()) == 1


def test_a_value_without_a_class_is_kept_and_counts_for_no_class(host: Host) -> None:
    line = prediction_lines(1)[0]
    host.log([line])
    outcome = {"prediction_id": line.prediction_id, "value": 12.5, "timestamp": NOON}
    (host.logs / "feedback_20260301.jsonl").write_bytes(msgspec.json.encode(outcome) + b"\n")
    host.ingestion.run_once()
    (row,) = rows_of(host.store, "labelled_rows")
    assert (row["value"], row["actual"], counts(host.store)) == (12.5, None, {})


def test_fault_25_counts_are_those_of_the_outcomes_in_any_order_of_arrival(store: Store, tmp_path: Path) -> None:
    """The sketch's daily figures were random numbers; these are recomputed from the rows and compared."""
    draw = random.Random(4)
    host = Host(tmp_path / "a", store, limits=Limits(rows=11))
    write_version(host.registry)
    lines = [line for hour in range(4) for line in prediction_lines(25, hour, NOON + timedelta(hours=hour))]
    events: list[tuple[str, PredictionLine]] = [("row", line) for line in lines]
    events += [("no" if draw.random() < 0.5 else "yes", line) for line in draw.choices(lines, k=150)]
    draw.shuffle(events)
    for position, (what, line) in enumerate(events):
        if what == "row":
            host.log([line])
        else:
            host.feed_back((line.prediction_id, what), moment=NOON + timedelta(seconds=position))
        if draw.random() < 0.1:
            host.ingestion.run_once()
    host.ingestion.run_once()
    last = {line.prediction_id: what for what, line in events if what != "row"}
    expected: dict[tuple[object, object], int] = {}
    for line in lines:
        if (actual := last.get(line.prediction_id)) is not None:
            expected[line.prediction, actual] = expected.get((line.prediction, actual), 0) + 1
    assert counts(store) == expected
    assert_counts_follow_from_rows(store)


def assert_counts_follow_from_rows(store: Store) -> None:
    rows = [row for row in rows_of(store, "labelled_rows") if row["actual"] is not None]
    found = rows_of(store, "outcome_counts")
    for count, of_row in (
        ("rows", [1 for _ in rows]),
        ("delay_seconds", [row["delay_seconds"] for row in rows]),
        ("log_loss_millionths", [row["log_loss_millionths"] or 0 for row in rows]),
        ("brier_millionths", [row["brier_millionths"] or 0 for row in rows]),
    ):
        assert sum(row[count] for row in found) == sum(of_row), count


def test_fault_28_figures_of_versions_are_kept_apart(host: Host) -> None:
    """The sketch compared one model's live rows with another model's baseline."""
    old, new = prediction_lines(3, 1), prediction_lines(4, 2, version="2")
    host.log(old)
    host.log(new)
    host.feed_back(*[(line.prediction_id, "yes") for line in old + new])
    host.ingestion.run_once()
    by_version = {
        version: sum(one.rows for one in counted_outcomes(host.store, NOON, NOON + DAY, version))
        for version in ("1", "2")
    }
    assert by_version == {"1": 3, "2": 4}
