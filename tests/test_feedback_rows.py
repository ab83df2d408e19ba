"""Outcomes that came back as rows of the training table: the same values, on the same side of the split."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from models.row_hash import row_hashes
from models.schema import Feature, Ignored, Schema
from monitoring.labelled_reading import LabelledRow
from monitoring.log_policy import HASH_PREFIX
from pipeline.data_processing import conform
from pipeline.data_split import LazyRaw, time_values
from pipeline.feedback_rows import Feedback

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SCHEMA = Schema(
    target="left",
    classes=("no", "yes"),
    features=(
        Feature(name="age", kind="numeric", range=(18.0, 90.0)),
        Feature(name="plan", kind="categorical", categories=(1, 2)),
        Feature(name="member", kind="boolean"),
        Feature(name="joined", kind="datetime", date_format="%d/%m/%Y", parts=("month",)),
    ),
    ignored=(Ignored(name="id", reason="identifier"), Ignored(name="left", reason="the target")),
)
TABLE = pd.DataFrame(
    {
        "id": ["a", "b", "c"],
        "age": [41.0, 25.0, None],
        "plan": [2, 1, 2],
        "member": ["TRUE", "FALSE", "TRUE"],
        "joined": ["06/05/2019", "13/11/2020", None],
        "left": ["no", "yes", "no"],
    }
)
SENT: list[dict[str, Any]] = [
    {"age": 41, "plan": 2, "member": True, "joined": "2019-05-06T00:00:00Z"},
    {"age": 25.0, "plan": 1, "member": False, "joined": "2020-11-13"},
    {"age": None, "plan": 2, "member": True, "joined": None},
]


def labelled(rows: list[dict[str, Any]], actual: list[Any]) -> list[LabelledRow]:
    return [
        LabelledRow(json.dumps(row), json.dumps(label), NOON + timedelta(seconds=second))
        for second, (row, label) in enumerate(zip(rows, actual, strict=True))
    ]


FEEDBACK = Feedback(labelled(SENT, ["no", "yes", "no"]), SCHEMA)


def test_a_logged_row_is_the_row_of_the_file_that_it_was() -> None:
    joined = FEEDBACK.joined(TABLE, None, "t")
    assert joined["left"].tolist() == ["no", "yes", "no"] * 2
    typed = conform(joined, SCHEMA, "t")
    pd.testing.assert_frame_equal(typed.iloc[:3].reset_index(drop=True), typed.iloc[3:].reset_index(drop=True))


def test_a_logged_row_stands_on_the_side_of_its_twin_in_the_file() -> None:
    alone = row_hashes(LazyRaw(conform(TABLE, SCHEMA, "t"), SCHEMA.features), 42)
    joined = row_hashes(LazyRaw(conform(FEEDBACK.joined(TABLE, None, "t"), SCHEMA, "t"), SCHEMA.features), 42)
    assert joined.tolist() == alone.tolist() * 2


def test_columns_that_no_model_reads_are_empty_in_logged_rows_and_named() -> None:
    joined = FEEDBACK.joined(TABLE, None, "t")
    assert joined["id"].isna().tolist() == [False] * 3 + [True] * 3
    assert FEEDBACK.left_out(None) == ["id"]
    assert FEEDBACK.left_out("id") == []


def test_rows_without_dates_in_the_time_column_get_the_moment_of_their_prediction() -> None:
    table = TABLE.assign(seen=["2026-03-01", "2026-03-02", "2026-03-03"])
    joined = FEEDBACK.joined(table, "seen", "t")
    times = time_values(joined["seen"], "t", "seen")
    assert times[:3].tolist() == [pd.Timestamp(day, tz="UTC").timestamp() for day in table["seen"]]
    assert times[3:].tolist() == [NOON.timestamp() + second for second in range(3)]


def test_rows_without_a_number_in_the_time_column_follow_the_table_in_their_order() -> None:
    joined = FEEDBACK.joined(TABLE.assign(t=[0.1, 0.5, np.nan]), "t", "t")
    assert time_values(joined["t"], "t", "t")[3:].tolist() == [1.5, 2.5, 3.5]


def test_without_a_table_the_logged_rows_are_one() -> None:
    joined = FEEDBACK.joined(None, "seen", "t")
    assert list(joined.columns) == ["age", "plan", "member", "joined", "left", "seen"]
    assert time_values(joined["seen"], "t", "seen").tolist() == [NOON.timestamp() + second for second in range(3)]


def test_a_hashed_feature_is_missing_in_all_rows() -> None:
    sent = [{**SENT[0], "age": f"{HASH_PREFIX}ab"}, SENT[1]]
    joined = Feedback(labelled(sent, ["no", "yes"]), SCHEMA).joined(None, None, "t")
    assert joined["age"].isna().all()
    assert joined["plan"].tolist() == [2, 1]


def test_odd_values_and_absent_fields_are_missing() -> None:
    odd = ['{"age": "old", "plan": null}', '{"age": 1e999, "plan": 1, "member": "x", "joined": "tomorrow"}', "[]"]
    joined = Feedback([LabelledRow(text, '"no"', NOON) for text in odd], SCHEMA).joined(None, None, "t")
    typed = conform(joined, SCHEMA, "t")
    assert typed["age"].isna().all() and typed["member"].isna().all() and typed["joined"].isna().all()
