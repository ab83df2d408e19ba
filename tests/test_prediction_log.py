"""The prediction log: whole lines, one write a request, a file a day, nothing lost in silence."""

from __future__ import annotations

import multiprocessing
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.prediction_log import LogError, LoggedWarning, PredictionLine, PredictionLog
from tests.log_reading import fragments, logged_lines

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

FIELDS = (
    *("prediction_id", "timestamp", "request_id", "model_version", "input_data", "prediction", "probability"),
    *("max_probability", "latency_ms", "experiment", "arm", "unit", "fallback", "warnings"),
)


def make_line(prediction_id: str = "a", timestamp: datetime = NOON, **changes: Any) -> PredictionLine:
    facts: dict[str, Any] = {
        "request_id": "r",
        "model_version": "3",
        "input_data": {"age": 41.0, "quote": 'say "hi"\n', "city": None},
        "prediction": "yes",
        "probability": [0.25, 0.75],
        "max_probability": 0.75,
        "latency_ms": 1.5,
    }
    return PredictionLine(prediction_id=prediction_id, timestamp=timestamp, **(facts | changes))


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_a_line_holds_every_field_of_the_contract(tmp_path: Path) -> None:
    PredictionLog(tmp_path).append([make_line(warnings=[LoggedWarning("city", "missing")])])
    line = msgspec.json.decode(only_file(tmp_path).read_bytes())
    assert tuple(line) == FIELDS
    assert line["timestamp"] == "2026-03-04T12:00:00Z"
    assert line["warnings"] == [{"field": "city", "code": "missing"}]


def test_fault_18_lines_of_a_request_go_out_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def record(_: int, block: bytes) -> int:
        writes.append(block)
        return len(block)

    monkeypatch.setattr(os, "write", record)
    PredictionLog(tmp_path).append([make_line("a"), make_line("b")])
    (block,) = writes
    assert block.startswith(b"\n") and block.endswith(b"\n") and block.count(b"\n") == 3


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    lines = [make_line("a"), make_line("b", prediction=3), make_line("c", NOON + timedelta(microseconds=7))]
    log = PredictionLog(tmp_path, fsync=True)
    log.append(lines[:2])
    log.append(lines[2:])
    assert (logged_lines(tmp_path), fragments(tmp_path)) == (lines, 0)


def test_each_utc_day_has_its_file(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    for hours in (0, 11, 12, 36):
        log.append([make_line(str(hours), NOON + timedelta(hours=hours))])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"predictions_2026030{day}.jsonl" for day in (4, 5, 6)]


def test_a_short_write_is_an_error_and_its_fragment_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write = PredictionLog(tmp_path), os.write
    log.append([make_line("before")])
    with monkeypatch.context() as full_disk:
        full_disk.setattr(os, "write", lambda descriptor, block: write(descriptor, block[:100]))
        with pytest.raises(LogError, match="took 100 of"):
            log.append([make_line("torn")])
    log.append([make_line("after")])
    assert [line.prediction_id for line in logged_lines(tmp_path)] == ["before", "after"]
    assert fragments(tmp_path) == 1


def test_a_full_disk_is_an_error_that_names_no_path() -> None:
    log = PredictionLog(Path("/dev/null/logs"))
    with pytest.raises(LogError) as refused:
        log.append([make_line()])
    assert "/dev" not in str(refused.value)


def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "logs")
    log.append([make_line("lost with the folder")])
    only_file(tmp_path / "logs").unlink()
    (tmp_path / "logs").rmdir()
    log.append([make_line("kept")])
    assert [line.prediction_id for line in logged_lines(tmp_path / "logs")] == ["kept"]


def test_no_descriptor_is_left_behind_by_days_and_closes(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        log = PredictionLog(tmp_path)
        for day in range(10):
            log.append([make_line(timestamp=NOON + timedelta(days=day))])
        log.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def _append_many(directory: Path, name: str) -> None:
    log = PredictionLog(directory)
    for request in range(50):
        log.append([make_line(f"{name}-{request}-{row}") for row in range(20)])


def test_processes_that_share_a_file_never_mix_their_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(tmp_path, f"w{index}")) for index in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({line.prediction_id for line in logged_lines(tmp_path)}) == 4 * 50 * 20
    assert fragments(tmp_path) == 0
