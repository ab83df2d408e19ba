"""Every line of the logs reaches the store exactly once, whatever happens to the files; on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from config.settings import LabelSettings, Settings
from monitoring.birth_time import birth_time
from monitoring.ids import uuid7
from monitoring.labelled_reading import LabelledRows
from monitoring.labelled_rows import label_of
from monitoring.log_places import KEPT_FRAGMENTS
from monitoring.log_source import COPY_SEEN, SourceError, sole_reader, source_uuid
from monitoring.log_tail import Limits
from monitoring.outcome_records import counted_outcomes
from monitoring.store import Store
from monitoring.window_records import window
from tests.logged import NOON, PROFILER, Host, count_of, keeping, prediction_lines, rows_of, write_version

DAY = timedelta(days=1)


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    host = Host(tmp_path / "a", store)
    write_version(host.registry)
    return host


def served_rows(store: Store) -> int:
    return window(store, PROFILER.layout, "1", NOON - 90 * DAY, NOON + 90 * DAY).rows


def counts(store: Store) -> dict[tuple[object, object], int]:
    """Labelled rows by what was predicted and what it was."""
    found = counted_outcomes(store, NOON - 90 * DAY, NOON + 90 * DAY)
    return {(one.predicted, one.actual): one.rows for one in found}


def inputs_to_train_on(store: Store) -> list[dict[str, object]]:
    return [json.loads(row.input_data) for row in LabelledRows(store).newest(1000)]


# Whole lines, once


def test_each_row_is_counted_once_over_calls_and_restarts(host: Host) -> None:
    host.log(prediction_lines(40))
    assert host.ingestion.run_once().rows == 40
    host.log(prediction_lines(5, seed=2))
    assert host.restarted().run_once().rows == 5
    assert host.ingestion.run_once().rows == host.restarted().run_once().rows == 0
    assert (served_rows(host.store), count_of(host.store, "predictions")) == (45, 45)


def test_fault_18_a_torn_line_is_set_aside_and_harms_no_other(host: Host) -> None:
    """The sketch's torn line made the whole log unreadable."""
    lines = prediction_lines(3)
    host.log(lines[:1])
    with host.raw_log() as log:
        log.write(b'\n{"prediction_id":"01')
    assert host.ingestion.run_once().lag_bytes > 0  # it may still be being written
    host.log(lines[1:])
    report = host.ingestion.run_once()
    assert (report.rows, report.fragments, report.lag_bytes) == (2, 1, 0)
    (fragment,) = rows_of(host.store, "log_fragments")
    assert (fragment["content"], fragment["length"]) == (b'{"prediction_id":"01', 20)
    assert rows_of(host.store, "log_files")[0]["fragments"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b"not json at all",
        b'{"prediction_id":"x","timestamp":"2026-03-01T12:00:00Z"}',
        msgspec.json.encode(msgspec.structs.replace(prediction_lines(1)[0], prediction_id="short")),
        msgspec.json.encode(msgspec.structs.replace(prediction_lines(1)[0], model_version="v" * 65)),
        msgspec.json.encode(msgspec.structs.replace(prediction_lines(1)[0], arm="a\x00")),
    ],
)
def test_what_is_no_prediction_is_counted_and_its_neighbours_are_read(
    tmp_path: Path, migrated_sqlite: Path, content: bytes
) -> None:
    with Store(f"sqlite:///{tmp_path / 'a.db'}") as store:
        host = Host(tmp_path / "a", store)
        lines = prediction_lines(2, seed=3)
        host.log(lines[:1])
        with host.raw_log() as log:
            log.write(b"\n" + content + b"\n \n")
        host.log(lines[1:])
        report = host.ingestion.run_once()
        assert (report.rows, report.fragments) == (2, 1)


def test_fragments_are_kept_up_to_a_number_and_counted_beyond_it(host: Host) -> None:
    for _ in range(30):
        with host.raw_log() as log:
            log.write(b"broken\n" * 50)
        host.ingestion.run_once()
    assert count_of(host.store, "log_fragments") == KEPT_FRAGMENTS
    assert rows_of(host.store, "log_files")[0]["fragments"] == 1500


def test_small_batches_come_to_the_same_as_one_large_one(store: Store, tmp_path: Path) -> None:
    small, large = Host(tmp_path / "a", store, limits=Limits(rows=7, bytes=2000)), Host(tmp_path / "b", store)
    for host in (small, large):
        write_version(host.registry)
        for hour in range(3):
            host.log(
                prediction_lines(20, seed=hour + (10 if host is small else 0), moment=NOON + timedelta(hours=hour))
            )
        assert host.ingestion.run_once().rows == 60
    assert served_rows(store) == 120


def test_a_budget_of_rows_ends_a_call_and_the_next_goes_on(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store, limits=Limits(rows=10))
    host.log(prediction_lines(35))
    first = host.ingestion.run_once(rows=20)
    assert first.rows == 20 and first.lag_bytes > 0
    assert host.ingestion.run_once(seconds=-1.0).rows == 0
    assert host.ingestion.run_once().rows == 15


