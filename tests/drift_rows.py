"""Rows for the tests of drift: one table with every kind of feature, whole or changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from models.binning import Numbers
from models.encoding import RawColumn
from models.reference import Reference, build_reference
from models.schema import Feature, Schema
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftReport, DriftThresholds
from monitoring.window_profile import WindowProfile, profile

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEATURES = (
    Feature(name="income", kind="numeric"),
    Feature(name="constant", kind="numeric"),
    Feature(name="gaps", kind="numeric"),
    Feature(name="owner", kind="boolean"),
    Feature(name="home", kind="categorical"),
    Feature(name="ordered", kind="datetime"),
    Feature(name="due", kind="datetime"),
)
SCHEMA = Schema(target="y", classes=("no", "yes"), features=FEATURES)
NAMES = [feature.name for feature in FEATURES]


def draw(rows: int, seed: int) -> dict[str, RawColumn]:
    rng = np.random.default_rng(seed)
    ordered = rng.uniform(1.6e9, 1.64e9, rows)
    return {
        "income": rng.lognormal(4.8, 0.6, rows),
        "constant": np.full(rows, 7.0),
        "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        "owner": (rng.random(rows) < 0.3).astype(np.float64),
        "home": rng.choice(
            np.array(["rent", "own", "parents", None], dtype=object), rows, p=[0.4, 0.45, 0.1, 0.05]
        ).tolist(),
        "ordered": ordered,
        "due": ordered + rng.exponential(3.0 * 86_400.0, rows),
    }


def probabilities(rows: int, seed: int, shift: float = 0.0) -> Numbers:
    yes = 1.0 / (1.0 + np.exp(-np.random.default_rng(seed).normal(shift, 1.0, rows)))
    return np.column_stack([1.0 - yes, yes])


def reference(rows: int = 6_400, changes: Mapping[str, RawColumn] | None = None) -> Reference:
    held_out = probabilities(1_600, 9)
    actual = (np.random.default_rng(10).random(1_600) < held_out[:, 1]).astype(np.int64)
    return build_reference(
        SCHEMA, list((draw(rows, 1) | dict(changes or {})).values()), held_out, actual, {"test_f1": 0.8}
    )


def detect(
    reference: Reference, window: WindowProfile, now: datetime, thresholds: DriftThresholds | None = None
) -> DriftReport:
    """Checks one window."""
    return DriftDetector(reference, thresholds).detect(window, now)


def check(
    of: Reference,
    rows: int = 1_000,
    thresholds: DriftThresholds | None = None,
    changes: Mapping[str, RawColumn] | None = None,
) -> DriftReport:
    """The report on fresh rows, in which some columns are changed."""
    return detect(of, profile(of, list((draw(rows, 2) | dict(changes or {})).values())), NOW, thresholds)
