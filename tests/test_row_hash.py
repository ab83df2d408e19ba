"""The keyed hash of a row: the same for ever, on every machine, whatever the order of rows and columns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.home import PROJECT_ROOT
from models.encoding import FactorisedLevels, RawColumn
from models.row_hash import held_out, row_hashes

COLUMNS: dict[str, RawColumn] = {
    "size": np.array([1.5, np.nan, -0.0, 1e300]),
    "Größe": ["rot", None, "grün", "rot"],
    "code": [1, 2, None, 1],
}


def test_the_hash_of_a_row_never_changes() -> None:
    """These numbers decide on which side rows of bundles in service stand: a release must not move them."""
    expected = ["0x65c0a05255e656a1", "0xcc23710e2aa0967a", "0xe5eee272566677c2", "0x676c60d4ed7aaa3c"]
    assert [hex(value) for value in row_hashes(COLUMNS, key=42).tolist()] == expected


def test_another_process_gives_the_same_hash() -> None:
    script = "from tests.test_row_hash import *; print(row_hashes(COLUMNS, 42).tolist())"
    ended = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(row_hashes(COLUMNS, 42).tolist())


def test_the_order_of_columns_and_rows_does_not_matter() -> None:
    turned = {name: COLUMNS[name] for name in reversed(COLUMNS)}
    backwards: dict[str, RawColumn] = {name: values[::-1] for name, values in COLUMNS.items()}
    assert np.array_equal(row_hashes(turned, 42), row_hashes(COLUMNS, 42))
    assert np.array_equal(row_hashes(backwards, 42)[::-1], row_hashes(COLUMNS, 42))


def test_a_name_a_key_and_a_value_each_change_the_hash() -> None:
    hashes = {
        int(row_hashes({"a": np.array([1.0])}, 1)[0]), int(row_hashes({"b": np.array([1.0])}, 1)[0]),
        int(row_hashes({"a": np.array([1.0])}, 2)[0]), int(row_hashes({"a": np.array([2.0])}, 1)[0]),
        int(row_hashes({"a": np.array([np.nan])}, 1)[0]), int(row_hashes({"a": np.array([0.0])}, 1)[0]),
    }  # fmt: skip
    assert len(hashes) == 6


def test_values_that_change_columns_change_the_hash() -> None:
    """The columns are added, so each has to be salted with its name."""
    one = row_hashes({"a": np.array([1.0]), "b": np.array([2.0])}, 0)
    assert not np.array_equal(one, row_hashes({"a": np.array([2.0]), "b": np.array([1.0])}, 0))


def test_numbers_that_are_equal_hash_alike() -> None:
    quiet, other = np.array([np.nan]), np.array([0x7FF8DEADBEEF0001], dtype=np.uint64).view(np.float64)
    assert np.array_equal(row_hashes({"a": quiet}, 0), row_hashes({"a": other}, 0))
    assert np.array_equal(row_hashes({"a": np.array([-0.0])}, 0), row_hashes({"a": np.array([0.0])}, 0))


@given(st.lists(st.one_of(st.none(), st.text(max_size=4), st.integers(0, 9)), min_size=1, max_size=30))
def test_factorised_and_plain_levels_hash_alike(values: list[str | int | None]) -> None:
    levels = list(dict.fromkeys(values))
    positions = np.array([levels.index(value) for value in values])
    factorised = row_hashes({"a": FactorisedLevels(levels, positions)}, 7)
    assert np.array_equal(factorised, row_hashes({"a": values}, 7))


def test_a_level_as_number_and_as_text_is_one() -> None:
    """A file where a gap or a letter has made a column of text keeps its rows on their sides."""
    assert np.array_equal(row_hashes({"a": [1, 7]}, 0), row_hashes({"a": ["1", "7"]}, 0))


def test_the_held_out_share_is_the_configured_one() -> None:
    hashes = row_hashes({"a": np.arange(100_000, dtype=np.float64)}, 3)
    assert len(np.unique(hashes)) == 100_000
    for share in (0.05, 0.2, 0.9):
        assert np.mean(held_out(hashes, share)) == pytest.approx(share, abs=0.005)


def test_a_larger_share_holds_out_all_that_a_smaller_one_did() -> None:
    hashes = row_hashes({"a": np.arange(1000, dtype=np.float64)}, 3)
    assert not (held_out(hashes, 0.2) & ~held_out(hashes, 0.3)).any()


def test_a_row_without_columns_has_no_hash() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        row_hashes({}, 0)
