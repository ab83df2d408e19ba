"""MLflow's scoring protocol: the four JSON forms, MLflow's own client, errors in its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.mlflow_protocol import ERROR_CODES
from tests.bundles import random_rows, sample_row, serve_sample
from tests.live_server import listening
from tests.log_reading import logged_lines
from tests.test_api_routes import look, make_app

ROWS = [*random_rows(3), sample_row(age=None)]


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    serve_sample(tmp_path / "registry")
    client = make_app(tmp_path, max_prediction_batch_size=5).test_client()
    look(client)
    return client


def split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in rows[0]}


FORMS = {
    "dataframe_split": split(ROWS),
    "dataframe_records": ROWS,
    "instances": ROWS,
    "inputs": columns(ROWS),
}


def post(client: FlaskClient, body: Any) -> TestResponse:
    return client.post("/invocations", json=body)


def refused(reply: TestResponse, status: int, *words: str) -> dict[str, Any]:
    """An error in MLflow's shape, whose message holds the words."""
    assert (reply.status_code, reply.content_type) == (status, "application/json")
    error: dict[str, Any] = reply.get_json()
    assert error["error_code"] == ERROR_CODES.get(status, "BAD_REQUEST")
    assert all(word in error["message"] for word in words), error["message"]
    return error


@pytest.mark.parametrize("form", FORMS)
def test_each_form_answers_as_predict_does_and_is_logged_alike(client: FlaskClient, tmp_path: Path, form: str) -> None:
    expected, reply = client.post("/predict", json=ROWS).get_json(), post(client, {form: FORMS[form]}).get_json()
    assert reply["predictions"] == expected["prediction"]
    assert np.abs(np.subtract(reply["probability"], expected["probability"])).max() <= 1e-6
    assert reply["warnings"] == expected["warnings"] == [{"row": 3, "field": "age", "code": "missing"}]
    lines = logged_lines(tmp_path / "logs")
    assert [line.prediction_id for line in lines] == expected["prediction_id"] + reply["prediction_id"]
    assert [line.input_data for line in lines[:4]] == [line.input_data for line in lines[4:]]


def test_inputs_may_be_records_or_one_row(client: FlaskClient) -> None:
    assert len(post(client, {"inputs": ROWS}).get_json()["predictions"]) == 4
    assert len(post(client, {"inputs": sample_row()}).get_json()["predictions"]) == 1


def test_an_index_is_read_over_and_empty_params_ask_for_nothing(client: FlaskClient) -> None:
    body = {"dataframe_split": split(ROWS) | {"index": [7, 8, 9, 10]}, "params": {}}
    assert post(client, body).status_code == 200


def test_mlflows_own_client_reads_the_answers(client: FlaskClient) -> None:
    pandas = pytest.importorskip("pandas")
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    expected = client.post("/predict", json=ROWS[:3]).get_json()["prediction"]
    table = pandas.DataFrame(ROWS[:3]).assign(joined=pandas.Timestamp("2019-05-06T12:00:00Z"))
    with listening(client.application) as port:
        scoring = ScoringServerClient("127.0.0.1", port)
        scoring.wait_server_ready(timeout=5)
        assert scoring.get_version().startswith("3.")
        answers = [scoring.invoke(data) for data in (table, ROWS[:3])]
        with pytest.raises(Exception, match="this model takes no params"):
            scoring.invoke(table, params={"temperature": 1})
    assert [list(answer.get_predictions()[0]) for answer in answers] == [expected, expected]


def test_our_error_codes_are_mlflows_and_mean_the_same_status() -> None:
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS
    from mlflow.protos.databricks_pb2 import ErrorCode

    assert all(name in ErrorCode.keys() for name in ERROR_CODES.values())  # noqa: SIM118
    ours = {name: status for status, name in ERROR_CODES.items() if name != "INVALID_PARAMETER_VALUE"}
    assert {name: ERROR_CODE_TO_HTTP_STATUS.get(name, status) for name, status in ours.items()} == ours


