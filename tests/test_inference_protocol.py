"""The Open Inference Protocol v2: `tritonclient` against a listening server, and what a request may get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.tensors import datatype_of
from tests.bundles import SAMPLE_SCHEMA, random_rows, sample_row, serve_sample
from tests.live_server import listening
from tests.log_reading import logged_lines
from tests.test_api_routes import look, make_app

ROWS = [*random_rows(3), sample_row(city="Wien")]
INFER = "/v2/models/production_model/infer"
NUMPY = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    serve_sample(tmp_path / "registry")
    client = make_app(tmp_path, max_prediction_batch_size=5).test_client()
    look(client)
    return client


@pytest.fixture
def triton(client: FlaskClient) -> Iterator[Any]:
    http = pytest.importorskip("tritonclient.http")
    with listening(client.application) as port, http.InferenceServerClient(f"127.0.0.1:{port}") as connection:
        yield connection


def triton_inputs(rows: list[dict[str, Any]], *, binary: bool, **datatypes: str) -> list[Any]:
    from tritonclient.http import InferInput  # type: ignore[import-untyped]

    inputs = []
    for feature in SAMPLE_SCHEMA.features:
        datatype = datatypes.get(feature.name, datatype_of(feature))
        values: Any = np.array([row[feature.name] for row in rows], dtype=NUMPY.get(datatype, np.object_))
        tensor = InferInput(feature.name, [len(rows), 1], datatype)
        inputs.append(tensor.set_data_from_numpy(values.reshape(-1, 1), binary_data=binary))
    return inputs


def tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": feature.name,
            "datatype": datatype_of(feature),
            "shape": [len(rows)],
            "data": [row[feature.name] for row in rows],
        }
        for feature in SAMPLE_SCHEMA.features
    ]


def infer(client: FlaskClient, **body: Any) -> TestResponse:
    return client.post(INFER, json={"inputs": tensors(ROWS)} | body)


def refused(reply: TestResponse, status: int, *words: str) -> None:
    """An error in the protocol's shape, whose text holds the words."""
    assert (reply.status_code, reply.content_type) == (status, "application/json")
    error = reply.get_json()
    assert list(error) == ["error"]
    assert all(word in error["error"] for word in words), error


# The real client


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_reads_the_answers_of_predict_which_are_logged_alike(
    client: FlaskClient, triton: Any, tmp_path: Path, binary: bool
) -> None:
    expected = client.post("/predict", json=ROWS).get_json()
    result = triton.infer("production_model", triton_inputs(ROWS, binary=binary), request_id="mine")
    assert [text.decode() for text in result.as_numpy("prediction")] == expected["prediction"]
    assert np.abs(result.as_numpy("probability") - expected["probability"]).max() <= 1e-6
    told = result.get_response()
    assert (told["id"], told["model_version"]) == ("mine", "1")
    assert msgspec.json.decode(told["parameters"]["classes"]) == expected["classes"]
    assert msgspec.json.decode(told["parameters"]["warnings"]) == expected["warnings"]
    lines = logged_lines(tmp_path / "logs")
    ids = [text.decode() for text in result.as_numpy("prediction_id")]
    assert [line.prediction_id for line in lines] == expected["prediction_id"] + ids
    assert [line.input_data for line in lines[:4]] == [line.input_data for line in lines[4:]]


