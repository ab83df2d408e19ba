"""Worlds whose outcomes are known to the last probability, and models trained in them as a run trains one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings, decode_settings
from generate_sample_data import GAPS, STEADY, features, leaving_probability
from models.encoding import Encoder
from models.error_model import ErrorModel, ErrorModelProfile, Estimates
from models.frame import frame_to_raw
from pipeline.data_processing import Table, prepare
from pipeline.model_training import select, train_on_matrix
from pipeline.packaging import Packaged, package_best, package_errors

Columns = dict[str, NDArray[Any]]
Change = Callable[[Columns], Columns]
Generator = np.random.Generator


@dataclass(frozen=True)
class World:
    """`draw` makes features without gaps, `probability` tells the second class from them, and `limits` are what the
    values of the numeric features can be at all."""

    name: str
    draw: Callable[[int, Generator], Columns]
    probability: Callable[[Columns], NDArray[np.float64]]
    limits: Mapping[str, tuple[float, float]]
    gaps: Mapping[str, float]

    def rows(
        self, count: int, random: Generator, change: Change | None = None
    ) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        """Rows as a table has them, and their outcomes."""
        columns = self.draw(count, random)
        if change is not None:
            columns = self.within_limits(change(columns))
        outcome = (random.random(count) < self.probability(columns)).astype(np.int64)
        frame = pd.DataFrame(columns)
        for name, share in self.gaps.items():
            frame[name] = frame[name].mask(random.random(count) < share)
        return frame, outcome

    def within_limits(self, columns: Columns) -> Columns:
        return columns | {name: np.clip(columns[name], *limits) for name, limits in self.limits.items()}

    def shift(self, name: str, deviations: float) -> Change:
        """Moves one feature by so many of its standard deviations."""
        spread = float(np.std(self.draw(20_000, np.random.default_rng(0))[name]))
        return lambda columns: columns | {name: columns[name] + deviations * spread}

    def scale(self, factor: float) -> Change:
        """Multiplies all numbers."""
        return lambda columns: columns | {name: columns[name] * factor for name in self.limits}


def _numbers(rows: int, random: Generator) -> Columns:
    """Normal, with standard deviations of 1 and, of two, means above 0: a factor moves those too."""
    return {f"x{position}": random.normal(1.5 * (position in (0, 4)), 1.0, rows) for position in range(10)}


def _numbers_probability(columns: Columns) -> NDArray[np.float64]:
    x = [columns[f"x{position}"] for position in range(10)]
    score = 1.5 * x[0] + 1.3 * x[1] + 1.2 * x[2] * x[3] + x[4] + 0.8 * x[5] - 1.2 * np.tanh(2.0 * x[6]) + 0.7 * x[7]
    return np.asarray(1.0 / (1.0 + np.exp(-1.2 * (score - 2.25))))


_ANY = (-np.inf, np.inf)
WORLDS: dict[str, World] = {
    world.name: world
    for world in (
        World(
            "customers",
            lambda rows, random: features(rows, STEADY, random),
            leaving_probability,
            {
                "age": (18.0, 95.0),
                "tenure_months": (0.0, 120.0),
                "monthly_charge": (8.0, np.inf),
                "usage_hours": (0.0, 200.0),
                "support_calls": (0.0, np.inf),
                "late_payments": (0.0, np.inf),
                "satisfaction": (0.0, 10.0),
            },
            GAPS,
        ),
        World("numbers", _numbers, _numbers_probability, {f"x{position}": _ANY for position in range(10)}, {}),
    )
}


@dataclass(frozen=True)
class Watched:
    """A trained model with its error model."""

    packaged: Packaged
    encoder: Encoder
    errors: ErrorModel
    profile: ErrorModelProfile

    def answers(self, frame: pd.DataFrame, outcome: NDArray[np.int64]) -> tuple[Estimates, NDArray[np.bool_]]:
        """For each row the estimate, and whether the answer is right."""
        matrix = self.encoder.encode(frame_to_raw(self.encoder.schema, frame))
        probabilities = self.packaged.session.run(matrix)
        return self.errors.estimates(matrix, probabilities), np.argmax(probabilities, axis=1) == outcome


def settings_of(*candidates: str, **parameters: dict[str, Any]) -> Settings:
    return decode_settings(
        {"target_column": "outcome", "training": {"candidates": candidates, "parameters": parameters}}
    )


def watch(world: World, rows: int, random: Generator, settings: Settings) -> Watched:
    """Trains on rows of the world as a run does, the error model of the winner included."""
    frame, outcome = world.rows(rows, random)
    data = prepare(Table(frame.assign(outcome=outcome), world.name), settings)
    raw = frame_to_raw(data.schema, data.frame.take(data.split.train))
    test = frame_to_raw(data.schema, data.frame.take(data.split.test))
    matrix, target = Encoder(data.schema).encode(raw), data.target[data.split.train]
    packaged = package_best(select(train_on_matrix(matrix, target, data.schema, settings)), data.schema, test)
    seed = settings.data_split.random_state
    found = package_errors(packaged, data.schema, matrix, target, test, data.target[data.split.test], seed)
    if found is None:
        raise SystemExit(f"{world.name}: the model makes too few mistakes for an error model")
    # The fitted pipeline is let go: thousands of trees a seed.
    packaged = replace(packaged, result=replace(packaged.result, pipeline=None))
    return Watched(packaged, Encoder(data.schema), ErrorModel(found[0]), found[1])
