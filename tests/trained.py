"""State roots with a trained model, one a table, made once a session; and short runs on top of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from models.bundle import Bundle, read_bundle
from models.schema import Feature, Schema
from models.serving_plan import ServingPlan, read_plan
from pipeline import steps
from pipeline.orchestrator import RunOutcome, run_now
from pipeline.steps import Prepared, Trained

#: What a run needs so that it is over in a second or two: one candidate, two folds.
FAST: dict[str, Any] = {
    "training": {"candidates": ["logistic_regression"], "jobs": 1},
    "model_selection": {"cross_validation_folds": 2},
    "promotion": {"bootstrap_samples": 500},
}
#: All four candidates, with few trees.
SMALL: dict[str, Any] = {
    "training": {
        "parameters": {
            "random_forest": {"n_estimators": 20},
            "gradient_boosting": {"n_estimators": 20},
            "hist_gradient_boosting": {"max_iter": 20},
        },
        "slow_candidate_rows": 4000,
    },
    "model_selection": {"cross_validation_folds": 2},
    "promotion": {"bootstrap_samples": 500},
}


@dataclass(frozen=True)
class TrainedState:
    """A state root after its first run, with what the run held in memory. Tests that change it work on a copy."""

    home: Path
    source: Path
    target: str
    outcome: RunOutcome
    prepared: Prepared
    trained: Trained

    @property
    def table(self) -> pd.DataFrame:
        """As anybody would read it."""
        return pd.read_csv(self.source)

    @property
    def test_table(self) -> pd.DataFrame:
        return self.table.iloc[self.prepared.test.rows]

    @property
    def schema(self) -> Schema:
        return self.prepared.schema


@contextmanager
def in_force(home: Path) -> Iterator[pytest.MonkeyPatch]:
    """Makes a folder the state root, with no other setting of the product in the environment; draws no pictures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLOPS_")]:
            patch.delenv(name)
        patch.setenv("MLOPS_HOME", str(home))
        patch.setattr(steps, "draw_in_background", _draw_nothing)
        yield patch


def _draw_nothing(folder: Path) -> None:
    pass


def configure(home: Path, *trees: dict[str, Any]) -> None:
    """Writes the state root's configuration; later trees go over earlier ones, section by section."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    home.mkdir(parents=True, exist_ok=True)
    (home / "pipeline_config.yaml").write_text(yaml.safe_dump(merged), encoding="utf-8")


def train_state(home: Path, template: Path, source: Path, target: str, **sections: Any) -> TrainedState:
    """A first run on a table, in a state root whose MLflow database is a copy of the template."""
    kept: dict[str, Any] = {}
    configure(home, SMALL, {"target_column": target, "data": {"source": str(source)}}, sections)
    shutil.copy(template, home / "mlflow.db")
    with in_force(home) as patch:
        patch.setattr(steps, "prepare_data", _keeping(kept, "prepared", steps.prepare_data))
        patch.setattr(steps, "train", _keeping(kept, "trained", steps.train))
        outcome = run_now(None, None)
    return TrainedState(home, source, target, outcome, kept["prepared"], kept["trained"])


def _keeping(kept: dict[str, Any], name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    def keep(*arguments: Any) -> Any:
        kept[name] = step(*arguments)
        return kept[name]

    return keep


def copy_of(state: TrainedState, folder: Path, **sections: Any) -> Path:
    """A copy of a trained state root for a test that changes it, set to fast runs."""
    home = folder / "state"
    shutil.copytree(state.home, home, ignore=shutil.ignore_patterns("mlartifacts", "logs", "run"))
    known = {"target_column": state.target, "data": {"source": str(state.source)}}
    configure(home, FAST, known, sections)
    return home


def plan_in(home: Path) -> ServingPlan:
    plan = read_plan(home / "models/registry")
    assert plan is not None
    return plan


def served_version(home: Path) -> str:
    champion = plan_in(home).champion
    assert champion is not None
    return champion.version


def bundle_in(home: Path, version: str, *extra: str) -> Bundle:
    return read_bundle(home / "models/registry" / version, None, *extra)


def client_rows(schema: Schema, table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as a client would send it: the cells of the file, in the JSON types of the schema."""
    columns = {
        feature.name: [None if pd.isna(cell) else _json_cell(feature, cell) for cell in table[feature.name]]
        for feature in schema.features
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_cell(feature: Feature, cell: Any) -> Any:
    if feature.kind == "numeric":
        return float(cell)
    if feature.kind == "boolean":
        return cell if isinstance(cell, bool) else str(cell).strip().lower() == "true"
    if feature.kind == "categorical" and feature.categories and isinstance(feature.categories[0], int):
        return int(cell)
    return str(cell)
