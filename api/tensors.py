"""Tensors of the Open Inference Protocol, with its raw form: from a request to columns, from a reply to outputs.

A request's tensor is one column: shape `[rows]` or `[rows, 1]`, values in its `data`, or raw behind the JSON
(little-endian; BYTES as a 4-byte length and the bytes of each value). A null in `data`, or a NaN in raw floats, is a
missing value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from api.column_rows import refuse_any
from api.faults import ABSENT, Fault, has_integer_levels
from api.row_decoder import InvalidRowsError
from models.schema import ClassLabel, Feature, Schema

FLOATS = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2"}
INTEGERS = {f"INT{8 * width}": f"<i{width}" for width in (8, 4, 2, 1)}
INTEGERS |= {f"U{name}": code.replace("i", "u") for name, code in INTEGERS.items()}

RAW_TYPES = FLOATS | INTEGERS | {"BOOL": "u1"}
DATATYPES = (*RAW_TYPES, "BYTES")
#: Parameters that ask for what this server does not do; others are hints, and read over.
REFUSED_PARAMETERS = ("shared_memory_region", "classification", "sequence_id")
Parameters = dict[str, Any]
Size = Annotated[int, Meta(ge=0)]


class Tensor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: Annotated[list[Size], Meta(min_length=1)]
    data: list[Any] | UnsetType = UNSET
    parameters: Parameters = {}


class RequestedOutput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    parameters: Parameters = {}


class InferRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    inputs: list[Tensor]
    outputs: list[RequestedOutput] = []
    id: str | UnsetType = UNSET
    parameters: Parameters = {}


class OutputTensor(Struct, frozen=True, kw_only=True):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | UnsetType = UNSET
    parameters: Parameters | UnsetType = UNSET


def datatype_of(feature: Feature) -> str:
    """The datatype that the model's metadata tells."""
    level = "INT64" if has_integer_levels(feature) else "BYTES"
    return {"numeric": "FP64", "boolean": "BOOL", "datetime": "BYTES"}.get(feature.kind, level)


def datatype_of_classes(classes: Sequence[ClassLabel]) -> str:
    if all(isinstance(label, bool) for label in classes):
        return "BOOL"
    return "INT64" if all(isinstance(label, int) and not isinstance(label, bool) for label in classes) else "BYTES"


def columns_of(schema: Schema, request: InferRequest, raw: bytes) -> dict[str, list[Any]]:
    """The values of each input by name; `raw` is what follows the JSON. Raises `InvalidRowsError`."""
    accepted = {feature.name: _accepted(feature) for feature in schema.features}
    columns: dict[str, list[Any]] = {}
    offset = 0
    for index, tensor in enumerate(request.inputs):
        path = f"$.inputs[{index}]"
        refuse_any(_tensor_faults(tensor, path, accepted.get(tensor.name, DATATYPES), columns))
        size = raw_size(tensor)
        if size is None:
            columns[tensor.name] = _listed(tensor, path)
            continue
        columns[tensor.name] = _unpacked(tensor, raw[offset : offset + size], path)
        offset += size
    if offset != len(raw):
        raise InvalidRowsError([Fault("$", f"expected {offset} bytes of tensors after the JSON", f"{len(raw)} bytes")])
    return columns


def raw_size(tensor: Tensor) -> int | None:
    """Bytes of the tensor behind the JSON; None when its values are in `data`."""
    return cast("int | None", tensor.parameters.get("binary_data_size"))


def packed(tensor: OutputTensor) -> tuple[OutputTensor, bytes]:
    """The output with its data moved behind the JSON."""
    data = cast("list[Any]", tensor.data)
    if tensor.datatype == "BYTES":
        texts = [text.encode() for text in data]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        raw = np.array(data, dtype=RAW_TYPES[tensor.datatype]).tobytes()
    shown = OutputTensor(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, parameters={"binary_data_size": len(raw)}
    )
    return shown, raw


