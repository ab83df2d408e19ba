"""The short way of one ordinary row: the same matrix as the long way, and never a row that the long way warns of."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.model_server import FEW_ROWS, ServedModel
from models.bundle import read_bundle
from models.encoding import Encoder
from models.raw_rows import raw_columns
from models.row_packing import RowPacker
from models.row_warnings import WarningRules
from models.runtime import ModelRuntime
from models.schema import DatePart, Feature, Kind, Schema
from tests.bundles import SAMPLE_SCHEMA, random_rows, sample_bundle, sample_row

PARTS: tuple[DatePart, ...] = ("year", "month", "day", "weekday", "hour", "minute")
NAMES = st.text(min_size=0, max_size=8) | st.sampled_from(['a "b"', "back\\slash", "class", "f0", "x0", "$", "日本"])
BOUNDS = st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1e38, -1e38, 1.0])
LEVELS = st.lists(st.text(max_size=4), max_size=4, unique=True) | st.lists(st.integers(-9, 9), max_size=4, unique=True)


@st.composite
def features(draw: st.DrawFn, name: str) -> Feature:
    kind: Kind = draw(st.sampled_from(["numeric", "categorical", "boolean", "datetime"]))
    facts: dict[str, Any] = {"name": name, "kind": kind, "nullable": draw(st.booleans())}
    if kind == "numeric":
        facts["range"] = draw(st.none() | st.tuples(BOUNDS, BOUNDS).map(lambda pair: (min(pair), max(pair))))
    if kind == "categorical":
        facts["categories"] = tuple(sorted(draw(LEVELS)))
    if kind == "datetime":
        facts["parts"] = tuple(draw(st.lists(st.sampled_from(PARTS), unique=True)))
    return Feature(**facts)


def values(feature: Feature) -> st.SearchStrategy[Any]:
    if feature.kind == "boolean":
        return st.none() | st.booleans()
    if feature.kind == "datetime":
        moments = st.datetimes().map(lambda moment: moment.isoformat())
        return st.none() | moments | st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-12:00"])
    if feature.kind == "categorical":
        return st.none() | st.sampled_from([*feature.categories, "never seen"])
    known = st.sampled_from(feature.range) if feature.range else st.just(0.5)
    return st.none() | known | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schema, dict[str, Any]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    drawn = tuple(draw(features(name)) for name in names)
    schema = Schema(target="the target", classes=("a", "b"), features=drawn)
    return schema, {feature.name: draw(values(feature)) for feature in drawn}


@settings(max_examples=300, deadline=None)
@given(case=cases())
def test_a_packed_row_is_the_encoded_row_and_has_no_warning(case: tuple[Schema, dict[str, Any]]) -> None:
    schema, row = case
    packer, encoder = RowPacker(schema), Encoder(schema)
    names = schema.feature_names
    packed = np.full((1, encoder.width), 7.0, dtype=np.float32)
    cells = [row[names[position]] for position in packer.feature_of_cell]
    raw = raw_columns(schema, [row])
    if packer.pack_into(packed, cells):
        np.testing.assert_array_equal(packed, encoder.encode(raw))
        assert WarningRules(schema).of(raw) == []


def test_most_rows_are_packed() -> None:
    packer = RowPacker(SAMPLE_SCHEMA)
    matrix = np.empty((100, Encoder(SAMPLE_SCHEMA).width), dtype=np.float32)
    rows = [list(row.values()) for row in random_rows(100)]
    assert all(
        packer.pack_into(cells, [row[position] for position in packer.feature_of_cell])
        for cells, row in zip(matrix, rows, strict=True)
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    registry = tmp_path_factory.mktemp("registry")
    sample_bundle(registry / "1")
    return ServedModel("1", ModelRuntime(read_bundle(registry / "1")), max_rows=1000)


@pytest.mark.parametrize("count", [2, 7, FEW_ROWS, FEW_ROWS + 1, 300])
def test_rows_of_a_batch_are_answered_as_they_are_alone(model: ServedModel, count: int) -> None:
    rows = random_rows(count, seed=3)
    together = model.score(rows)
    alone = [model.score([row]) for row in rows]
    np.testing.assert_allclose(together.probability, [scores.probability[0] for scores in alone], atol=1e-6)
    assert together.winners == [scores.winners[0] for scores in alone]
    assert together.top == [max(probability) for probability in together.probability]


@pytest.mark.parametrize("count", [1, 2, FEW_ROWS + 1])
def test_an_unusual_row_is_answered_and_warned_of_in_any_company(model: ServedModel, count: int) -> None:
    rows = [sample_row(city="Atlantis"), *random_rows(count - 1)]
    scores = model.score(rows)
    assert [(warning.row, warning.code) for warning in scores.warnings] == [(0, "unseen_category")]
    matrix = Encoder(SAMPLE_SCHEMA).encode(raw_columns(SAMPLE_SCHEMA, rows))
    np.testing.assert_allclose(scores.probability, model._runtime.probabilities(matrix), atol=1e-6)


def test_a_row_does_not_see_what_the_last_one_left(model: ServedModel) -> None:
    expected = model.score([sample_row()]).probability
    for change in ({"age": None}, {"city": "Atlantis"}, {"visits": 39.0}):
        model.score([sample_row(**change)])
        assert model.score([sample_row()]).probability == expected


def test_a_model_out_of_service_is_freed_without_a_collection(tmp_path: Path) -> None:
    sample_bundle(tmp_path / "1")
    model = ServedModel("1", ModelRuntime(read_bundle(tmp_path / "1")), max_rows=10)
    model.score([sample_row()])
    gc.collect()
    gc.disable()
    try:
        seen = weakref.ref(model)
        del model
        assert seen() is None
    finally:
        gc.enable()


def test_requests_leave_no_cycles(model: ServedModel) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            model.score(model.decoder.records(b"[" + b",".join([_ROW] * 3) + b"]"))
        assert gc.collect() == 0
    finally:
        gc.enable()


_ROW = b'{"age":41,"Culmen Length (mm)":44.5,"city":"Ulm","plan":2,"member":true,"joined":"2019-05-06","visits":7}'