def test_tritonclient_gets_the_outputs_it_names_in_the_form_it_names(client: FlaskClient, triton: Any) -> None:
    from tritonclient.http import InferRequestedOutput

    wanted = [InferRequestedOutput("probability"), InferRequestedOutput("prediction", binary_data=False)]
    result = triton.infer("production_model", triton_inputs(ROWS, binary=True), model_version="1", outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["probability", "prediction"]
    expected = client.post("/predict", json=ROWS).get_json()
    assert list(result.as_numpy("prediction")) == expected["prediction"]
    assert np.array_equal(result.as_numpy("probability"), expected["probability"])


def test_tritonclient_may_send_other_widths_and_a_nan_as_missing(client: FlaskClient, triton: Any) -> None:
    rows = [sample_row(age=np.nan, visits=7.0)]
    datatypes = {"age": "FP32", "visits": "FP32", "plan": "INT32"}
    result = triton.infer("production_model", triton_inputs(rows, binary=True, **datatypes))
    expected = client.post("/predict", json=sample_row(age=None, visits=7.0)).get_json()
    assert np.abs(result.as_numpy("probability") - expected["probability"]).max() <= 1e-6
    assert msgspec.json.decode(result.get_response()["parameters"]["warnings"]) == expected["warnings"]


def test_tritonclient_sees_health_and_metadata(triton: Any) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("production_model") and triton.is_model_ready("production_model", "1")
    assert not triton.is_model_ready("production_model", "2") and not triton.is_model_ready("other")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    described = triton.get_model_metadata("production_model", "1")
    assert described["versions"] == ["1"]
    assert {tensor["name"]: tensor["datatype"] for tensor in described["inputs"]} == {
        feature.name: datatype_of(feature) for feature in SAMPLE_SCHEMA.features
    }
    assert [tensor["shape"] for tensor in described["outputs"]] == [[-1], [-1, 2], [-1]]


def test_tritonclient_understands_a_refusal(triton: Any) -> None:
    from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

    with pytest.raises(InferenceServerException, match=r"\$\.inputs\.visits: required field") as error:
        triton.infer("production_model", triton_inputs(ROWS, binary=True)[:-1])
    assert error.value.status() == "422"


# JSON


def test_nulls_and_nested_data_are_taken_and_ignored_columns_too(client: FlaskClient) -> None:
    inputs = [tensor | {"shape": [4, 1], "data": [[value] for value in tensor["data"]]} for tensor in tensors(ROWS)]
    inputs[0]["data"] = [None] * 4
    inputs.append({"name": "remark", "datatype": "BYTES", "shape": [4], "data": ["x"] * 4})
    expected = client.post("/predict", json=[row | {"age": None} for row in ROWS]).get_json()
    reply = infer(client, inputs=inputs).get_json()
    assert reply["outputs"][1]["data"] == [value for row in expected["probability"] for value in row]
    assert msgspec.json.decode(reply["parameters"]["warnings"]) == expected["warnings"]


def changed(index: int, **changes: Any) -> dict[str, Any]:
    inputs = tensors(ROWS)
    inputs[index] |= changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...} for tensor in inputs]}


