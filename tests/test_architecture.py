"""The floors hold, and importing a module does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
FOLDERS = ("config", "models", "monitoring", "pipeline", "api", "commands")
SCRIPTS = ("main.py", "generate_sample_data.py", "test_api.py")
#: Written to be run by another program (gunicorn, alembic), which hands them their context.
RUN_BY_OTHERS = {"config/gunicorn.conf.py", "monitoring/migrations/env.py"}
HEAVY = ("pandas", "sklearn", "mlflow", "matplotlib", "pyarrow", "skl2onnx")


def source_files() -> list[Path]:
    files = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]
    return [path for path in files if str(path.relative_to(PROJECT)) not in RUN_BY_OTHERS and path.stem.isidentifier()]


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, in and with an empty state root."""
    environment = os.environ | {"MLOPS_HOME": str(home), "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home, env=environment, timeout=240
    )


def test_no_floor_reaches_up() -> None:
    linted = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert linted.returncode == 0, linted.stdout


def test_importing_everything_makes_no_file_thread_connection_or_log_handler(home: Path) -> None:
    names = [module_name(path) for path in source_files()]
    looked = python(
        f"""
import importlib, logging, socket, threading
socket.socket.connect = None  # a connection would raise
for name in {names!r}:
    handlers, threads = list(logging.getLogger().handlers), threading.active_count()
    importlib.import_module(name)
    assert logging.getLogger().handlers == handlers, f"{{name}} sets logging up"
    assert threading.active_count() == threads, f"{{name}} starts a thread"
""",
        home,
    )
    assert looked.returncode == 0, looked.stderr
    assert list(home.iterdir()) == []
    assert looked.stdout == ""


@pytest.mark.parametrize("floor", ["config", "models", "commands"])
def test_importing_a_lower_floor_or_the_commands_imports_nothing_heavy(floor: str, home: Path) -> None:
    """`models/frame.py` and `models/mlflow_registry.py` speak pandas and MLflow; they say so by name."""
    by_name = {"models.frame", "models.mlflow_registry", "models.table_encoder"}
    names = [module_name(path) for path in source_files() if path.relative_to(PROJECT).parts[0] == floor]
    looked = python(
        f"""
import importlib, sys
for name in {sorted(set(names) - by_name)!r}:
    importlib.import_module(name)
    heavy = sorted(set({HEAVY!r}) & set(sys.modules))
    assert not heavy, f"{{name}} imports {{heavy}}"
""",
        home,
    )
    assert looked.returncode == 0, looked.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_help_of_a_script_imports_nothing_heavy(script: str, home: Path) -> None:
    looked = python(
        f"""
import runpy, sys
sys.argv = [{script!r}, "--help"]
try:
    runpy.run_path({str(PROJECT / script)!r}, run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = sorted(set({HEAVY!r}) & set(sys.modules))
assert not heavy, heavy
""",
        home,
    )
    assert looked.returncode == 0, looked.stderr
    assert "--help" in looked.stdout
    assert list(home.iterdir()) == []


def test_no_module_has_grown_past_what_a_reader_can_hold() -> None:
    lines = {str(path.relative_to(PROJECT)): len(path.read_text("utf-8").splitlines()) for path in source_files()}
    assert {name: count for name, count in lines.items() if count > 400} == {}
