"""The whole way from a table to a schema: what is learnt, from which rows, and how other tables follow it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.encoding import Encoder
from models.frame import frame_to_raw
from models.schema import Feature, Schema
from pipeline import schema_learning
from pipeline.data_processing import conform, held_out_by, main, prepare, read_data
from pipeline.errors import InputError
from pipeline.table_reading import Table
from tests.tables import kinds_of, prepared, prepared_file, small_table, with_target


def feature(schema: Schema, name: str) -> Feature:
    return next(feature for feature in schema.features if feature.name == name)


def test_the_schema_of_credit(real_tables: Path) -> None:
    schema = prepared_file(real_tables / "credit.csv", "Status").schema
    assert schema.classes == ("bad", "good")
    assert len(schema.features) == 13
    home = feature(schema, "Home")
    assert home.categories == ("ignore", "other", "owner", "parents", "priv", "rent")
    assert (home.nullable, home.encoding) == (True, "one_hot")
    age = feature(schema, "Age")
    assert (age.kind, age.integer, age.range, age.nullable) == ("numeric", True, (18.0, 68.0), False)


def test_the_schema_of_the_penguins_names_what_is_ignored_and_why(real_tables: Path) -> None:
    schema = prepared_file(real_tables / "penguins_raw.csv", "Species").schema
    assert len(schema.classes) == 3
    assert {column.name for column in schema.ignored} == {"Region", "Stage", "Individual ID", "Comments"}
    assert all(column.reason for column in schema.ignored)
    assert feature(schema, "Date Egg").parts == ("year", "month", "day", "weekday")


def test_fault_04_what_only_test_rows_hold_does_not_reach_the_schema() -> None:
    frame = small_table(300, day=np.arange(300.0))
    frame.loc[299, "size"], frame.loc[299, "colour"] = 1e6, "violet"
    frame.loc[298, "colour"] = None
    schema = prepared(frame, data_split={"time_column": "day"}).schema
    assert feature(schema, "colour").categories == ("blue", "green", "red")
    assert not feature(schema, "colour").nullable
    assert feature(schema, "size").range[1] < 10  # type: ignore[index]


def test_a_feature_without_a_value_in_the_training_rows_is_left_out() -> None:
    frame = small_table(300, day=np.arange(300.0), late=[None] * 250 + [1.0, 2.0] * 25)
    result = prepared(frame, data_split={"time_column": "day"}, data_quality={"missing_threshold": 0.95})
    assert result.schema.feature_names == ("size", "colour")
    assert kinds_of(result)["late"] == "empty_in_training"
    assert list(result.frame.columns) == ["size", "colour"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a"], ("a", "b")),
        ([1, 0], (0, 1)),
        ([2.0, 1.0], (1, 2)),
        ([True, False], (False, True)),
        (["1", "x"], ("1", "x")),
        ([1.5, 2.5], ("1.5", "2.5")),
        (list("ZYXWVUTSRQPONMLKJIHGFEDCBA"), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        (["日本", "Ελλάδα"], ("Ελλάδα", "日本")),
    ],
)
def test_classes_keep_their_type_and_are_sorted(labels: list[Any], classes: tuple[Any, ...]) -> None:
    frame = small_table(1300)
    frame["target"] = pd.Series([labels[row % len(labels)] for row in range(1300)], dtype=object)
    result = prepared(frame, model_selection={"cross_validation_folds": 3})
    assert result.schema.classes == classes
    assert [type(label) for label in result.schema.classes] == [type(label) for label in classes]
    assert [result.classes[code] for code in result.target[: len(labels)]] == [
        type(classes[0])(label) for label in labels
    ]


def test_whole_number_classes_with_gaps_are_whole_again() -> None:
    frame = small_table(300)
    frame["target"] = [1.0, 0.0, 2.0] * 99 + [np.nan] * 3
    result = prepared(frame)
    assert result.schema.classes == (0, 1, 2)
    assert len(result.quarantine) == 3


def test_many_levels_are_target_encoded_and_one_hot_columns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def levels(count: int) -> Any:
        return lambda rng, n: [f"v{k}" for k in rng.integers(0, count, n)]

    frame = small_table(600, few=levels(5), many=levels(100), some=levels(20), more=levels(25))
    schema = prepared(frame).schema
    assert [feature.encoding for feature in schema.features[1:]] == [
        "one_hot",
        "one_hot",
        "target",
        "one_hot",
        "one_hot",
    ]
    monkeypatch.setattr(schema_learning, "MOST_ONE_HOT_COLUMNS", 30)
    schema = prepared(frame).schema
    assert [feature.encoding for feature in schema.features[1:]] == [
        "one_hot",
        "one_hot",
        "target",
        "one_hot",
        "target",
    ]


def test_hundreds_of_columns_of_every_kind_go_through() -> None:
    generator = np.random.default_rng(3)
    frame = small_table(400)
    wide: dict[str, Any] = {f"n {i}": generator.normal(size=400) for i in range(120)}
    wide |= {f"c-{i}": generator.choice(["ä", "ö", "ü"], 400) for i in range(60)}
    wide |= {f"b{i}": generator.random(400) < 0.5 for i in range(60)}
    result = prepared(pd.concat([pd.DataFrame(wide), frame], axis=1))
    assert len(result.schema.features) == 242
    assert Encoder(result.schema).encode(frame_to_raw(result.schema, result.frame)).shape[0] == 400


def test_required_features_are_marked() -> None:
    schema = prepared(small_table(), features={"required": ["size"]}).schema
    assert [item.required for item in schema.features] == [True, False]


def test_the_table_that_was_read_is_not_changed() -> None:
    frame = small_table(200, when=pd.date_range("2020", periods=200).strftime("%d.%m.%Y"), junk=["1", "?"] * 100)
    before = frame.copy(deep=True)
    prepared(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_another_table_is_typed_as_the_schema_says() -> None:
    frame = small_table(
        200,
        code=lambda rng, n: rng.choice(["1", "2", "A"], n),
        flag=lambda rng, n: rng.choice(["true", "False", "?x"], n),
    )
    schema = prepared(frame).schema
    new = pd.DataFrame(
        {
            "flag": [True, False, None],
            "code": [1.0, 2.0, None],
            "colour": ["red", "mauve", None],
            "size": ["1.5", "x", 2],
        }
    )
    conformed = conform(new, schema)
    assert list(conformed.columns) == list(schema.feature_names)
    assert conformed["size"].fillna(-1).tolist() == [1.5, -1.0, 2.0]
    assert conformed["colour"].astype(object).tolist()[:2] == ["red", "mauve"]
    assert conformed["code"].astype(object).tolist()[:2] == ["1", "2"]
    assert conformed["flag"].astype(object).tolist()[:2] == ["true", "False"]
    assert conformed.isna().sum().tolist() == [1, 1, 1, 1]


def test_conforming_a_table_to_its_own_schema_changes_nothing(real_tables: Path) -> None:
    result = prepared_file(real_tables / "penguins_raw.csv", "Species")
    table = read_data(with_target("Species"), real_tables / "penguins_raw.csv", result.schema)
    again = conform(table.frame, result.schema)
    for mine, theirs in zip(frame_to_raw(result.schema, result.frame), frame_to_raw(result.schema, again), strict=True):
        assert np.array_equal(_comparable(mine), _comparable(theirs))


def _comparable(raw: Any) -> np.ndarray[Any, Any]:
    return np.array(["" if value is None or value != value else str(value) for value in raw])


def test_dates_are_read_in_the_format_of_the_training_file() -> None:
    days = pd.date_range("2020-01-01", periods=200)
    schema = prepared(small_table(200, day=days.strftime("%d/%m/%Y"))).schema
    assert feature(schema, "day").date_format == "%d/%m/%Y"
    new = small_table(2).assign(day=["03/04/2020", "05/06/2020"])
    assert conform(new, schema)["day"].dt.month.tolist() == [4, 6]


def test_a_table_that_lacks_features_is_refused_by_name() -> None:
    schema = prepared(small_table()).schema
    with pytest.raises(InputError, match=r"new\.csv: lacks 'size', which the model reads; columns: 'colour', 'target'"):
        conform(small_table().drop(columns="size"), schema, "new.csv")


def test_with_a_schema_kinds_and_classes_are_taken_from_it() -> None:
    schema = prepared(small_table(300)).schema
    new = small_table(300, seed=2, extra=range(300))
    new.loc[:2, "target"] = "perhaps"
    result = prepare(Table(new, "new"), with_target(), schema)
    assert result.schema is schema
    assert list(result.frame.columns) == ["size", "colour"]
    assert len(result.quarantine) == 3


def test_files_joined_by_retraining_may_differ_in_type() -> None:
    first, second = small_table(200, code=[1, 2] * 100), small_table(200, seed=1, code=["1", "B"] * 100)
    second["size"] = second["size"].astype(str)
    result = prepared(pd.concat([first, second], ignore_index=True))
    assert kinds_of(result) == {"size": "numeric", "colour": "categorical", "code": "categorical"}
    assert feature(result.schema, "code").categories == ("1", "2", "B")


def test_categoricals_by_configuration_are_read_as_text(tmp_path: Path) -> None:
    frame = small_table(200, code=["1.50", "1.5"] * 100)
    frame.to_csv(tmp_path / "t.csv", index=False)
    schema = prepared_file(tmp_path / "t.csv", "target", features={"categorical": ["code"]}).schema
    assert feature(schema, "code").categories == ("1.5", "1.50")


def test_as_a_script_it_prints_the_report_or_a_sentence(
    real_tables: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "pipeline_config.yaml").write_text("{}")
    data = ["--data", str(real_tables / "penguins_raw.csv"), "--target"]
    assert main([*data, "Species"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["rows"] == 344
    assert main([*data, "species?"]) == 2
    failed = capsys.readouterr()
    assert failed.out == ""
    assert "has no column 'species?' (target_column); did you mean 'Species'?" in failed.err


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.datetimes(),
    st.sampled_from(
        ["?", "NA", "2020-01-01", "03/04/2021", "1,234", "inf", "true", "9999-12-31", "007", "1e400", "None"]
    ),
)
columns = st.one_of(
    *(st.lists(kind, min_size=1, max_size=12) for kind in (cells, st.integers(0, 3), st.floats(), st.text(max_size=4))),
    st.lists(st.one_of(st.none(), st.booleans()), min_size=1, max_size=5),
    st.lists(st.one_of(st.none(), st.datetimes()), min_size=1, max_size=12),
)
names = st.one_of(st.sampled_from(["a", "b", "id", "t"]), st.text(max_size=8))
labels = st.sampled_from([["a", "b"], [0, 1], [True, False], ["é", "ü", "日"], ["a", "b", None], ["x"], [1.5, 2.5]])
sections = st.sampled_from(
    [{}, {"data_split": {"time_column": "a"}}, {"features": {"categorical": ["a"]}}, {"features": {"datetime": ["a"]}}]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, columns, max_size=5), labels, st.sampled_from([0, 25, 60, 150]), sections, st.data())
def test_any_table_ends_in_a_preparation_or_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, cols: Any, classes: Any, rows: int, chosen: Any, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("any") / data.draw(st.sampled_from(["t.csv", "t.json"]))
    generator = np.random.default_rng(rows)
    table = pd.DataFrame({name: [v[k] for k in generator.integers(0, len(v), rows)] for name, v in cols.items()})
    table["target"] = [classes[k] for k in generator.integers(0, len(classes), rows)]
    configuration = with_target(data_quality={"minimum_rows": 20}, **chosen)
    _write(table, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = prepare(read_data(configuration, path), configuration)
        except InputError as error:
            assert str(error)
            return
    matrix = Encoder(result.schema).encode(frame_to_raw(result.schema, result.frame))
    assert matrix.shape[0] == len(result.target) == len(result.split.train) + len(result.split.test)
    assert list(result.frame.columns) == list(result.schema.feature_names)
    held_out = held_out_by(result.split.rule, result.frame, result.schema, result.time)
    assert held_out is not None
    assert np.flatnonzero(held_out).tolist() == result.split.test.tolist()


def _write(table: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        path.write_bytes(msgspec.json.encode(table.astype(object).to_dict("records"), enc_hook=str))
