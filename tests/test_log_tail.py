"""Whole lines from a place on, and the same file or another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.daily_files import log_files
from monitoring.log_tail import Limits, is_same_file, mark_at, read_chunk


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_all(path: Path, limits: Limits, *, final: bool = False) -> tuple[list[bytes], list[int], int]:
    """Lines, their places, and where reading ended."""
    lines: list[bytes] = []
    places: list[int] = []
    offset = 0
    with opened(path) as descriptor:
        while (chunk := read_chunk(descriptor, offset, limits, final=final)).stop > offset:
            lines += chunk.lines()
            places += chunk.places()
            offset = chunk.stop
    return lines, places, offset


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "predictions_20260301.jsonl"


def test_blank_lines_are_no_lines_and_the_last_one_waits_for_its_newline(file: Path) -> None:
    file.write_bytes(b"\na\n\n\nbb\nhalf")
    assert read_all(file, Limits()) == ([b"a", b"bb"], [1, 5], 8)
    file.write_bytes(b"\na\n\n\nbb\nhalf a line\n")
    assert read_all(file, Limits())[0] == [b"a", b"bb", b"half a line"]


def test_the_remainder_of_a_file_that_is_written_no_more_is_a_line(file: Path) -> None:
    file.write_bytes(b"a\nhalf")
    assert read_all(file, Limits(), final=True) == ([b"a", b"half"], [0, 2], 6)


@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30),
    rows=st.integers(1, 7),
    size=st.integers(1, 64),
)
def test_batches_of_any_size_give_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], rows: int, size: int
) -> None:
    file = tmp_path_factory.mktemp("tail") / "a"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    found, places, end = read_all(file, Limits(rows=rows, bytes=size, line_bytes=64))
    content = file.read_bytes()
    assert found == [line for line in lines if line]
    assert [content[place : place + len(line)] for place, line in zip(places, found, strict=True)] == found
    assert end == len(content)


def test_a_batch_holds_no_more_rows_and_bytes_than_its_limits(file: Path) -> None:
    file.write_bytes(b"0123456789\n" * 100)
    with opened(file) as descriptor:
        assert len(read_chunk(descriptor, 0, Limits(rows=7)).starts) == 7
        assert len(read_chunk(descriptor, 0, Limits(bytes=100)).content) == 99


def test_a_line_beyond_the_longest_is_passed_over_unread_once_it_has_ended(file: Path) -> None:
    limits = Limits(bytes=16, line_bytes=64)
    file.write_bytes(b"a\n" + b"x" * 500)
    assert read_all(file, limits) == ([b"a"], [0], 2)
    file.write_bytes(b"a\n" + b"x" * 500 + b"\nb\n")
    with opened(file) as descriptor:
        assert read_chunk(descriptor, 2, limits).skipped == 501
    assert read_all(file, limits) == ([b"a", b"b"], [0, 503], 505)


def test_a_file_that_has_grown_or_was_copied_is_the_same(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"first line\nsecond\n")
    with opened(file) as descriptor:
        mark = mark_at(descriptor, 11)
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes() + b"third\n")
    with opened(copy) as descriptor:
        assert is_same_file(descriptor, 11, mark)


@pytest.mark.parametrize(
    "content", [b"", b"first", b"other line\nsecond\n", b"first line", b"another, much longer first line\n" * 100]
)
def test_a_file_that_was_cut_emptied_or_replaced_is_another(file: Path, content: bytes) -> None:
    file.write_bytes(b"first line\nsecond\n")
    with opened(file) as descriptor:
        mark = mark_at(descriptor, 11)
    file.write_bytes(content)
    with opened(file) as descriptor:
        assert not is_same_file(descriptor, 11, mark)


def test_only_daily_files_are_logs_oldest_first(tmp_path: Path) -> None:
    names = ["predictions_20260302.jsonl", "feedback_20260302.jsonl", "predictions_20260301.jsonl"]
    others = ["access_20260301.jsonl", "predictions_20261301.jsonl", "predictions_20260301.jsonl.gz", "pipeline.log"]
    for name in names + others:
        (tmp_path / name).touch()
    assert [file.name for file in log_files(tmp_path)] == [names[2], names[1], names[0]]
    assert log_files(tmp_path / "none") == []
