"""The serving core without HTTP: what a body must hold, what an answer holds, what is logged."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.faults import MAX_FAULTS, Fault, collect_faults
from api.model_server import ModelServer, NoModelError, ServedModel, load_model
from api.records import Record
from api.row_decoder import InvalidRowsError, NotJsonError, RequestError, RowDecoder, TooManyRowsError
from models.bundle import BundleError, read_bundle
from models.encoding import Encoder
from models.raw_rows import raw_columns
from models.runtime import ModelRuntime, OnnxSession
from models.schema import Feature, Ignored, Schema
from models.serving_plan import PlannedBundle
from monitoring.prediction_log import LogError, PredictionLine, PredictionLog
from tests.bundles import SAMPLE_SCHEMA, random_rows, sample_bundle, sample_model, sample_row
from tests.log_reading import logged_lines

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DECODER = RowDecoder(SAMPLE_SCHEMA, max_rows=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    registry = tmp_path_factory.mktemp("registry")
    sample_bundle(registry / "1")
    return ServedModel("1", ModelRuntime(read_bundle(registry / "1")), max_rows=100)


@pytest.fixture
def server(model: ServedModel, tmp_path: Path) -> ModelServer:
    server = ModelServer(PredictionLog(tmp_path), clock=lambda: NOON)
    server.serve(model)
    return server


def logged(directory: Path) -> list[PredictionLine]:
    return logged_lines(directory)


def body(*rows: dict[str, Any]) -> bytes:
    return msgspec.json.encode(list(rows))


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Decoded records as dictionaries, as they stand in the log."""
    rows: list[dict[str, Any]] = msgspec.to_builtins(records)
    return rows


def faults_of(document: Any, schema: Schema = SAMPLE_SCHEMA) -> list[Fault]:
    """The faults that decoding names; the document is JSON text or a value."""
    text = document if isinstance(document, bytes) else msgspec.json.encode(document)
    with pytest.raises(InvalidRowsError) as refused:
        RowDecoder(schema, max_rows=100).records(text)
    return list(refused.value.faults)


# Answers


def test_fault_13_one_object_and_a_list_of_one_are_answered_alike(server: ModelServer, tmp_path: Path) -> None:
    one = server.predict(msgspec.json.encode(sample_row()), "r1")
    many = server.predict(body(sample_row()), "r2")
    assert one.probability == many.probability
    assert [line.prediction_id for line in logged(tmp_path)] == one.prediction_id + many.prediction_id


def test_an_answer_is_that_of_the_model(server: ModelServer) -> None:
    rows = random_rows(40, seed=5)
    expected = OnnxSession(sample_model()).run(Encoder(SAMPLE_SCHEMA).encode(raw_columns(SAMPLE_SCHEMA, rows)))
    reply = server.predict(body(*rows), "r")
    np.testing.assert_allclose(reply.probability, expected, atol=1e-6)
    assert reply.prediction == [SAMPLE_SCHEMA.classes[index] for index in expected.argmax(axis=1)]
    assert (reply.model_name, reply.model_version, reply.timestamp) == ("production_model", "1", NOON)


def test_fault_05_an_answer_does_not_depend_on_the_other_rows_of_the_request(server: ModelServer) -> None:
    gap, rest = sample_row(age=None), random_rows(20)
    alone = server.predict(body(gap), "r").probability[0]
    np.testing.assert_allclose(server.predict(body(gap, *rest), "r").probability[0], alone, atol=1e-6)


