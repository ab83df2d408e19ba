"""A loaded model: what it refuses to load, and the answers that it checks itself by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.bundle import BundleError, read_bundle
from models.raw_rows import raw_columns
from models.runtime import ModelRuntime, OnnxSession
from tests.bundles import random_rows, sample_bundle, sample_model, sample_row

PROJECT = Path(__file__).resolve().parent.parent


def runtime(folder: Path, **changes: bytes) -> ModelRuntime:
    sample_bundle(folder / "1", **changes)  # type: ignore[arg-type]
    return ModelRuntime(read_bundle(folder / "1"))


def checks(rows: list[dict[str, Any]], probability: list[list[float]]) -> bytes:
    return json.dumps({"rows": rows, "probability": probability}).encode()


def test_a_whole_bundle_answers_its_own_rows(tmp_path: Path) -> None:
    model = runtime(tmp_path)
    model.check()
    stored = json.loads((tmp_path / "1" / "checks.json").read_bytes())
    answers = model.probabilities(model.encoder.encode(raw_columns(model.schema, stored["rows"])))
    np.testing.assert_allclose(answers, stored["probability"], atol=1e-5)


def test_answers_are_probabilities_a_row(tmp_path: Path) -> None:
    model = runtime(tmp_path)
    answers = model.probabilities(model.encoder.encode(raw_columns(model.schema, random_rows(50))))
    assert answers.shape == (50, 2)
    assert np.allclose(answers.sum(axis=1), 1.0, atol=1e-6)


def test_no_rows_have_no_answers(tmp_path: Path) -> None:
    model = runtime(tmp_path)
    assert model.probabilities(np.empty((0, model.encoder.width), dtype=np.float32)).shape == (0, 2)


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (checks([sample_row()], [[0.123, 0.877]]), "differ from the stored ones"),
        (checks([sample_row()], [[0.2, 0.3, 0.5]]), "answers 2 classes"),
        (checks([{"age": 3}], [[0.5, 0.5]]), r"checks\.json does not fit schema\.json"),
        (checks([sample_row(joined="tomorrow")], [[0.5, 0.5]]), r"checks\.json does not fit schema\.json"),
        (checks([], []), r"checks\.json holds no rows"),
    ],
)
def test_a_model_whose_answers_are_not_the_stored_ones_is_refused(tmp_path: Path, stored: bytes, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        runtime(tmp_path, checks=stored).check()


@pytest.mark.parametrize("content", [b"", b"no model", sample_model()[:-40]])
def test_what_is_no_model_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded: [^\n]+$"):
        OnnxSession(content)


def graph(operator: str, domain: str = "") -> onnx.ModelProto:
    node = helper.make_node(operator, ["X"], ["probabilities"], domain=domain)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("X", "probabilities")]
    opsets = [helper.make_opsetid("", 15), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=opsets, ir_version=8)


def test_an_operator_of_an_unknown_domain_is_refused() -> None:
    OnnxSession(graph("Relu").SerializeToString())
    with pytest.raises(BundleError, match="cannot be loaded"):
        OnnxSession(graph("Run", "somebody.else").SerializeToString())


def test_data_outside_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stands where the model says, and is not read all the same."""
    tensor = helper.make_tensor("W", TensorProto.FLOAT, [2], np.zeros(2, dtype=np.float32).tobytes(), raw=True)
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    model = graph("Relu")
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["X", "W"], ["probabilities"]))
    model.graph.initializer.append(tensor)
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="refers to data outside itself"):
        OnnxSession(model.SerializeToString())


def test_onnxruntime_tells_its_maker_nothing(tmp_path: Path) -> None:
    """It sends what it does over the network, and leaves an identifier in the home folder, unless it is told not to."""
    program = "import sys; from models.runtime import OnnxSession; OnnxSession(open(sys.argv[1], 'rb').read())"
    (tmp_path / "model.onnx").write_bytes(sample_model())
    (tmp_path / "home").mkdir()
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    home = {name: str(tmp_path / "home") for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    subprocess.run(command, env=environment | home, cwd=PROJECT, check=True, timeout=60)
    assert list((tmp_path / "home").rglob("*")) == []
