"""Logging set-up: stderr and a file a day, shared by processes, never a reason to fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.logs import KEPT_DAYS, DailyFileHandler, configure_logging

DAY = 86_400.0


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    root.setLevel(level)


def record(text: str, created: float) -> logging.LogRecord:
    made = logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None)
    made.created = created
    return made


def test_records_go_to_stderr_and_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "trial", tmp_path)
    logging.getLogger("some.module").info("it happened")
    logging.getLogger("some.module").debug("too quiet")
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("trial_")
    assert path.read_text() == capsys.readouterr().err
    assert path.read_text().count("\n") == 1
    assert "Z INFO " in path.read_text() and "some.module: it happened" in path.read_text()


def test_a_second_call_replaces_the_first(tmp_path: Path) -> None:
    configure_logging("INFO", "a", tmp_path)
    configure_logging("INFO", "b", tmp_path)
    logging.getLogger().warning("once")
    assert [path.name[0] for path in tmp_path.iterdir()] == ["b"]


def test_each_day_has_its_file_and_old_ones_go(tmp_path: Path) -> None:
    (tmp_path / "other_20260101.log").touch()
    handler = DailyFileHandler(tmp_path, "trial")
    for day in range(KEPT_DAYS + 5):
        handler.emit(record(f"day {day}", 1.7e9 + day * DAY))
    handler.close()
    kept = sorted(path for path in tmp_path.glob("trial_*"))
    assert len(kept) == KEPT_DAYS
    assert kept[-1].read_text() == f"day {KEPT_DAYS + 4}\n"
    assert (tmp_path / "other_20260101.log").exists()


def test_a_clock_that_is_years_behind_does_not_delete_what_it_writes(tmp_path: Path) -> None:
    handler = DailyFileHandler(tmp_path, "trial")
    for day in range(KEPT_DAYS):
        handler.emit(record("then", 1.7e9 + day * DAY))
    handler.emit(record("now", 1e5))
    handler.close()
    assert (tmp_path / "trial_19700102.log").read_text() == "now\n"


def test_a_full_disk_is_told_once_and_the_file_goes_on_when_there_is_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("INFO", "trial", tmp_path)
    *_, file = logging.getLogger().handlers
    logging.getLogger().info("first")
    file.stream.close()  # type: ignore[attr-defined]
    file.stream = Path("/dev/full").open("a")  # type: ignore[attr-defined]  # noqa: SIM115
    for number in range(3):
        logging.getLogger().info("record %d", number)
    shown = capsys.readouterr().err
    assert (shown.count("No space left"), shown.count("record"), shown.count("Traceback")) == (1, 3, 0)
    monkeypatch.setattr(file, "_retry_at", 0.0)
    logging.getLogger().info("last")
    assert "last" in next(tmp_path.iterdir()).read_text()


def test_a_file_that_cannot_be_written_costs_the_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "trial", Path("/dev/null/logs"))
    logging.getLogger().info("still here")
    logging.getLogger().info("and here")
    shown = capsys.readouterr().err
    assert shown.count("still here") == shown.count("and here") == shown.count("cannot be written") == 1


def test_the_end_of_the_process_is_no_error_of_the_library_that_it_passes_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", "trial", tmp_path)
    for error in (KeyboardInterrupt("asked to end"), ValueError("a fault")):
        try:
            raise error
        except (KeyboardInterrupt, ValueError):
            logging.getLogger("library").exception("failed")
    shown = capsys.readouterr().err
    assert "a fault" in shown
    assert "asked to end" not in shown