def test_each_row_has_a_line_with_its_input_and_warnings(server: ModelServer, tmp_path: Path) -> None:
    reply = server.predict(body(sample_row(), sample_row(age=None, remark="private")), "the request")
    first, second = logged(tmp_path)
    assert [first.prediction_id, second.prediction_id] == reply.prediction_id
    assert second.input_data == sample_row(age=None)
    assert (first.warnings, [warning.code for warning in second.warnings]) == ([], ["missing"])
    assert (second.request_id, second.model_version, second.timestamp) == ("the request", "1", NOON)
    assert (second.prediction, second.probability) == (reply.prediction[1], reply.probability[1])
    assert second.max_probability == max(reply.probability[1])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"age": None}, "missing"),
        ({"city": None}, "missing"),
        ({"member": None}, "missing"),
        ({"joined": None}, "missing"),
        ({"city": "Atlantis"}, "unseen_category"),
        ({"plan": 9}, "unseen_category"),
        ({"age": 17.9}, "out_of_range"),
        ({"age": 1e300}, "out_of_range"),
    ],
)
def test_fault_03_a_row_beyond_training_is_answered_with_a_warning(
    server: ModelServer, change: dict[str, Any], code: str
) -> None:
    reply = server.predict(body(sample_row(), sample_row(**change)), "r")
    assert msgspec.to_builtins(reply.warnings) == [{"row": 1, "field": next(iter(change)), "code": code}]


def test_the_ends_of_the_trained_range_are_inside_it(server: ModelServer) -> None:
    reply = server.predict(body(sample_row(age=18), sample_row(age=80.0, joined="2031-01-01")), "r")
    assert reply.warnings is msgspec.UNSET


def test_without_a_model_nothing_is_answered(tmp_path: Path) -> None:
    with pytest.raises(NoModelError):
        ModelServer(PredictionLog(tmp_path)).predict(body(sample_row()), "r")


def test_an_answer_that_cannot_be_logged_is_not_given(model: ServedModel) -> None:
    server = ModelServer(PredictionLog(Path("/dev/null/logs")))
    server.serve(model)
    with pytest.raises(LogError):
        server.predict(body(sample_row()), "r")


# Loading


def test_a_planned_bundle_loads_and_answers(tmp_path: Path) -> None:
    digest = sample_bundle(tmp_path / "7")
    loaded = load_model(tmp_path, PlannedBundle(version="7", manifest_sha256=digest), 10)
    assert len(loaded.score([sample_row()]).probability[0]) == 2


def test_a_bundle_whose_answers_are_not_those_stored_is_refused(tmp_path: Path) -> None:
    digest = sample_bundle(tmp_path / "7", model=sample_model(seed=1))
    with pytest.raises(BundleError, match="differ"):
        load_model(tmp_path, PlannedBundle(version="7", manifest_sha256=digest), 10)


@pytest.mark.parametrize("version", ["../7", "..", ".", "", "/7", "7/", "7\n", "7\0", "7" * 65, "seven/../7"])
def test_a_version_cannot_lead_out_of_the_registry(tmp_path: Path, version: str) -> None:
    """Nor name the registry itself, nor what no log line can hold."""
    digest = sample_bundle(tmp_path / "7")
    (tmp_path / "registry").mkdir()
    with pytest.raises(BundleError, match="no name"):
        load_model(tmp_path / "registry", PlannedBundle(version=version, manifest_sha256=digest), 10)


def test_model_info_tells_what_a_request_must_hold_and_nothing_of_the_host(model: ServedModel) -> None:
    info = msgspec.json.decode(model.info)
    features = {feature["name"]: feature for feature in info["schema"]["features"]}
    assert (info["model_name"], info["registered_name"], info["version"]) == (
        "logistic_regression",
        "production_model",
        "1",
    )
    assert features["age"] == {"name": "age", "kind": "numeric", "nullable": True, "integer": True, "range": [18, 80]}
    assert features["city"]["categories"] == ["Berlin", "Köln", "Ulm"]
    assert features["visits"]["nullable"] is False
    assert features["joined"]["range"] == ["2017-07-14T02:40:00Z", "2020-09-13T12:26:40Z"]
    assert b"secret" not in model.info


# Strictness


def test_a_row_is_decoded_in_the_order_of_the_schema() -> None:
    row = dict(reversed(sample_row().items()))
    (decoded,) = rows_of(DECODER.records(msgspec.json.encode(row)))
    assert tuple(decoded) == SAMPLE_SCHEMA.feature_names


