"""From raw values to the matrix: one function, whoever asks, and the pandas and JSON sides of it agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoding import CLIP_RANGES, Encoder, FactorisedLevels, RawColumn
from models.frame import TableEncoder, frame_to_raw, json_rows
from models.raw_rows import parse_datetime, raw_columns
from models.schema import DatePart, Feature, Schema

PARTS: tuple[DatePart, ...] = ("year", "month", "day", "weekday", "hour", "minute")
FEATURES = (
    Feature(name="size", kind="numeric", range=(-5.0, 5.0), nullable=True),
    Feature(name="count", kind="numeric", range=(0.0, 9.0), integer=True),
    Feature(name="city", kind="categorical", categories=("Köln", "Ulm"), nullable=True),
    Feature(name="code", kind="categorical", categories=(1, 7)),
    Feature(name="member", kind="boolean", nullable=True),
    Feature(name="day", kind="datetime", range=(0.0, 2e9), parts=PARTS, nullable=True),
)
SCHEMA = Schema(target="y", classes=("no", "yes"), features=FEATURES)


def encode_one(feature: Feature, *values: Any) -> list[list[float]]:
    raw: RawColumn = values if feature.kind == "categorical" else np.array(values, dtype=np.float64)
    matrix = Encoder(Schema(target="y", classes=(0, 1), features=(feature,))).encode([raw])
    assert matrix.dtype == np.dtype(np.float32)
    assert matrix.flags.c_contiguous
    rows: list[list[float]] = matrix.tolist()
    return rows


def test_a_level_is_its_place_an_unseen_one_is_none_and_missing_is_a_level_of_its_own() -> None:
    assert encode_one(FEATURES[2], "Köln", "Ulm", "Bonn", None) == [[0.0], [1.0], [-1.0], [2.0]]


def test_missing_that_training_never_saw_is_unseen() -> None:
    assert encode_one(FEATURES[3], 7, None, 2) == [[1.0], [-1.0], [-1.0]]


def test_a_gap_in_a_number_is_told_by_a_column_of_its_own() -> None:
    rows = np.array(encode_one(FEATURES[0], 1.5, np.nan, np.inf, -np.inf))
    assert np.array_equal(rows, [[1.5, 0.0], [np.nan, 1.0], [np.nan, 1.0], [np.nan, 1.0]], equal_nan=True)


def test_numbers_far_beyond_training_are_clipped_where_trees_cannot_tell() -> None:
    assert encode_one(FEATURES[1], 1e300, -1e300, 50) == [[9.0 + 9 * CLIP_RANGES], [-9 * CLIP_RANGES], [50.0]]


def test_a_range_as_wide_as_all_floats_stays_finite() -> None:
    feature = Feature(name="x", kind="numeric", range=(-1.7e308, 1.7e308))
    assert np.isfinite(encode_one(feature, 1.7e308, -1.7e308, 0.0)).all()


def test_the_parts_of_a_date_are_those_of_the_calendar() -> None:
    moment = datetime(2024, 2, 29, 23, 59, 30, tzinfo=UTC)
    before = datetime(1969, 12, 31, 0, 0, tzinfo=UTC)
    rows = encode_one(FEATURES[5], moment.timestamp(), before.timestamp())
    assert rows == [[2024, 2, 29, 3, 23, 59, 0], [1969, 12, 31, 2, 0, 0, 0]]


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_every_date_has_the_parts_that_python_gives(seconds: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    [row] = encode_one(FEATURES[5], seconds)
    assert row == [moment.year, moment.month, moment.day, moment.weekday(), moment.hour, moment.minute, 0.0]


def test_no_rows_are_an_empty_matrix_of_the_right_width() -> None:
    encoder = Encoder(SCHEMA)
    raw = raw_columns(SCHEMA, [])
    assert encoder.encode(raw).shape == (0, encoder.width) == (0, 14)


def test_factorised_levels_read_as_the_sequence_that_they_stand_for() -> None:
    levels = FactorisedLevels(["a", "b", None], np.array([2, 0, 0, 1]))
    assert list(levels) == [None, "a", "a", "b"]
    assert (list(levels[1:3]), levels[-1], len(levels)) == (["a", "a"], "b", 4)
    assert list(levels.take(np.array([3, 0]))) == ["b", None]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


rows_of_json = st.fixed_dictionaries(
    {
        "size": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        "count": st.integers(-(2**53), 2**53),
        "city": st.one_of(st.none(), st.sampled_from(["Köln", "Ulm", "Bonn", "", "1", "true"])),
        "code": st.one_of(st.none(), st.integers(-9, 9)),
        "member": st.one_of(st.none(), st.booleans()),
        "day": st.one_of(st.none(), st.integers(-8_000_000_000, 253_000_000_000).map(_iso)),
    }
)


@given(st.lists(rows_of_json, min_size=1, max_size=8))
def test_a_table_and_requests_of_the_same_rows_are_one_matrix(rows: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in SCHEMA.feature_names})
    encoder = Encoder(SCHEMA)
    sent = encoder.encode(raw_columns(SCHEMA, rows))
    assert np.array_equal(encoder.encode(frame_to_raw(SCHEMA, frame)), sent, equal_nan=True)
    assert np.array_equal(TableEncoder.of(SCHEMA).transform(frame), sent, equal_nan=True)


@given(st.lists(rows_of_json, min_size=1, max_size=8))
def test_raw_columns_written_as_json_are_read_back_to_the_same_matrix(rows: list[dict[str, Any]]) -> None:
    encoder, raw = Encoder(SCHEMA), raw_columns(SCHEMA, rows)
    sent = json.loads(json.dumps(json_rows(SCHEMA, raw), allow_nan=False))
    assert np.array_equal(encoder.encode(raw_columns(SCHEMA, sent)), encoder.encode(raw), equal_nan=True)


def test_a_table_is_encoded_whatever_type_its_columns_have() -> None:
    """Whole numbers as floats, dates as dates or text, gaps in each way that pandas writes them."""
    plain = pd.DataFrame({"size": [1, 2], "count": [3.0, 4.0], "code": [7.0, 1.0]})
    plain["city"] = pd.Series(["Ulm", None], dtype="category")
    plain["member"] = pd.Series([True, None], dtype="boolean")
    plain["day"] = pd.Series(["2024-02-29", None]).astype("datetime64[s]")
    text = plain.assign(code=[7, 1])
    for name, first_cell in (("city", "Ulm"), ("member", "true"), ("day", "2024-02-29T00:00:00Z")):
        text[name] = pd.Series([first_cell, None], dtype=object)
    encoder = Encoder(SCHEMA)
    first, second = (encoder.encode(frame_to_raw(SCHEMA, frame)) for frame in (plain, text))
    assert np.array_equal(first, second, equal_nan=True)
    assert first[0].tolist() == [1, 0, 3, 1, 1, 1, 0, 2024, 2, 29, 3, 0, 0, 0][: encoder.width]


def test_a_feature_that_the_table_lacks_is_named() -> None:
    with pytest.raises(KeyError, match="size"):
        frame_to_raw(SCHEMA, pd.DataFrame({"count": [1]}))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400.0), ("1970-01-01T01:00:00+01:00", 0.0), ("1970-01-01T00:00:00.5Z", 0.5),
        ("9999-12-31", 253402214400.0), ("0001-01-01", -62135596800.0),
    ],
)  # fmt: skip
def test_dates_are_iso_8601_and_utc_unless_they_say_otherwise(text: str, seconds: float) -> None:
    assert parse_datetime(text) == seconds
    raw = frame_to_raw(Schema(target="y", classes=(0, 1), features=(FEATURES[5],)), pd.DataFrame({"day": [text, None]}))
    assert np.array_equal(np.asarray(raw[0]), [seconds, np.nan], equal_nan=True)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "24/12/2024"])
def test_what_is_no_date_is_refused_in_a_request(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_datetime(text)
