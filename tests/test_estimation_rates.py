"""The estimate with real models on simulated rows, scaled down from `benchmarks/estimation.py`, and on served rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from api.model_server import ModelServer, load_model
from benchmarks.estimation import DROP, alarms, hits, lowered
from benchmarks.estimation_worlds import WORLDS, Watched, settings_of, watch
from models.bundle import REFERENCE
from models.reference import decode_reference
from models.schema import ClassLabel
from monitoring.concept_drift import check_concept_drift
from monitoring.performance_estimation import estimate_performance
from monitoring.prediction_log import PredictionLog
from monitoring.store import Store
from tests.logged import Host
from tests.trained import TrainedState, bundle_in, client_rows, plan_in, served_version

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NUMBERS = WORLDS["numbers"]
CHUNKS = 20_000


@pytest.fixture(scope="module")
def watched() -> list[Watched]:
    settings = settings_of("hist_gradient_boosting", hist_gradient_boosting={"max_iter": 60})
    return [watch(NUMBERS, 8_000, np.random.default_rng(seed), settings) for seed in (1, 2)]


def rates(watched: list[Watched], name: str | None, amount: float = 0.0) -> dict[str, float]:
    """Means over the models, of 20 chunks each."""
    change = None if name is None else NUMBERS.scale(amount) if name == "all" else NUMBERS.shift(name, amount)
    found = []
    for seed, one in enumerate(watched):
        frame, outcome = NUMBERS.rows(CHUNKS, np.random.default_rng(50 + seed), change)
        estimates, right = one.answers(frame, outcome)
        found.append({**hits(one, estimates, right), **alarms(one, frame, estimates, right)})
    return {key: float(np.mean([of[key] for of in found])) for key in found[0]}


def test_without_drift_the_estimate_is_within_2_and_a_half_points(watched: list[Watched]) -> None:
    found = rates(watched, None)
    assert found["estimate"] >= 0.95 and found["drop"] == 0.0


@pytest.mark.parametrize(("name", "amount"), [("x0", 1.5), ("x1", 1.5), ("x4", 1.5), ("all", 0.8)])
def test_under_drift_that_moves_accuracy_it_is_so_too_where_a_constant_is_not(
    watched: list[Watched], name: str, amount: float
) -> None:
    found = rates(watched, name, amount)
    assert found["estimate"] >= 0.9 and found["constant"] <= 0.6
    assert found["drop"] <= 0.05  # a change of the rows alone is no change of the concept


def test_accuracy_that_is_4_points_lower_is_found(watched: list[Watched]) -> None:
    found = []
    for seed, one in enumerate(watched):
        random = np.random.default_rng(80 + seed)
        frame, outcome = NUMBERS.rows(CHUNKS, random)
        estimates, right = one.answers(frame, outcome)
        found.append(alarms(one, frame, estimates, lowered(right, DROP, random))["drift"])
    assert np.mean(found) >= 0.9


def test_estimates_of_served_rows_hold_what_their_outcomes_say_and_a_turned_concept_is_found(
    sample: TrainedState, store: Store, tmp_path: Path
) -> None:
    version = served_version(sample.home)
    profile = decode_reference(bundle_in(sample.home, version, REFERENCE).extra[REFERENCE]).error_model
    table = pd.read_csv(sample.home / "data/samples/new_data.csv")
    host = Host(tmp_path, store)
    host.registry.symlink_to(sample.home / "models/registry")
    ids, said = answered(host, sample, table)
    host.ingestion.run_once()
    guess = estimate_performance(store, version, NOON, NOON + timedelta(hours=1), NOON, profile)
    host.feed_back(*zip(ids, table["target"].tolist(), strict=True))
    host.ingestion.run_once()
    right = float(np.mean(np.array(said) == table["target"].to_numpy()))
    assert guess.interval is not None and guess.interval[0] <= right <= guess.interval[1]
    hour = (NOON, NOON + timedelta(hours=1), NOON)
    quiet = check_concept_drift(store, version, *hour, profile, strong_data_drift=False)
    assert (quiet.status, quiet.labels) == ("none", len(table))
    assert quiet.realised == pytest.approx(right)
    turned = [1 - actual if row % 10 == 0 else actual for row, actual in enumerate(table["target"].tolist())]
    host.feed_back(*zip(ids, turned, strict=True), moment=NOON + timedelta(minutes=30))
    host.ingestion.run_once()
    assert check_concept_drift(store, version, *hour, profile, strong_data_drift=False).status == "drift"
    after = estimate_performance(store, version, *hour, profile)
    assert after.status == "switched_off"


def answered(host: Host, state: TrainedState, table: pd.DataFrame) -> tuple[list[str], list[ClassLabel]]:
    """Rows answered and logged as the server does it: identifiers and answers."""
    champion = plan_in(state.home).champion
    assert champion is not None
    log = PredictionLog(host.logs)
    server = ModelServer(log, clock=lambda: NOON)
    server.serve(load_model(state.home / "models/registry", champion, len(table)))
    reply = server.predict(json.dumps(client_rows(state.schema, table)).encode(), "request")
    log.close()
    return reply.prediction_id, reply.prediction