# Files that change


def test_a_new_day_is_a_new_file_and_late_lines_of_the_old_one_count(host: Host) -> None:
    host.log(prediction_lines(3))
    host.ingestion.run_once()
    host.log(prediction_lines(2, seed=2, moment=NOON + DAY))
    host.log(prediction_lines(1, seed=3, moment=NOON + timedelta(hours=3)))
    assert host.ingestion.run_once().rows == 3


def test_a_file_that_was_emptied_is_read_from_its_beginning(host: Host) -> None:
    host.log(prediction_lines(30))
    host.ingestion.run_once()
    host.predictions_file().write_bytes(b"")
    host.log(prediction_lines(4, seed=2))
    report = host.ingestion.run_once()
    assert (report.rows, report.replaced, served_rows(host.store)) == (4, 1, 34)


def test_a_file_that_was_deleted_and_made_again_is_read_from_its_beginning(host: Host) -> None:
    host.log(prediction_lines(3))
    host.ingestion.run_once()
    host.predictions_file().unlink()
    assert host.ingestion.run_once().replaced == 0
    host.log(prediction_lines(50, seed=2))  # longer than the one that was read
    assert host.ingestion.run_once().rows == 50


def test_lines_that_come_again_in_a_replaced_file_are_known_by_their_ids(host: Host) -> None:
    lines = prediction_lines(12)
    host.log(lines)
    host.ingestion.run_once()
    content = host.predictions_file().read_bytes().splitlines(keepends=True)
    host.predictions_file().write_bytes(b"".join(content[5:]))
    host.log(prediction_lines(2, seed=2))
    report = host.ingestion.run_once()
    assert (report.rows, report.replaced, served_rows(host.store)) == (2, 1, 14)
    host.feed_back((lines[11].prediction_id, "yes"))  # found where it stands now
    host.ingestion.run_once()
    assert inputs_to_train_on(host.store) == [lines[11].input_data]


def test_rows_that_are_forgotten_by_now_are_not_counted_twice_when_their_file_is_replaced(host: Host) -> None:
    host.log(prediction_lines(8))
    host.ingestion.run_once()
    host.now = NOON + 40 * DAY
    assert host.restarted().run_once().lag_bytes == 0  # the window is 30 days
    assert count_of(host.store, "predictions") == 0
    content = host.predictions_file().read_bytes().splitlines(keepends=True)
    host.predictions_file().write_bytes(b"".join(content[3:]))
    report = host.ingestion.run_once()
    assert (report.replaced, report.rows, served_rows(host.store)) == (1, 0, 8)


def test_lines_copied_within_a_file_count_once(host: Host) -> None:
    host.log(prediction_lines(6))
    host.ingestion.run_once()
    host.log(prediction_lines(6) + prediction_lines(1, seed=2) * 2)
    report = host.ingestion.run_once()
    assert (report.rows, report.repeated, served_rows(host.store)) == (1, 7, 7)


def test_a_log_that_was_moved_to_another_disk_goes_on_where_it_was(host: Host) -> None:
    host.log(prediction_lines(6))
    host.ingestion.run_once()
    content = host.predictions_file().read_bytes()
    host.predictions_file().unlink()
    host.predictions_file().write_bytes(content)
    host.log(prediction_lines(1, seed=2))
    report = host.restarted().run_once()
    assert (report.rows, report.repeated, report.replaced) == (1, 0, 0)


# Retention


def test_logs_are_deleted_when_they_are_old_and_read_and_not_before(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store, keeping(days=2), Limits(rows=5))
    host.log(prediction_lines(10))
    host.now = NOON + 5 * DAY
    assert host.ingestion.run_once(rows=5).deleted == 0
    assert host.ingestion.run_once().deleted == 1
    assert not host.predictions_file().exists()
    assert rows_of(store, "log_files")[0]["deleted_at"] == host.now
    assert host.restarted().run_once().replaced == 0
    assert served_rows(store) == 10


def test_an_old_file_is_deleted_although_its_last_line_never_ended(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store, keeping(days=2))
    host.log(prediction_lines(1))
    with host.raw_log() as log:
        log.write(b'\n{"half')
    report = host.ingestion.run_once()
    assert (report.rows, report.fragments, report.deleted) == (1, 0, 0)
    host.now = NOON + 5 * DAY
    report = host.ingestion.run_once()
    assert (report.rows, report.fragments, report.deleted) == (0, 1, 1)


def test_predictions_are_forgotten_after_the_window_and_no_longer_waited_for(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store, Settings(labels=LabelSettings(window_days=10)))
    lines = prediction_lines(3)
    host.log(lines)
    host.now = NOON + 9 * DAY
    host.ingestion.run_once()
    host.now = NOON + 11 * DAY
    host.restarted().run_once()
    assert (count_of(store, "predictions"), served_rows(store)) == (0, 3)
    host.feed_back((lines[0].prediction_id, "yes"), moment=host.now)
    host.restarted().run_once()
    assert [row["waiting"] for row in rows_of(store, "outcomes")] == [2]


