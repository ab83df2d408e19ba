"""requirements-serving.txt is all that a server needs: installed alone, beside the folders of the server image."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import sample_row, serve_sample
from tests.ports import free_port
from tests.test_server_process import exchange, wait_for

pytestmark = pytest.mark.integration
PROJECT = Path(__file__).resolve().parent.parent
#: python:3.11-slim has 130 MB; the image is to stay under 350.
MOST_MEGABYTES = 200


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment's, with nothing but the pinned packages, installed as the image installs them."""
    folder = tmp_path_factory.mktemp("serving")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    python = folder / "bin" / "python"
    options = ("--quiet", "--require-hashes", "--only-binary", ":all:", "--no-compile")
    install = (
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        *options,
        "-r",
        str(PROJECT / "requirements-serving.txt"),
    )
    subprocess.run([sys.executable, *install], check=True, timeout=240)
    return python


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the Dockerfile copies into the server's image."""
    stage = (PROJECT / "docker" / "Dockerfile").read_text().partition("AS server\n")[2].partition("\nFROM ")[0]
    folders = re.findall(r"(?m)^COPY (\w+) \1$", stage)
    assert folders == ["config", "models", "monitoring", "api"]
    copy = tmp_path_factory.mktemp("app")
    ignored = shutil.ignore_patterns("__pycache__", "registry")
    for name in folders:
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    return copy


@pytest.fixture
def port(interpreter: Path, source: Path, tmp_path: Path) -> Iterator[int]:
    """Of a server with a bundle; it must end within bounds, and well, when it is told to."""
    serve_sample(tmp_path / "models" / "registry")
    here = free_port()
    variables = {"MLOPS_HOME": str(tmp_path), "MLOPS_DEPLOYMENT__MODEL_SERVE_PORT": str(here)}
    environment = {"PATH": os.environ["PATH"], **variables}
    command = [str(interpreter), "-I", "-m", "gunicorn", "--config", str(source / "config" / "gunicorn.conf.py")]
    with (tmp_path / "output").open("wb") as output:
        server = subprocess.Popen(command, cwd="/", env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: status(here, "/health") == 200 or server.poll() is not None, "the server answers", 60)
        assert server.poll() is None, (tmp_path / "output").read_text()
        yield here
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=15) == 0
    finally:
        server.kill()
        server.wait()


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().status


def test_a_server_answers_with_its_own_requirements_alone(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    wait_for(lambda: status(port, "/ready") == 200, "a model is loaded", 60)
    code, reply = exchange(connection, "POST", "/predict", [sample_row(), sample_row(age=None)])
    assert (code, len(reply["prediction"]), reply["model_version"]) == (200, 2, "1")
    paths = ("/health", "/ready", "/model_info", "/metrics", "/openapi.json", "/docs")
    assert {path: status(port, path) for path in paths} == dict.fromkeys(paths, 200)


def test_a_server_installs_little_and_nothing_that_trains(interpreter: Path) -> None:
    (packages,) = interpreter.parent.parent.glob("lib/python3.*/site-packages")
    found = {path.name.lower() for path in packages.iterdir()}
    assert found & {"pandas", "sklearn", "scipy", "mlflow", "sqlalchemy", "pyarrow", "matplotlib", "onnx"} == set()
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size / 1e6 < MOST_MEGABYTES
