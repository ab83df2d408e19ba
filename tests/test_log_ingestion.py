"""Every line of the logs reaches the store exactly once, whatever happens to the files; on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from config.settings import LabelSettings, Settings
from monitoring.log_places import KEPT_FRAGMENTS
from monitoring.log_tail import Limits
from monitoring.store import Store
from tests.logged import (
    DAY,
    NOON,
    Host,
    count_of,
    host,
    inputs_to_train_on,
    keeping,
    prediction_lines,
    rows_of,
    served_rows,
    write_version,
)

__all__ = ["host"]


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
    for first_seed, reader in ((10, small), (0, large)):
        write_version(reader.registry)
        for hour in range(3):
            reader.log(prediction_lines(20, seed=hour + first_seed, moment=NOON + timedelta(hours=hour)))
        assert reader.ingestion.run_once().rows == 60
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