# Outcomes


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
    for position, host in enumerate(hosts):
        write_version(host.registry)
        host.log(lines[position])
        for line in lines[(position + 1) % 3]:
            host.feed_back((line.prediction_id, "yes"))
    with ThreadPoolExecutor() as pool:
        reports = [call.result() for call in [pool.submit(host.ingestion.run_once) for host in hosts]]
    for host in hosts:
        host.ingestion.run_once()
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
    events: list[tuple[object, ...]] = [("row", line) for line in lines]
    events += [("no" if draw.random() < 0.5 else "yes", line) for line in draw.choices(lines, k=150)]
    draw.shuffle(events)
    for position, (what, line) in enumerate(events):
        if what == "row":
            host.log([line])  # type: ignore[list-item]
        else:
            host.feed_back((line.prediction_id, what), moment=NOON + timedelta(seconds=position))  # type: ignore[attr-defined]
        if draw.random() < 0.1:
            host.ingestion.run_once()
    host.ingestion.run_once()
    last = {line.prediction_id: what for what, line in events if what != "row"}  # type: ignore[attr-defined]
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


# Who reads


def test_a_second_reader_of_one_state_root_does_nothing(host: Host) -> None:
    host.log(prediction_lines(3))
    source_uuid(host.home / "source_id")
    with sole_reader(host.home / "source_id") as alone:
        assert alone
        assert host.ingestion.run_once().busy
    assert host.ingestion.run_once().rows == 3


def test_two_hosts_with_files_of_one_name_are_kept_apart(store: Store, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        host = Host(tmp_path / name, store)
        host.log(prediction_lines(5, seed))
        assert host.ingestion.run_once().rows == 5
    assert served_rows(store) == 10
    assert len({row["source"] for row in rows_of(store, "log_files")}) == 2


def test_a_copy_of_a_state_root_is_refused_until_it_has_a_uuid_of_its_own(host: Host, tmp_path: Path) -> None:
    host.log(prediction_lines(10))
    host.ingestion.run_once()
    shutil.copytree(host.home, tmp_path / "copy")
    copy = Host(tmp_path / "copy", host.store)
    copy.log(prediction_lines(5, seed=2))
    copy.now = host.now + timedelta(seconds=2)
    with pytest.raises(SourceError, match="remove this file in the copy"):
        copy.ingestion.run_once()
    (copy.home / "source_id").unlink()
    assert copy.ingestion.run_once().rows == 5
    assert host.ingestion.run_once().rows == 0
    assert (served_rows(host.store), count_of(host.store, "log_sources")) == (15, 2)


def test_a_state_root_whose_mode_or_links_change_is_no_copy(host: Host, tmp_path: Path) -> None:
    host.log(prediction_lines(10))
    host.ingestion.run_once()
    (host.home / "source_id").chmod(0o640)
    (tmp_path / "backup").hardlink_to(host.home / "source_id")
    host.log(prediction_lines(5, seed=2))
    host.now += timedelta(seconds=2)
    assert host.restarted().run_once().rows == 5


def test_who_copied_nothing_is_told_to_wait_and_to_leave_the_file(host: Host, tmp_path: Path) -> None:
    host.ingestion.run_once()
    shutil.copytree(host.home, tmp_path / "restored")
    with pytest.raises(SourceError, match="leave the file: this passes within 30 seconds"):
        Host(tmp_path / "restored", host.store).ingestion.run_once()


@pytest.mark.parametrize("told", [True, False], ids=["statx", "no statx"])
def test_the_birth_of_a_file_survives_what_a_copy_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    if not told:
        monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    began, file = time.time_ns(), tmp_path / "file"
    file.write_text("x")
    born = birth_time(file)
    file.chmod(0o600)
    shutil.copy2(file, tmp_path / "copy")
    assert (birth_time(file), birth_time(tmp_path / "copy") > born) == (born, told)
    assert abs(born - (began if told else 0)) < 60 * 10**9


def test_a_state_root_that_was_moved_is_read_on_there(host: Host, tmp_path: Path) -> None:
    host.log(prediction_lines(10))
    host.ingestion.run_once()
    shutil.copytree(host.home, tmp_path / "moved")
    moved = Host(tmp_path / "moved", host.store)
    moved.log(prediction_lines(5, seed=2))
    moved.now = host.now + COPY_SEEN
    report = moved.ingestion.run_once()
    assert (report.rows, report.replaced) == (5, 0)
    assert (served_rows(host.store), count_of(host.store, "log_sources")) == (15, 1)


def test_a_source_file_that_holds_no_uuid_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "source_id").write_text("nonsense")
    with pytest.raises(SourceError, match="source_id"):
        source_uuid(tmp_path / "source_id")
