"""What ingestion must know of a model version to count its rows: the schema, the reference and, where it has one, the
error model of its bundle here.

A version whose bundle is not on this host, or not readable, is unknown: its rows are counted, but not in bins.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple
from numpy.typing import NDArray

from config.errors import ProductError
from models.bundle import ESTIMATOR, REFERENCE, SCHEMA, Manifest, read_manifest, read_verified
from models.encoding import Encoder, RawColumn
from models.error_model import ErrorModel
from models.reference import decode_reference
from models.schema import Feature, Schema
from monitoring.window_profile import Profiler

logger = logging.getLogger(__name__)

_MOST_MODELS = 8
#: How long an unknown version stays so before its bundle is looked for again.
RETRY_SECONDS = 60.0
#: Wider than what the server takes: a hashed value is text, and an older server may have logged anything.
_TYPES: dict[str, Any] = {
    "numeric": float | bool | str | None | UnsetType,
    "boolean": float | bool | str | None | UnsetType,
    "categorical": int | bool | str | None | UnsetType,
    "datetime": str | None | UnsetType,
}
#: Numbers beyond the largest double become infinite here, instead of failing the row.
_PLAIN = msgspec.json.Decoder(float_hook=float)


class KnownModel:
    """One version's schema, profiler and error model, and the fastest way from its logged rows to columns."""

    def __init__(self, schema: Schema, profiler: Profiler, errors: ErrorModel | None = None) -> None:
        self.schema = schema
        self.profiler = profiler
        self._errors = errors
        self._encoder = Encoder(schema)
        self._decoder = _row_decoder(schema.features)

    def columns(self, rows: Sequence[Raw]) -> list[Sequence[Any]]:
        """Logged values by feature, in the schema's order; UNSET where a row does not have the field."""
        if self._decoder is not None:
            try:
                structs = self._decoder.decode_lines(b"\n".join(rows))
                return list(zip(*map(astuple, structs), strict=True))
            except ValueError:
                pass
        return self._plain_columns(rows)

    def estimates(
        self, raw: Sequence[RawColumn | None], probabilities: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """(rows,) chances that each answer is right, NaN where one is not known; None without an error model, or when
        the log withholds a feature or the answers."""
        columns = [column for column in raw if column is not None]
        if self._errors is None or probabilities is None or len(columns) < len(raw) or not columns:
            return None
        return self._errors.estimates(self._encoder.encode(columns), probabilities)

    def _plain_columns(self, rows: Sequence[Raw]) -> list[Sequence[Any]]:
        """The same for names that no struct can carry, and values of types that nobody foresaw."""
        decoded = map(_PLAIN.decode, rows)
        objects = [row if isinstance(row, dict) else {} for row in decoded]
        return [list(map(methodcaller("get", name, UNSET), objects)) for name in self.schema.feature_names]


class KnownModels:
    """The versions that were read lately, by name; a bounded number of them."""

    def __init__(self, registry: Path, seconds: Callable[[], float] = monotonic) -> None:
        self._registry = registry
        self._seconds = seconds
        self._models: OrderedDict[str, KnownModel | float] = OrderedDict()

    def get(self, version: str) -> KnownModel | None:
        found = self._models.get(version)
        if found is None or (isinstance(found, float) and self._seconds() >= found):
            found = self._read(version) or self._seconds() + RETRY_SECONDS
            self._models[version] = found
            if len(self._models) > _MOST_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(version)
        return None if isinstance(found, float) else found

    def _read(self, version: str) -> KnownModel | None:
        if not version or Path(version).name != version:  # a log is no place to take paths from
            return None
        directory = self._registry / version
        try:
            manifest, _ = read_manifest(directory)
            schema = msgspec.json.decode(read_verified(directory, manifest, SCHEMA), type=Schema)
            reference = decode_reference(read_verified(directory, manifest, REFERENCE))
        except (ProductError, msgspec.MsgspecError):
            return None
        same = [feature.name for feature in reference.features] == list(schema.feature_names)
        return KnownModel(schema, Profiler(reference), _error_model(directory, manifest)) if same else None


def _error_model(directory: Path, manifest: Manifest) -> ErrorModel | None:
    """None where the bundle has none, or one that cannot be loaded: its rows are counted all the same."""
    if ESTIMATOR not in manifest.files:
        return None
    try:
        return ErrorModel(read_verified(directory, manifest, ESTIMATOR))
    except ProductError as error:
        logger.warning("rows of version %s get no estimate: %s", directory.name, error)
        return None


def _row_decoder(features: Sequence[Feature]) -> msgspec.json.Decoder[Any] | None:
    """None where a name holds a quote, a backslash or a control character: no field of a struct can carry it."""
    fields = [(f"f{index}", _TYPES[feature.kind], UNSET) for index, feature in enumerate(features)]
    names = {f"f{index}": feature.name for index, feature in enumerate(features)}
    try:
        row: type[Struct] = msgspec.defstruct("LoggedRow", fields, rename=names, gc=False)
    except ValueError:
        return None
    return msgspec.json.Decoder(row)