def test_columns_that_training_left_out_are_accepted_and_ignored() -> None:
    records = DECODER.records(body(sample_row(remark={"any": ["thing"]}, **{"customer id": 7})))
    assert rows_of(records) == [sample_row()]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"age": "41"}, Fault("$[0].age", "expected a finite number or null", "string")),
        ({"age": True}, Fault("$[0].age", "expected a finite number or null", "boolean")),
        ({"city": 3}, Fault("$[0].city", "expected text or null", "number")),
        ({"plan": "2"}, Fault("$[0].plan", "expected a whole number or null", "string")),
        ({"plan": 2.5}, Fault("$[0].plan", "expected a whole number or null", "number")),
        ({"member": 1}, Fault("$[0].member", "expected true or false or null", "number")),
        ({"joined": "soon"}, Fault("$[0].joined", "expected an ISO 8601 date or time as text or null", "string")),
        ({"joined": 1.5e9}, Fault("$[0].joined", "expected an ISO 8601 date or time as text or null", "number")),
        ({"visits": None}, Fault("$[0].visits", "expected a finite number", "null")),
        ({"Culmen Length (mm)": []}, Fault('$[0]["Culmen Length (mm)"]', "expected a finite number or null", "array")),
        ({"zz": {}}, Fault("$[0].zz", "unknown field", "object")),
        ({"churned": "yes"}, Fault("$[0].churned", "the target is not sent", "string")),
    ],
)
def test_a_value_that_breaks_a_rule_is_named_by_path(change: dict[str, Any], expected: Fault) -> None:
    assert faults_of([sample_row(**change)]) == [expected]


def test_an_absent_field_is_refused() -> None:
    row = sample_row()
    del row["age"]
    assert faults_of(row) == [Fault("$.age", "required field", "absent")]


def test_every_fault_of_every_row_is_named_up_to_a_bound() -> None:
    assert [fault.path for fault in faults_of([sample_row(age="x", zz=1), sample_row(city=1)])] == [
        "$[0].age",
        "$[0].zz",
        "$[1].city",
    ]
    assert len(faults_of([{}] * 50)) == MAX_FAULTS


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 400, b"1" + b"0" * 5000])
def test_a_number_beyond_all_floats_is_refused(number: bytes) -> None:
    text = msgspec.json.encode(sample_row(age=-4711)).replace(b"-4711", number)
    (fault,) = faults_of(text)
    assert (fault.path, fault.got, fault.rule) == ("$.age", "number", "expected a finite number or null")


