"""Who reads the logs of a state root: one process, of one host; copies are refused and what moved is read on."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.birth_time import birth_time
from monitoring.log_source import COPY_SEEN, SourceError, sole_reader, source_uuid
from monitoring.store import Store
from tests.logged import Host, count_of, host, prediction_lines, rows_of, served_rows

__all__ = ["host"]


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
