"""`python -m pipeline.model_training --data P --target C`: trains, logs to MLflow, and registers nothing."""

from __future__ import annotations

import argparse
import secrets
import sys
from datetime import UTC, datetime

import msgspec

from config.errors import ProductError
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from models.mlflow_connection import MlflowConnection
from models.mlflow_runs import RunLog
from monitoring.store import Store
from pipeline import steps
from pipeline.data_processing import read_data
from pipeline.deployment import Deployment
from pipeline.model_training import select
from pipeline.progress import Silent
from pipeline.registration import log_candidates


def main(arguments: list[str] | None = None) -> int:
    """Prints the cross-validation as JSON; returns 2 when the table cannot be used, 1 when it fails."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.model_training", description=__doc__)
    parser.add_argument("--data", help="a table; by default data.source of the configuration")
    parser.add_argument("--target", help="the column to predict; by default target_column of the configuration")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        if given.target:
            settings = msgspec.structs.replace(settings, target_column=given.target)
        with state_lock("pipeline", "python -m pipeline.model_training"):
            summary = train_alone(settings, given.data)
    except ProductError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
    return 0


def train_alone(settings: Settings, source: str | None) -> dict[str, object]:
    """Reads, checks and trains as a run does; returns `cross_validation` of `run --json`, and the run of MLflow."""
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    runs = RunLog(MlflowConnection(settings.mlflow_address), settings.experiment_name)
    with Store(settings.store_address) as store:
        prepared = steps.prepare_data(settings, run_id, read_data(settings, source), Deployment.of(settings, store))
    trained = steps.train(settings, prepared, Silent())
    best = select(trained.results)[0]
    mlflow_run_id = runs.start(run_id, params={"data_source": prepared.source, "target": settings.target_column})
    log_candidates(runs, mlflow_run_id, trained.results, trained.failures())
    runs.finish(mlflow_run_id)
    return {**trained.summary(best, {}), "mlflow_run_id": mlflow_run_id}