def test_a_number_of_thousands_of_digits_is_named_by_its_path_whatever_the_name() -> None:
    row = sample_row(**{"Culmen Length (mm)": -4711})
    (fault,) = faults_of(msgspec.json.encode([row]).replace(b"-4711", b"1" + b"0" * 5000))
    assert fault == Fault('$[0]["Culmen Length (mm)"]', "expected a finite number or null", "number")


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"[1,]", b"nonsense", b"\xff", b'"\xff"', b"{} {}", b'{"age": NaN}', b'{"age": Infinity}'),
        *(b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000),
    ],
)
def test_what_is_no_json_is_told_from_what_is_invalid(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        DECODER.records(text)


@pytest.mark.parametrize("text", [b"[]", b"3", b"null", b'"text"', b"[[]]", b"[3]"])
def test_what_is_neither_an_object_nor_a_list_of_objects_is_refused(text: bytes) -> None:
    (fault,) = faults_of(text)
    assert fault.path in ("$", "$[0]")


def test_of_a_repeated_key_the_last_one_counts() -> None:
    text = msgspec.json.encode(sample_row())[:-1] + b',"age":20}'
    assert rows_of(DECODER.records(text))[0]["age"] == 20


@pytest.mark.parametrize("wrong", [b'"x"', b"true", b"[]", b"1e999", b"1" + b"0" * 400])
def test_what_a_repeated_key_held_before_does_not_matter(wrong: bytes) -> None:
    text = b'[{"age":' + wrong + b',"remark":[],' + msgspec.json.encode(sample_row())[1:] + b"]"
    assert rows_of(DECODER.records(text)) == [sample_row()]


def test_escaped_names_are_the_same_names() -> None:
    text = msgspec.json.encode(sample_row()).replace(b"Culmen", b"\\u0043ulmen")
    assert rows_of(DECODER.records(text)) == [sample_row()]


@pytest.mark.parametrize("row", [sample_row(), {}])
def test_fault_20_more_rows_than_the_configured_number_are_refused(row: dict[str, Any]) -> None:
    assert len(DECODER.records(body(*[sample_row()] * 100))) == 100
    with pytest.raises(TooManyRowsError, match="100"):
        DECODER.records(body(*[row] * 101))


def test_of_a_large_body_the_first_fault_is_named_without_decoding_the_rest() -> None:
    tracemalloc.start()
    (fault,) = faults_of(b"[" + b"{}," * 2_000_000 + b"{}]")
    (other,) = faults_of(body(sample_row(), sample_row(age="x", remark="long" * 2**20)))
    (unknown,) = faults_of(body(sample_row(zz="long" * 2**20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fault == Fault("$[0].age", "required field", "absent")
    assert other == Fault("$[1].age", "expected a finite number or null", "string")
    assert (unknown.path, unknown.rule) == ("$[0].zz", "unknown field")
    assert peak < 50 * 2**20


def test_a_fault_never_shows_a_value() -> None:
    text = repr(faults_of(sample_row(age="secret-1", city=987654, zz="secret-2", joined="secret-3")))
    assert "secret" not in text and "987654" not in text


def test_a_very_long_name_is_cut() -> None:
    (fault,) = faults_of(sample_row(**{"n" * 10_000: 1}))
    assert len(fault.path) < 200


ODD_NAMES = (
    'say "hi"',
    "back\\slash",
    "new\nline",
    "naïve café",
    "日本",
    "",
    "class",
    "a.b",
    "f0",
    "x0",
    "$",
    "f0 ",
    "'",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_can_be_a_feature(name: str) -> None:
    schema = _schema_of(Feature(name=name, kind="numeric"), Feature(name="plain", kind="boolean"))
    assert rows_of(RowDecoder(schema, 10).records(body({"plain": True, name: 1}))) == [{name: 1.0, "plain": True}]
    (fault,) = faults_of({name: "1", "plain": True}, schema)
    assert fault.rule == "expected a finite number or null"


def _schema_of(*features: Feature) -> Schema:
    return Schema(target="y", classes=("a", "b"), features=features, ignored=(Ignored(name="id", reason="identifier"),))


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    *(st.sampled_from(["2024-02-30", "2024-02-29", "2024-02-29T25:00", "Berlin"]), st.lists(st.integers(), max_size=2)),
)
ROWS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys([*SAMPLE_SCHEMA.feature_names, "churned", "remark", "zz"], VALUES)
)


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(ROWS, max_size=3), drop=st.booleans())
def test_the_strict_pass_and_the_plain_rules_agree(changes: list[dict[str, Any]], drop: bool) -> None:
    document = [change if drop else sample_row() | change for change in changes]
    faults = collect_faults(SAMPLE_SCHEMA, document)
    if faults:
        assert faults_of(document) == faults
        return
    plain = RowDecoder(SAMPLE_SCHEMA, max_rows=100)
    plain._strict = None
    strict = rows_of(DECODER.records(msgspec.json.encode(document)))
    assert strict == plain.records(msgspec.json.encode(document))
    assert all(value is None or not isinstance(value, float) or math.isfinite(value) for value in strict[0].values())


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_body_ends_in_anything_but_rows_or_a_refusal(text: bytes) -> None:
    with pytest.raises(RequestError):
        DECODER.records(text)
