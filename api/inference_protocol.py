"""The Open Inference Protocol v2 under `/v2`: a thin shell around the core.

Validation and log are those of `/predict`. Each feature is an input by its name; the outputs are `prediction`,
`probability` and `prediction_id`. Errors have the protocol's shape, `{"error": "…"}`, and the status that `/predict`
would give.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from flask import Blueprint, Response, g, request
from msgspec import UNSET, Struct, UnsetType

from api.column_rows import rows_of_columns
from api.error_shapes import reshape, sentence
from api.errors import RefusedError
from api.faults import Fault
from api.model_server import Reply, ServedModel
from api.requests import JSON_TYPE, plain_body
from api.routes import json_response, not_ready, services
from api.row_decoder import InvalidRowsError, NotJsonError
from api.struct_faults import struct_fault
from api.tensors import (
    REFUSED_PARAMETERS,
    InferRequest,
    OutputTensor,
    columns_of,
    datatype_of,
    datatype_of_classes,
    packed,
)
from config import product

OUTPUTS = ("prediction", "probability", "prediction_id")
JSON_LENGTH = "Inference-Header-Content-Length"
BINARY_TYPE = "application/octet-stream"
inference_protocol = Blueprint("inference_protocol", __name__, url_prefix="/v2")


class Answer(Struct, frozen=True, kw_only=True):
    """`parameters` hold what no tensor can, as JSON text: the classes that a row of `probability` runs parallel to,
    and the warnings."""

    model_name: str
    model_version: str
    id: str | UnsetType = UNSET
    parameters: dict[str, str]
    outputs: list[OutputTensor]


class ProtocolError(Struct, frozen=True):
    error: str


@inference_protocol.get("")
def server_metadata() -> Response:
    return json_response({"name": product.NAME, "version": product.VERSION, "extensions": ["binary_tensor_data"]})


@inference_protocol.get("/health/live")
def live() -> Response:
    return json_response({"live": True})


@inference_protocol.get("/health/ready")
def ready() -> Response:
    core = services()
    if core.server.served is None:
        return not_ready(core)
    return json_response({"ready": True})


@inference_protocol.get("/models/<name>")
@inference_protocol.get("/models/<name>/versions/<version>")
def model_metadata(name: str, version: str | None = None) -> Response:
    model = _model(name, version)
    classes = model.schema.classes
    described = {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnx_onnxv1",
        "inputs": [_described(feature.name, datatype_of(feature), -1) for feature in model.schema.features],
        "outputs": [
            _described("prediction", datatype_of_classes(classes), -1),
            _described("probability", "FP64", -1, len(classes)),
            _described("prediction_id", "BYTES", -1),
        ],
        "parameters": {"classes": _text(classes)},
    }
    return json_response(described)


@inference_protocol.get("/models/<name>/ready")
@inference_protocol.get("/models/<name>/versions/<version>/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    return json_response({"name": _model(name, version).name, "ready": True})


@inference_protocol.post("/models/<name>/infer")
@inference_protocol.post("/models/<name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    started = time.perf_counter()
    model = _model(name, version)
    asked, raw = _request_of(model, _body())
    rows = model.decoder.validate(rows_of_columns(model.schema, columns_of(model.schema, asked, raw), "$.inputs"))
    binary = _binary_outputs(asked)
    return _response(asked, binary, services().server.answer(model, rows, g.request_id, started))


@inference_protocol.after_app_request
def in_the_protocols_words(response: Response) -> Response:
    under = request.path == "/v2" or request.path.startswith("/v2/")
    return reshape(response, lambda found: ProtocolError(sentence(found))) if under else response


def _model(name: str, version: str | None) -> ServedModel:
    model = services().server.current()
    if name != model.name:
        raise RefusedError(
            404, "no-such-model", "there is no model of this name; /model_info has it as registered_name"
        )
    if version not in (None, model.version):
        raise RefusedError(404, "no-such-version", "this version is not in service; /model_info says which one is")
    return model


def _body() -> bytes:
    """The body. The protocol's own clients send no content type; a web page of another origin cannot leave it out."""
    if request.mimetype not in ("", JSON_TYPE, BINARY_TYPE) or (not request.mimetype and "Origin" in request.headers):
        raise RefusedError(415, "not-json-type", f"send Content-Type: {JSON_TYPE}, or {BINARY_TYPE} with raw tensors")
    return plain_body(request, services().settings.deployment.max_request_bytes)


def _request_of(model: ServedModel, body: bytes) -> tuple[InferRequest, bytes]:
    """The JSON of a request, and the raw tensors behind it."""
    length = request.headers.get(JSON_LENGTH, str(len(body)))
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= len(body)):
        raise NotJsonError(f"{JSON_LENGTH} is no length within the body")
    end = int(length)
    document = model.decoder.document(body[:end])
    try:
        asked = msgspec.convert(document, InferRequest)
    except msgspec.ValidationError as error:
        raise InvalidRowsError([struct_fault(error)]) from None
    return asked, body[end:]


def _binary_outputs(asked: InferRequest) -> dict[str, bool]:
    """Names of the outputs in the order asked for, and whether each is sent raw."""
    default = asked.parameters.get("binary_data_output") is True
    wanted: dict[str, bool] = {}
    for name in REFUSED_PARAMETERS:
        if name in asked.parameters:
            raise InvalidRowsError([Fault(f"$.parameters.{name}", "this server does not support it", "object")])
    for index, output in enumerate(asked.outputs):
        path = f"$.outputs[{index}]"
        if output.name not in OUTPUTS:
            raise InvalidRowsError([Fault(f"{path}.name", f"expected one of {', '.join(OUTPUTS)}", "string")])
        for name in REFUSED_PARAMETERS:
            if name in output.parameters:
                raise InvalidRowsError(
                    [Fault(f"{path}.parameters.{name}", "this server does not support it", "object")]
                )
        wanted[output.name] = output.parameters.get("binary_data", default) is True
    return wanted or dict.fromkeys(OUTPUTS, default)


def _response(asked: InferRequest, binary: dict[str, bool], reply: Reply) -> Response:
    outputs, raw = [], b""
    for name, is_binary in binary.items():
        tensor = _output(name, reply)
        if is_binary:
            tensor, data = packed(tensor)
            raw += data
        outputs.append(tensor)
    answer = Answer(
        model_name=reply.model_name,
        model_version=reply.model_version,
        id=asked.id,
        parameters=_parameters(reply),
        outputs=outputs,
    )
    head = msgspec.json.encode(answer)
    if not any(binary.values()):
        return Response(head, content_type=JSON_TYPE)
    return Response(head + raw, headers={JSON_LENGTH: str(len(head))}, content_type=BINARY_TYPE)


def _output(name: str, reply: Reply) -> OutputTensor:
    rows = len(reply.prediction)
    if name == "probability":
        flat = [value for row in reply.probability for value in row]
        return OutputTensor(name=name, datatype="FP64", shape=[rows, len(reply.classes)], data=flat)
    if name == "prediction_id":
        return OutputTensor(name=name, datatype="BYTES", shape=[rows], data=list(reply.prediction_id))
    datatype = datatype_of_classes(reply.classes)
    labels: list[Any] = [str(label) for label in reply.prediction] if datatype == "BYTES" else list(reply.prediction)
    return OutputTensor(name=name, datatype=datatype, shape=[rows], data=labels)


def _parameters(reply: Reply) -> dict[str, str]:
    shown = {"classes": _text(reply.classes), "timestamp": reply.timestamp.isoformat().replace("+00:00", "Z")}
    return shown if reply.warnings is UNSET else shown | {"warnings": _text(reply.warnings)}


def _described(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
