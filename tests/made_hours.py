"""Hours of estimated and labelled rows put straight into the store, as ingestion leaves them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from models.error_model import ErrorModelProfile
from monitoring.hour_tallies import LATENCY_EDGES
from monitoring.store import Store
from monitoring.tables import outcome_counts, window_profiles

PROFILE = ErrorModelProfile(
    rows=8_000, out_of_fold_rows=6_400, held_out_rows=1_600, training_rows=6_400, accuracy=0.85, brier=0.1,
    constant_brier=0.13, confidence_brier=0.11, held_out_gap=0.0,
)  # fmt: skip


def put_estimates(
    store: Store, hour: datetime, estimates: NDArray[np.float64], version: str = "1", source: int = 1, more: int = 0
) -> None:
    """An hour's predictions, and `more` without an estimate."""
    values: dict[str, Any] = {
        "source": source, "hour": hour, "model_version": version, "experiment": "", "arm": "",
        "rows": len(estimates) + more, "unprofiled_rows": 0, "profile": None, "withheld": [], "warned_rows": 0,
        "warnings": {}, "fallback_rows": 0, "latency_counts": bytes(8 * (len(LATENCY_EDGES) + 1)),
        "latency_microseconds": 0, "confidence_millionths": 0, **_sums(estimates),
    }  # fmt: skip
    with store.writing() as connection:
        connection.execute(insert(window_profiles).values(**values))


def put_outcomes(
    store: Store, hour: datetime, estimates: NDArray[np.float64], right: NDArray[np.bool_], version: str = "1"
) -> None:
    """An hour's labelled rows, with an estimate each."""
    with store.writing() as connection:
        for actual, chosen in (('"yes"', right), ('"no"', ~right)):
            values = {
                "source": 1, "hour": hour, "model_version": version, "experiment": "", "arm": "", "predicted": '"yes"',
                "actual": actual, "rows": int(chosen.sum()), "delay_seconds": 0, "scored_rows": 0,
                "log_loss_millionths": 0, "brier_millionths": 0, **_sums(estimates[chosen]),
            }  # fmt: skip
            connection.execute(insert(outcome_counts).values(**values))


def _sums(estimates: NDArray[np.float64]) -> dict[str, int]:
    return {
        "estimated_rows": len(estimates),
        "estimate_millionths": round(float(estimates.sum()) * 1e6),
        "estimate_variance_millionths": round(float((estimates * (1 - estimates)).sum()) * 1e6),
    }
