"""Traffic of a trained model: rows answered as the server answers them, log and all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from api.model_server import ModelServer, load_model
from monitoring.prediction_log import DailyLog, PredictionLog
from tests.trained import TrainedState, client_rows, plan_in


def serve(home: Path, state: TrainedState, table: pd.DataFrame, at: datetime) -> list[str]:
    """Answers rows with the model in service at a moment; returns the ids of the answers."""
    champion = plan_in(home).champion
    assert champion is not None
    log = PredictionLog(home / "logs")
    server = ModelServer(log, clock=lambda: at)
    server.serve(load_model(home / "models/registry", champion, len(table)))
    reply = server.predict(json.dumps(client_rows(state.schema, table)).encode(), "request")
    log.close()
    return reply.prediction_id


def send_outcomes(home: Path, ids: Sequence[str], actual: Sequence[Any], at: datetime) -> None:
    """Outcomes as `/feedback` logs them."""
    log = DailyLog(home / "logs", "feedback")
    lines = [
        json.dumps({"prediction_id": id_, "timestamp": at.isoformat(), "actual": label}).encode()
        for id_, label in zip(ids, actual, strict=True)
    ]
    log.append(lines, at)
    log.close()


def new_rows(state: TrainedState) -> pd.DataFrame:
    return pd.read_csv(state.home / "data/samples/new_data.csv")


def drifted_rows(state: TrainedState) -> pd.DataFrame:
    return pd.read_csv(state.home / "data/samples/drifted_data.csv")
