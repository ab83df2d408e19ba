"""Runs `main.py` in this process, as a person would type it."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from click.testing import CliRunner, Result

from main import cli


def run_command(*arguments: str) -> Result:
    """Signals and logging stay those of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.shutdown.end_on_signals", lambda _: None)
        patch.setattr("config.logs.configure_logging", lambda *_: None)
        patch.setenv("MLOPS_CONFIG", os.environ.get("MLOPS_CONFIG", ""))  # put back: `--config` sets it
        result = CliRunner().invoke(cli, list(arguments), prog_name="main.py")
    assert "Traceback" not in result.stderr, result.stderr
    return result


def json_of(*arguments: str, code: int = 0) -> Any:
    """The one JSON document that a command prints, and nothing else."""
    result = run_command(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def failure(*arguments: str, code: int = 1) -> str:
    """The sentence with which a command fails, the same with and without --json."""
    plain = run_command(*arguments)
    assert plain.exit_code == code, plain.output
    assert plain.stdout == ""
    lines = plain.stderr.splitlines()
    assert lines[-1].lower().startswith("error: "), plain.stderr
    return lines[-1][len("error: ") :]