AGE, CITY, PLAN, VISITS = 0, 2, 3, 6
REFUSALS: list[tuple[Any, ...]] = [
    ({"inputs": []}, "$.inputs.age", "required field"),
    ({"inputs": tensors(ROWS)[1:]}, "$.inputs.age", "required field"),
    ({"inputs": [*tensors(ROWS), tensors(ROWS)[0]]}, "$.inputs[7].name", "once"),
    ({"inputs": [*tensors(ROWS), tensors(ROWS)[0] | {"name": "zz"}]}, "$.inputs.zz", "unknown field"),
    ({"inputs": [*tensors(ROWS), tensors(ROWS)[0] | {"name": "churned"}]}, "$.inputs.churned", "target"),
    ({"inputs": tensors([])}, "at least one row"),
    ({"inputs": 1}, "$.inputs", "got number"),
    ({"output": []}, "unknown field"),
    ({"outputs": [{"name": "zz"}]}, "$.outputs[0].name", "prediction"),
    ({"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]}, "classification"),
    ({"parameters": {"sequence_id": 1}}, "sequence_id"),
    (changed(AGE, datatype="BYTES"), "$.inputs[0].datatype", "FP64", "age"),
    (changed(AGE, datatype="BF16"), "$.inputs[0].datatype", "FP64"),
    (changed(PLAN, datatype="FP64"), "$.inputs[3].datatype", "an INT"),
    (changed(AGE, shape=[2, 2]), "$.inputs[0].shape", "[rows, 1]"),
    (changed(AGE, shape=[]), "$.inputs[0].shape"),
    (changed(AGE, shape=[-4]), "$.inputs[0].shape", "got number"),
    (changed(AGE, shape=[3]), "$.inputs[0].data", "3 values"),
    (changed(AGE, shape=[1], data=[1]), "as in the first column"),
    (changed(AGE, data=...), "$.inputs[0].data", "absent"),
    (changed(AGE, data=["x"] * 4), "$[0].age", "finite number"),
    (changed(AGE, datatype="INT64", data=[1.5] * 4), "$.inputs[0].data", "whole numbers"),
    (changed(CITY, data=[1] * 4), "$[0].city", "text"),
    (changed(VISITS, data=[None] * 4), "$[0].visits", "finite number"),
    (changed(AGE, parameters={"shared_memory_region": "r"}), "shared_memory_region", "not support"),
    (changed(AGE, parameters={"binary_data_size": 8}), "either data or"),
    (changed(AGE, data=..., parameters={"binary_data_size": -8}), "number of bytes"),
    (changed(AGE, data=..., parameters={"binary_data_size": 32}), "32 bytes"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: " ".join(case[1:]))
def test_what_does_not_fit_is_refused_by_name(client: FlaskClient, case: tuple[Any, ...]) -> None:
    body, *words = case
    refused(infer(client, **body), 422, *words)


def raw(client: FlaskClient, tail: bytes, size: int, length: str | None = None, **changes: Any) -> TestResponse:
    body = changed(AGE, data=..., parameters={"binary_data_size": size}, **changes)
    head = msgspec.json.encode(body)
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    return client.post(INFER, data=head + tail, headers=headers)


def test_raw_tensors_must_be_as_long_as_they_say(client: FlaskClient) -> None:
    ages = np.array([41.0] * 4).tobytes()
    assert raw(client, ages, 32).status_code == 200
    for tail, size in ((ages[:-1], 32), (ages + b"x", 32), (ages, 31), (b"", 0)):
        refused(raw(client, tail, size), 422, "bytes")
    for length in ("x", "-1", "999999", "9" * 5000):
        refused(raw(client, ages, 32, length), 400, "Inference-Header-Content-Length")


def test_an_infinite_raw_float_is_refused_by_name(client: FlaskClient) -> None:
    refused(raw(client, np.array([np.inf] * 4).tobytes(), 32), 422, "$[0].age", "finite")


@pytest.mark.parametrize("text", [b"\xff\xff\xff\xff", b"\x01\0\0\0\xff", b"\x09\0\0\0x", b"\x01"])
def test_raw_texts_must_hold_together(client: FlaskClient, text: bytes) -> None:
    remark = {"name": "remark", "datatype": "BYTES", "shape": [4], "parameters": {"binary_data_size": len(text)}}
    head = msgspec.json.encode({"inputs": [*tensors(ROWS), remark]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    refused(client.post(INFER, data=head + text, headers=headers), 422, "$.inputs[7]")


# HTTP


def test_other_names_and_versions_are_not_found(client: FlaskClient) -> None:
    body = {"inputs": tensors(ROWS)}
    refused(client.post("/v2/models/other/infer", json=body), 404, "registered_name")
    refused(client.post("/v2/models/production_model/versions/2/infer", json=body), 404, "not in service")
    refused(client.get("/v2/models/other"), 404, "registered_name")
    refused(client.get("/v2/nothing"), 404)
    refused(client.get(INFER), 405)


def test_a_web_page_cannot_send_a_body_without_a_type(client: FlaskClient) -> None:
    body = msgspec.json.encode({"inputs": tensors(ROWS)})
    assert client.post(INFER, data=body).status_code == 200
    refused(client.post(INFER, data=body, headers={"Origin": "https://evil.example"}), 415)
    refused(client.post(INFER, data=body, content_type="text/plain"), 415)


def test_bad_json_too_many_rows_and_a_foreign_host_have_the_shape_too(client: FlaskClient) -> None:
    refused(client.post(INFER, data=b"{"), 400)
    refused(infer(client, inputs=tensors([sample_row()] * 6)), 413, "5 rows")
    refused(client.get("/v2", headers={"Host": "evil.example"}), 403)


def test_without_a_model_it_is_live_and_not_ready(tmp_path: Path) -> None:
    client = make_app(tmp_path).test_client()
    assert client.get("/v2/health/live").get_json() == {"live": True}
    for reply in (client.get("/v2/health/ready"), client.get("/v2/models/production_model/ready"), infer(client)):
        refused(reply, 503)
        assert reply.headers["Retry-After"]