def _accepted(feature: Feature) -> tuple[str, ...]:
    if feature.kind == "numeric":
        return (*FLOATS, *INTEGERS)
    told = datatype_of(feature)
    return tuple(INTEGERS) if told == "INT64" else (told,)


def _tensor_faults(tensor: Tensor, path: str, accepted: Sequence[str], before: dict[str, list[Any]]) -> Iterator[Fault]:
    size = tensor.parameters.get("binary_data_size")
    if tensor.name in before:
        yield Fault(f"{path}.name", "expected each input once", "string")
    if tensor.datatype not in accepted:
        yield Fault(f"{path}.datatype", f"expected {_named(accepted)} for {_shown(tensor)}", "string", tensor.name)
    if math.prod(tensor.shape[1:]) != 1:
        yield Fault(f"{path}.shape", f"expected [rows] or [rows, 1] for {_shown(tensor)}", "array")
    for name in REFUSED_PARAMETERS:
        if name in tensor.parameters:
            yield Fault(f"{path}.parameters.{name}", "this server does not support it", "object")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        yield Fault(f"{path}.parameters.binary_data_size", "expected a number of bytes", "object")
    if (tensor.data is UNSET) == (size is None):
        got = ABSENT if size is None else "array"
        yield Fault(f"{path}.data", "expected either data or parameters.binary_data_size", got)


def _listed(tensor: Tensor, path: str) -> list[Any]:
    """Values from `data`, which may be nested as the shape is."""
    values = cast("list[Any]", tensor.data)
    if len(tensor.shape) > 1:
        values = [_innermost(value, len(tensor.shape) - 1) for value in values]
    if len(values) != tensor.shape[0]:
        raise InvalidRowsError([Fault(f"{path}.data", f"expected {tensor.shape[0]} values, as in shape", "array")])
    if tensor.datatype in INTEGERS and any(isinstance(value, float) for value in values):
        rule = f"expected whole numbers for {tensor.datatype}"
        raise InvalidRowsError([Fault(f"{path}.data", rule, "number", tensor.name)])
    return values


def _innermost(value: Any, depth: int) -> Any:
    while depth and isinstance(value, list) and len(value) == 1:
        value, depth = value[0], depth - 1
    return value


def _unpacked(tensor: Tensor, raw: bytes, path: str) -> list[Any]:
    rows = tensor.shape[0]
    if tensor.datatype == "BYTES":
        texts = list(_texts(raw, path))
        if len(texts) != rows:
            raise InvalidRowsError([Fault(path, f"expected {rows} values, as in shape", f"{len(texts)} values")])
        return texts
    kind = np.dtype(RAW_TYPES[tensor.datatype])
    if len(raw) != kind.itemsize * rows:
        rule = f"expected {kind.itemsize * rows} bytes for {rows} values of {tensor.datatype}"
        raise InvalidRowsError([Fault(path, rule, f"{len(raw)} bytes")])
    values = np.frombuffer(raw, dtype=kind)
    if tensor.datatype == "BOOL":
        return [bool(value) for value in values]
    return [None if value != value else value for value in values.tolist()]  # only a NaN differs from itself


def _texts(raw: bytes, path: str) -> Iterator[str]:
    offset = 0
    while offset < len(raw):
        start = offset + 4
        end = start + int.from_bytes(raw[offset:start], "little")
        if end > len(raw) or start > len(raw):
            raise InvalidRowsError([Fault(path, "expected a 4-byte length and so many bytes for each value", "bytes")])
        try:
            yield raw[start:end].decode()
        except UnicodeDecodeError:
            raise InvalidRowsError([Fault(path, "expected UTF-8 text", "bytes")]) from None
        offset = end


def _named(datatypes: Sequence[str]) -> str:
    shown = [name for name in datatypes if name not in INTEGERS]
    if len(shown) < len(datatypes):
        shown.append("an INT or UINT")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _shown(tensor: Tensor) -> str:
    return f"input {tensor.name[:60]}"
