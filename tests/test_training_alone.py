"""The training step as a script of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from config.home import PROJECT_ROOT
from models.mlflow_connection import MlflowConnection
from models.mlflow_registry import Registry


def test_training_alone_logs_every_candidate_and_registers_nothing(home: Path, real_tables: Path) -> None:
    command = [sys.executable, "-m", "pipeline.model_training", "--data", str(real_tables / "penguins_raw.csv")]
    environment = os.environ | {
        "MLOPS_HOME": str(home),
        "MLOPS_TRAINING__CANDIDATES": '["logistic_regression"]',
        "MLOPS_MODEL_SELECTION__CROSS_VALIDATION_FOLDS": "2",
    }
    run = subprocess.run(
        [*command, "--target", "Species"], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["winner"] == "logistic_regression"
    connection = MlflowConnection(f"sqlite:///{home}/mlflow.db")
    assert connection.client.get_run(summary["mlflow_run_id"]).info.status == "FINISHED"
    assert Registry(connection, "production_model").versions() == []
    assert not (home / "models").exists()


def test_a_table_that_cannot_be_used_ends_in_2_with_a_sentence(home: Path) -> None:
    command = [sys.executable, "-m", "pipeline.model_training", "--data", str(home / "nothing.csv"), "--target", "y"]
    run = subprocess.run(
        command, cwd=PROJECT_ROOT, env=os.environ | {"MLOPS_HOME": str(home)}, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "nothing.csv" in run.stderr and "Traceback" not in run.stderr
