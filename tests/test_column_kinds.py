"""What a column is, or why it is left out."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.column_kinds import Column, Rules, learn_column
from pipeline.errors import InputError
from tests.tables import kinds_of, prepared, prepared_file, small_table, with_target

ROWS = 200
RNG = np.random.default_rng(7)


def learnt(values: Any, name: str = "column", **sections: Any) -> Column:
    series = pd.Series(values)
    return learn_column(name, series, Rules.of(with_target(**sections), [name]))


def cycle(*values: Any, rows: int = ROWS) -> list[Any]:
    return [values[row % len(values)] for row in range(rows)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (RNG.normal(size=ROWS), "numeric"),
        (cycle(1, 2, 3), "numeric"),
        (cycle(0, 1), "numeric"),
        (cycle(1.0, 2.0, None), "numeric"),
        (cycle(True, False), "boolean"),
        (cycle(True, False, None), "boolean"),
        (cycle("true", "FALSE"), "boolean"),
        (cycle("yes", "no"), "categorical"),
        (cycle("a", "b", None), "categorical"),
        (cycle("None", "gold", "silver"), "categorical"),
        (cycle("1", "2", "x"), "categorical"),
        (cycle("01234", "98765"), "categorical"),
        (cycle("12:30", "07:05"), "categorical"),
        (cycle("1,234", "56", "$7.5", "12 %"), "numeric"),
        (pd.Categorical(cycle("a", "b")), "categorical"),
        (pd.Categorical(cycle(1, 2, None)), "numeric"),
        (pd.array(cycle(1, 2, None), dtype="Int64"), "numeric"),
        (pd.to_timedelta(cycle(1, 5, 9), unit="h"), "numeric"),
        (pd.date_range("2020-01-01", periods=ROWS), "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS, tz="Europe/Oslo"), "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS).date, "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ"), "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS).strftime("%d.%m.%Y"), "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS).strftime("%d/%m/%Y %H:%M"), "datetime"),
        (pd.date_range("2020-01-01", periods=ROWS).strftime("%b %d, %Y"), "datetime"),
    ],
)
def test_the_kind_follows_from_the_values(values: Any, kind: str) -> None:
    column = learnt(values)
    assert column.kind == kind, column.reason


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("column", cycle(None), "all_missing"),
        ("column", cycle(5), "constant"),
        ("column", cycle("only"), "constant"),
        ("column", cycle("x", None, None), "missing"),
        ("column", list(range(ROWS)), "identifier"),
        ("column", list(range(ROWS, 0, -1)), "identifier"),
        ("column", RNG.permutation(ROWS), "identifier"),
        ("customerId", RNG.permutation(ROWS * 7)[:ROWS], "identifier"),
        ("column", [str(uuid.UUID(int=n)) for n in range(ROWS)], "identifier"),
        ("column", [f"N{n}" for n in range(ROWS)], "identifier"),
        ("Individual ID", [f"N{n * 0.6:.0f}" for n in range(ROWS)], "identifier"),
        ("notes", [f"bird {n} was seen near the old nest" for n in range(ROWS)], "free_text"),
        ("column", cycle([1], [2]), "nested"),
        ("column", cycle({"a": 1}, {}), "nested"),
    ],
)
def test_a_column_that_tells_nothing_is_left_out_with_the_reason(name: str, values: Any, code: str) -> None:
    column = learnt(values, name)
    assert (column.kind, column.code) == (None, code)
    assert column.reason


def test_real_numbers_that_are_all_distinct_are_no_identifier() -> None:
    assert learnt(np.sort(RNG.normal(size=ROWS)), "reading_id").kind == "numeric"


def test_distinct_whole_numbers_in_no_order_are_no_identifier() -> None:
    assert learnt(RNG.permutation(100_000)[:ROWS], "salary").kind == "numeric"


def test_forty_thousand_levels_that_repeat_are_a_categorical() -> None:
    levels = np.array([f"user-{n}" for n in range(8_000)])
    column = learnt(levels[np.random.default_rng(1).integers(0, 8_000, 60_000)], "user_id")
    assert column.kind == "categorical"


def test_one_value_and_gaps_are_kept_as_a_sign_of_what_is_missing() -> None:
    assert learnt(cycle("x", None)).kind == "categorical"
    assert learnt(cycle(1.0, None)).kind == "numeric"


def test_a_few_values_that_are_no_numbers_count_as_missing_and_are_told() -> None:
    column = learnt([*(str(n / 7) for n in range(300)), "?", "n/a", "-", "x"])
    assert column.kind == "numeric"
    assert column.missing == 4
    assert [finding.code for finding in column.findings] == ["unreadable_values"]


def test_infinite_values_count_as_missing_and_are_told() -> None:
    column = learnt([np.inf, -np.inf, *RNG.normal(size=ROWS)])
    assert column.missing == 2
    assert [finding.code for finding in column.findings] == ["infinite_values"]
    assert column.values is not None
    assert not np.isinf(column.values).any()


def test_whole_numbers_read_as_real_ones_because_of_gaps_are_whole_levels_again() -> None:
    column = learnt(cycle(1.0, 2.0, np.nan), features={"categorical": ["column"]})
    assert column.values is not None
    assert column.values.cat.categories.tolist() == [1, 2]
    assert column.values.cat.categories.dtype == np.int64


def test_sentinel_dates_that_no_clock_will_show_count_as_missing() -> None:
    column = learnt([*pd.date_range("2020-01-01", periods=99).strftime("%Y-%m-%d"), "9999-12-31"])
    assert (column.kind, column.missing) == ("datetime", 1)


def test_day_and_month_that_could_be_swapped_are_told() -> None:
    ambiguous = learnt(cycle("01/02/2020", "03/04/2020"))
    assert [finding.code for finding in ambiguous.findings] == ["ambiguous_dates"]
    plain = learnt(cycle("01/02/2020", "13/04/2020"))
    assert plain.date_format == "%d/%m/%Y"
    assert plain.findings == ()


@pytest.mark.parametrize(
    ("values", "kind"), [(cycle(1, 2), "categorical"), (cycle("1", "2", "x"), "numeric"), (cycle("a"), "categorical")]
)
def test_the_configuration_overrules_what_is_learnt(values: Any, kind: str) -> None:
    assert learnt(values, features={kind: ["column"]}).kind == kind


def test_the_configuration_brings_back_what_would_be_left_out() -> None:
    ids = [f"N{n}" for n in range(ROWS)]
    assert learnt(ids, features={"categorical": ["column"]}).kind == "categorical"
    assert learnt(ids, features={"drop": ["column"]}).reason == "named in features.drop"


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ({"numeric": ["nope"]}, r"features\.numeric names 'nope', which is no column; columns: 'column'"),
        ({"numeric": ["column"], "drop": ["column"]}, "'column' stands in more than one"),
        ({"numeric": ["column"]}, r"features\.numeric names 'column', but 200 of its 200 values are no numbers"),
        ({"datetime": ["column"]}, "200 of its 200 values are no dates"),
    ],
)
def test_an_override_that_cannot_be_is_refused(features: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        learnt(cycle("a", "b"), features=features)


def test_over_the_missing_threshold_policy_drops_or_refuses() -> None:
    frame = small_table(gaps=cycle(1.5, None, None))
    assert kinds_of(prepared(frame))["gaps"] == "missing"
    assert kinds_of(prepared(frame, data_quality={"missing_threshold": 0.7}))["gaps"] == "numeric"
    with pytest.raises(InputError, match=r"'gaps': 66% of its values are missing"):
        prepared(frame, data_quality={"missing_policy": "refuse"})


def test_the_kinds_of_the_penguins(real_tables: Path) -> None:
    found = kinds_of(prepared_file(real_tables / "penguins_raw.csv", "Species"))
    assert {name: code for name, code in found.items() if code not in ("numeric", "categorical")} == {
        "Region": "constant",
        "Stage": "constant",
        "Individual ID": "identifier",
        "Date Egg": "datetime",
        "Comments": "missing",
    }
    assert found["Flipper Length (mm)"] == "numeric"
    assert found["studyName"] == "categorical"
