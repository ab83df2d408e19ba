"""A bundle that answers: the encoder and an ONNX session, checked against the answers stored with the model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.encoding import Encoder, Matrix
from models.raw_rows import raw_columns

TOLERANCE = 1e-5
#: `location` as the key of a tensor's external data, in protobuf's wire format.
_EXTERNAL_DATA = b"\x0a\x08location\x12"
#: onnxruntime 1.29 and newer tell their maker of each session, unless this is set before the import.
_NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "1")

Probabilities = NDArray[np.float32]


class OnnxSession:
    """One ONNX model, from bytes alone: no file beside it is read and no operator of an unknown domain runs.

    Raises `BundleError` when the model is refused.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        os.environ.setdefault(*_NO_TELEMETRY)
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
            self._outputs: list[str] = [self._session.get_outputs()[0].name]
        except Exception as error:  # onnxruntime's errors share no base class
            raise BundleError(f"model.onnx cannot be loaded: {str(error).splitlines()[0]}") from None

    def run(self, matrix: Matrix) -> Probabilities:
        """Class probabilities, (rows, classes), of an encoded matrix."""
        answer: Probabilities = self._session.run(self._outputs, {self._input: matrix})[0]
        return answer

    def single(self, width: int, classes: int) -> SingleRun:
        """A run of one row whose input and output are bound once."""
        return SingleRun(self._session, self._input, self._outputs[0], width, classes)


class SingleRun:
    """One row at a time through a session, without making arrays or looking up names; for one thread at a time.

    `row` is the buffer of the `width` float32 cells to fill before `run`.
    """

    def __init__(self, session: Any, source: str, target: str, width: int, classes: int) -> None:
        self._matrix = np.zeros((1, width), dtype=np.float32)
        self._answer = np.zeros((1, classes), dtype=np.float32)
        self.row = memoryview(self._matrix.data).cast("B") if width else memoryview(bytearray())
        self._binding = session.io_binding()
        # The binding keeps addresses, not the arrays: they live as long as this object does.
        self._binding.bind_input(source, "cpu", 0, np.float32, self._matrix.shape, self._matrix.ctypes.data)
        self._binding.bind_output(target, "cpu", 0, np.float32, self._answer.shape, self._answer.ctypes.data)
        self._session = session

    def run(self) -> list[float]:
        """The probabilities of the classes."""
        self._session.run_with_iobinding(self._binding)
        answer: list[float] = self._answer[0].tolist()
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

    def single(self) -> SingleRun:
        """A run of one row at a time, for one thread at a time."""
        return self._session.single(self.encoder.width, len(self.schema.classes))

    def check(self) -> None:
        """Answers the stored rows again, together and one by one; raises `BundleError` unless each answer is within
        1e-5 of the stored one."""
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
        for found in (answers, self._one_by_one(matrix)):
            worst = float(np.max(np.abs(found - expected)))
            if not worst <= TOLERANCE:
                raise BundleError(f"the model's answers differ from the stored ones by {worst:.2g}")

    def _one_by_one(self, matrix: Matrix) -> NDArray[np.float64]:
        single, answers = self.single(), []
        for row in matrix:
            single.row[:] = row.tobytes()
            answers.append(single.run())
        return np.array(answers, dtype=np.float64)
