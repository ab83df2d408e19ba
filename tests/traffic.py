"""Traffic of a trained model: rows answered as the server answers them, log and all."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pandas as pd

from api.model_server import ModelServer, load_model
from monitoring.prediction_log import PredictionLog
from tests.trained import TrainedState, client_rows, plan_in


def serve(home: Path, state: TrainedState, table: pd.DataFrame, at: datetime) -> None:
    """Answers rows with the model in service at a moment."""
    champion = plan_in(home).champion
    assert champion is not None
    log = PredictionLog(home / "logs")
    server = ModelServer(log, clock=lambda: at)
    server.serve(load_model(home / "models/registry", champion, len(table)))
    server.predict(json.dumps(client_rows(state.schema, table)).encode(), "request")
    log.close()


def new_rows(state: TrainedState) -> pd.DataFrame:
    return pd.read_csv(state.home / "data/samples/new_data.csv")


def drifted_rows(state: TrainedState) -> pd.DataFrame:
    return pd.read_csv(state.home / "data/samples/drifted_data.csv")
