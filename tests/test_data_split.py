"""A row keeps its side of the split for ever; what was held out can be told later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.bundle import SplitRule
from pipeline.data_processing import Preparation, conform, held_out_by, held_out_of_table, prepare, read_data
from pipeline.errors import InputError
from pipeline.table_reading import Table
from tests.tables import prepared, prepared_file, small_table, with_target


def sides(preparation: Preparation) -> dict[int, bool]:
    """Row of the table -> held out."""
    mask = np.zeros(len(preparation.frame), dtype=bool)
    mask[preparation.split.test] = True
    return dict(zip(preparation.rows.tolist(), mask.tolist(), strict=True))


def test_the_two_sides_are_the_whole_and_near_the_configured_share() -> None:
    split = prepared(small_table(3000), data_split={"test_size": 0.3}).split
    assert sorted([*split.train, *split.test]) == list(range(3000))
    assert len(split.test) / 3000 == pytest.approx(0.3, abs=0.03)


def test_a_row_keeps_its_side_when_rows_and_columns_move() -> None:
    frame = small_table(500)
    before = sides(prepared(frame))
    shuffled = frame.sample(frac=1.0, random_state=1)[["target", "colour", "size"]]
    after = sides(prepared(shuffled.reset_index(drop=True)))
    assert [after[place] for place in range(500)] == [before[row] for row in shuffled.index]


def test_a_row_keeps_its_side_when_rows_are_appended() -> None:
    frame = small_table(500)
    longer = pd.concat([frame, small_table(400, seed=9)], ignore_index=True)
    before, after = sides(prepared(frame)), sides(prepared(longer))
    assert all(after[row] == before[row] for row in before)


def test_duplicates_share_a_side() -> None:
    frame = pd.concat([small_table(300)] * 2, ignore_index=True)
    found = sides(prepared(frame))
    assert all(found[row] == found[row + 300] for row in range(300))


def test_another_seed_is_another_split() -> None:
    frame = small_table(500)
    assert sides(prepared(frame)) != sides(prepared(frame, data_split={"random_state": 1}))


def test_a_larger_test_size_only_adds_to_the_test_part() -> None:
    frame = small_table(500)
    small, large = (set(prepared(frame, data_split={"test_size": size}).split.test) for size in (0.2, 0.4))
    assert small < large


def test_the_columns_of_the_model_in_service_are_kept_when_a_column_is_added() -> None:
    frame = small_table(500)
    before = prepared(frame)
    wider = small_table(500, weight=lambda rng, n: rng.normal(size=n))
    settings = with_target()
    after = prepare(Table(wider, "t"), settings, previous=before.split.rule)
    assert sides(after) == sides(before)
    assert "split_changed" not in {finding.code for finding in after.quality.findings}


def test_a_split_that_cannot_be_kept_is_told() -> None:
    before = prepared(small_table(500, weight=lambda rng, n: rng.normal(size=n)))
    after = prepare(Table(small_table(500), "t"), with_target(), previous=before.split.rule)
    assert "split_changed" in {finding.code for finding in after.quality.findings}


@pytest.mark.parametrize(
    ("name", "target"), [("credit.csv", "Status"), ("elec2.csv", "class"), ("penguins_raw.csv", "Species")]
)
def test_what_was_held_out_can_be_told_of_any_table_later(real_tables: Path, name: str, target: str) -> None:
    result = prepared_file(real_tables / name, target)
    table = read_data(with_target(target), real_tables / name, result.schema)
    conformed = conform(table.frame, result.schema)
    held_out = held_out_by(result.split.rule, conformed, result.schema)
    assert held_out is not None
    assert np.flatnonzero(held_out).tolist() == result.rows[result.split.test].tolist()


def test_sides_are_unknown_where_the_columns_of_the_rule_are_not_there() -> None:
    result = prepared(small_table(200))
    assert held_out_by(result.split.rule, result.frame.drop(columns="size"), result.schema) is None
    other = SplitRule(method="time", test_size=0.2, time_column="day", cut=5.0)
    assert held_out_by(other, result.frame, result.schema) is None


def test_by_time_the_latest_rows_are_held_out(real_tables: Path) -> None:
    result = prepared_file(real_tables / "elec2.csv", "class", data_split={"time_column": "t"})
    assert result.time is not None
    assert result.time[result.split.train].max() < result.time[result.split.test].min()
    assert len(result.split.test) / len(result.frame) == pytest.approx(0.2, abs=0.001)
    held_out = held_out_by(result.split.rule, result.frame, result.schema, result.time)
    assert held_out is not None
    assert np.flatnonzero(held_out).tolist() == result.split.test.tolist()


def test_a_rule_by_time_reads_its_own_column_whatever_orders_the_rows_now() -> None:
    frame = small_table(200, day=np.arange(200.0), backwards=np.arange(200.0)[::-1])
    result = prepared(frame, data_split={"time_column": "backwards"})
    rule = SplitRule(method="time", test_size=0.2, time_column="day", cut=150.0)
    held_out = held_out_of_table(rule, Table(frame, "t"), result.split.test, result.schema)
    assert held_out is not None
    assert not held_out.any()
    other = SplitRule(method="time", test_size=0.2, time_column="gone", cut=150.0)
    assert held_out_of_table(other, Table(frame, "t"), result.split.test, result.schema) is None


def test_rows_of_one_moment_stay_together() -> None:
    frame = small_table(200, day=lambda rng, n: rng.integers(0, 4, n).astype(float))
    result = prepared(frame, data_split={"time_column": "day", "test_size": 0.2})
    assert result.time is not None
    assert set(result.time[result.split.train]).isdisjoint(result.time[result.split.test])


def test_the_time_column_is_no_feature_unless_asked() -> None:
    frame = small_table(200, day=pd.date_range("2020-01-01", periods=200).strftime("%d.%m.%Y"))
    by_time = {"time_column": "day"}
    assert "day" not in prepared(frame, data_split=by_time).schema.feature_names
    asked = prepared(frame, data_split=by_time, features={"use_time_column": True})
    assert "day" in asked.schema.feature_names
    assert asked.split.rule.cut == pd.Timestamp("2020-06-09").timestamp()


def test_dates_in_text_order_the_rows_as_dates() -> None:
    days = pd.date_range("2020-01-01", periods=200)
    result = prepared(small_table(200, day=days.strftime("%d/%m/%Y")), data_split={"time_column": "day"})
    assert result.split.test.tolist() == list(range(160, 200))


def test_one_moment_only_cannot_be_split_by_time() -> None:
    with pytest.raises(InputError, match="'day' holds one value only"):
        prepared(small_table(200, day=[1.0] * 200), data_split={"time_column": "day"})


def test_a_class_that_the_test_part_lacks_is_told() -> None:
    frame = small_table(300)
    frame.loc[:9, "target"] = "rare"
    frame["day"] = np.arange(300.0)
    result = prepared(frame, data_split={"time_column": "day"})
    assert "class_not_in_test" in {finding.code for finding in result.quality.findings}


def test_a_class_that_the_training_part_lacks_is_refused() -> None:
    frame = small_table(300, day=np.arange(300.0))
    frame.loc[290:, "target"] = "new"
    with pytest.raises(
        InputError, match="class 'new' has 0 of its 10 rows in the training part, fewer than the 5 folds"
    ):
        prepared(frame, data_split={"time_column": "day"})


def test_rows_that_are_all_alike_cannot_be_split() -> None:
    frame = small_table(200).assign(size=1.5, colour=["red", "blue"] * 100)
    with pytest.raises(InputError, match=r"no row falls into the test part|in the training part"):
        prepared(frame)
