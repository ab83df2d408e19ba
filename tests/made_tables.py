"""Small made-up tables for training tests: a schema, a frame of raw values and class indices that depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings, decode_settings
from models.encoding import Encoder, Matrix
from models.frame import frame_to_raw
from models.schema import Feature, Schema

CITIES = ("Åbo", "Genève", "Kraków", "Łódź", "São Paulo")


@dataclass(frozen=True)
class MadeTable:
    frame: pd.DataFrame
    y: NDArray[np.int64]
    schema: Schema

    @property
    def matrix(self) -> Matrix:
        return Encoder(self.schema).encode(frame_to_raw(self.schema, self.frame))


def made_table(rows: int = 300, classes: int = 2, seed: int = 0, shops: int = 40) -> MadeTable:
    """Every kind of column: numbers (one with gaps, one of huge whole numbers), one-hot and target-encoded
    categories with gaps, a boolean and a date."""
    generator = np.random.default_rng(seed)
    amount = generator.normal(50, 20, rows)
    income = np.where(generator.random(rows) < 0.2, np.nan, generator.lognormal(10, 1, rows))
    number = np.round(generator.normal(0, 1e9, rows)) + 1e12
    city = generator.integers(0, len(CITIES), rows)
    shop = generator.integers(0, shops, rows)
    when = generator.integers(1_600_000_000, 1_700_000_000, rows)
    signal = (amount - 50) / 20 + np.nan_to_num(np.log(income), nan=10.0) - 10 + (city == 1) + (shop % 3)
    ranks = np.argsort(np.argsort(signal + generator.normal(0, 0.5, rows)))
    names = tuple(f"shop {position:03d}" for position in range(shops))
    frame = pd.DataFrame(
        {
            "amount": amount,
            "income (€)": income,
            "number": number,
            "city": _with_gaps(np.array(CITIES, dtype=object)[city], generator),
            "shop": _with_gaps(np.array(names, dtype=object)[shop], generator),
            "member": generator.random(rows) < 0.4,
            "when": pd.to_datetime(when, unit="s"),
        }
    )
    features = (
        Feature(name="amount", kind="numeric", range=_range(amount)),
        Feature(name="income (€)", kind="numeric", nullable=True, range=_range(income)),
        Feature(name="number", kind="numeric", range=_range(number)),
        Feature(name="city", kind="categorical", nullable=True, categories=CITIES),
        Feature(name="shop", kind="categorical", nullable=True, categories=names, encoding="target"),
        Feature(name="member", kind="boolean", range=(0.0, 1.0)),
        Feature(name="when", kind="datetime", parts=("month", "weekday", "hour"), range=_range(when)),
    )
    labels = tuple(f"class {position:02d}" for position in range(classes))
    schema = Schema(target="outcome", classes=labels, features=features)
    return MadeTable(frame, (ranks * classes // rows).astype(np.int64), schema)


def numeric_schema(width: int, classes: int = 2) -> Schema:
    features = tuple(Feature(name=f"x{position}", kind="numeric") for position in range(width))
    return Schema(target="y", classes=tuple(range(classes)), features=features)


def quick_settings(**training: Any) -> Settings:
    """Three folds and small ensembles, on one thread."""
    parameters: dict[str, Any] = {
        "random_forest": {"n_estimators": 10},
        "gradient_boosting": {"n_estimators": 8},
        "hist_gradient_boosting": {"max_iter": 8},
    }
    tree = {"training": {"jobs": 1, "parameters": parameters, **training}}
    return decode_settings({**tree, "model_selection": {"metric": "log_loss", "cross_validation_folds": 3}})


def _with_gaps(values: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    values[generator.random(len(values)) < 0.1] = None
    return values


def _range(values: NDArray[Any]) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))
