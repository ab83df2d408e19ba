"""A bundle that answers: the encoder and an ONNX session, checked against the answers stored with the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.encoding import Encoder, Matrix
from models.raw_rows import raw_columns

TOLERANCE = 1e-5
#: `location` as the key of a tensor's external data, in protobuf's wire format.
_EXTERNAL_DATA = b"\x0a\x08location\x12"

Probabilities = NDArray[np.float32]


class OnnxSession:
    """One ONNX model, from bytes alone: no file beside it is read and no operator of an unknown domain runs.

    Raises `BundleError` when the model is refused.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        import onnxruntime

        if _EXTERNAL_DATA in model:
            raise BundleError("model.onnx refers to data outside itself")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, sess_options=options, providers=["CPUExecutionProvider"]
            )
            self._input: str = self._session.get_inputs()[0].name
        except Exception as error:  # onnxruntime's errors share no base class
            raise BundleError(f"model.onnx cannot be loaded: {str(error).splitlines()[0]}") from None

    def run(self, matrix: Matrix) -> Probabilities:
        """Class probabilities, (rows, classes), of an encoded matrix."""
        answer: Probabilities = self._session.run(None, {self._input: matrix})[0]
        return answer


class ModelRuntime:
    """One loaded model version; immutable, safe to share between threads."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self.manifest_sha256 = bundle.manifest_sha256
        self.schema = bundle.schema
        self.encoder = Encoder(bundle.schema)
        self._session = OnnxSession(bundle.model, threads)
        self._checks = bundle.checks

    def probabilities(self, matrix: Matrix) -> Probabilities:
        return self._session.run(matrix)

    def check(self) -> None:
        """Answers the stored rows again; raises `BundleError` unless each answer is within 1e-5 of the stored one."""
        expected = np.array(self._checks.probability, dtype=np.float64)
        if not len(expected):
            raise BundleError("checks.json holds no rows")
        try:
            matrix = self.encoder.encode(raw_columns(self.schema, self._checks.rows))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"checks.json does not fit schema.json: {error}") from None
        answers = self.probabilities(matrix)
        if answers.shape != expected.shape or answers.shape[1] != len(self.schema.classes):
            raise BundleError(
                f"the model answers {answers.shape[1]} classes, the schema has {len(self.schema.classes)}"
            )
        worst = float(np.max(np.abs(answers - expected)))
        if not worst <= TOLERANCE:
            raise BundleError(f"the model's answers differ from the stored ones by {worst:.2g}")