MISSING = [{key: value for key, value in row.items() if key != "city"} for row in ROWS]
REFUSALS = [
    ([], "$:", "dataframe_split"),
    ({}, "$:", "exactly one"),
    ({"instances": ROWS, "inputs": ROWS}, "$:", "exactly one"),
    ({"instances": ROWS, "signature_name": "x"}, "$.signature_name"),
    ({"instances": ROWS, "params": {"a": 1}}, "$.params", "no params"),
    ({"instances": []}, "at least one row"),
    ({"instances": sample_row()}, "$.instances", "a list of objects"),
    ({"instances": [[1, 2]]}, "$[0]", "expected an object"),
    ({"instances": [sample_row(age="41")]}, "$[0].age", "finite number", "string"),
    ({"instances": [sample_row(zz=1)]}, "$[0].zz", "unknown field"),
    ({"instances": [sample_row(churned="no")]}, "$[0].churned", "target"),
    ({"dataframe_records": MISSING}, "$[0].city", "required field"),
    ({"dataframe_split": ROWS}, "$.dataframe_split", "columns and data"),
    ({"dataframe_split": split(MISSING)}, "$.dataframe_split.columns.city", "required field"),
    ({"dataframe_split": {"columns": ["age"]}}, "$.dataframe_split.data"),
    ({"dataframe_split": {"data": [[1]]}}, "$.dataframe_split.columns", "absent"),
    ({"dataframe_split": {"columns": [0], "data": [[1]]}}, "$.dataframe_split.columns", "names"),
    ({"dataframe_split": {"columns": ["age", "age"], "data": [[1, 1]]}}, "each name once"),
    ({"dataframe_split": split(ROWS) | {"data": [[1]]}}, "$.dataframe_split.data[0]", "7 values"),
    ({"dataframe_split": split([sample_row(visits=None)])}, "$[0].visits", "null"),
    ({"inputs": columns(MISSING)}, "$.inputs.city", "required field"),
    ({"inputs": columns(ROWS) | {"age": [1]}}, "4 values"),
    ({"inputs": columns(ROWS) | {"age": 1}}, "$.inputs.age", "one value a row"),
    ({"inputs": columns(ROWS) | {"age": [[1]] * 4}}, "$[0].age", "array"),
    ({"inputs": []}, "at least one row"),
    ({"inputs": {}}, "required field"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: json.dumps(case[0])[:50])
def test_what_does_not_fit_is_refused_by_name(client: FlaskClient, case: tuple[Any, ...]) -> None:
    body, *words = case
    refused(post(client, body), 422, *words)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_and_infinity_are_no_json(client: FlaskClient, value: bytes) -> None:
    body = json.dumps({"instances": [sample_row(age=0.125)]}).encode().replace(b"0.125", value)
    refused(client.post("/invocations", data=body, content_type="application/json"), 400)


def test_a_number_beyond_a_float_is_refused_by_name(client: FlaskClient) -> None:
    body = json.dumps({"instances": [sample_row(age=0.125)]}).encode().replace(b"0.125", b"1e999")
    refused(client.post("/invocations", data=body, content_type="application/json"), 422, "$[0].age")


def test_too_many_rows_another_type_and_a_wrong_method_have_the_shape_too(client: FlaskClient) -> None:
    refused(post(client, {"instances": [sample_row()] * 6}), 413, "5 rows")
    refused(client.post("/invocations", data="age\n41", content_type="text/csv"), 415)
    refused(client.get("/invocations"), 405)


def test_without_a_model_ping_and_invocations_say_503(tmp_path: Path) -> None:
    client = make_app(tmp_path).test_client()
    for reply in (client.get("/ping"), post(client, {"instances": ROWS})):
        refused(reply, 503)
        assert reply.headers["Retry-After"]


def test_a_refusal_before_any_route_has_the_shape_too(client: FlaskClient) -> None:
    refused(client.get("/ping", headers={"Host": "evil.example"}), 403)
