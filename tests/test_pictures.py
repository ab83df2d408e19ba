"""The pictures of a winner: drawn from what a run left, whatever its classes and names are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.mlflow_connection import MlflowConnection
from models.runtime import OnnxSession
from models.schema import Feature, Schema
from pipeline import steps
from pipeline.orchestrator import run_now
from pipeline.pictures import Drawing, Held, draw, draw_and_log, permutation_importance
from tests.trained import TrainedState, copy_of, in_force

PICTURES = {"confusion_matrix", "roc", "precision_recall", "calibration", "permutation_importance"}


def drawing_of(schema: Schema, metric: str = "f1") -> Drawing:
    return Drawing(
        mlflow_address="", experiment_name="", mlflow_run_id="", metric=metric, seed=0, schema=schema
    )  # fmt: skip


def held_by(state: TrainedState) -> Held:
    from models.bundle import read_bundle
    from models.encoding import Encoder

    session = OnnxSession(read_bundle(state.home / "models/registry/1").model)
    matrix = Encoder(state.schema).encode(state.prepared.test_raw)
    return Held(state.prepared.test.target, session.run(matrix).astype(np.float64), matrix, session)


@pytest.mark.parametrize("name", ["credit", "penguins"])
def test_all_pictures_are_drawn_for_two_and_for_many_classes(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    state: TrainedState = request.getfixturevalue(name)
    draw(drawing_of(state.schema), held_by(state), tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.png") if path.read_bytes().startswith(b"\x89PNG")}
    assert drawn == PICTURES
    importance = json.loads((tmp_path / "permutation_importance.json").read_text())
    assert set(importance) == set(state.schema.feature_names)


def test_what_the_model_lives_on_is_most_important(penguins: TrainedState) -> None:
    importance = permutation_importance(drawing_of(penguins.schema), held_by(penguins))
    assert next(iter(importance)) in {"Culmen Length (mm)", "Island", "Flipper Length (mm)", "Delta 13 C (o/oo)"}
    assert importance["Date Egg"] < 0.05


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_loss_that_grows_is_importance_too(credit: TrainedState, metric: str) -> None:
    assert max(permutation_importance(drawing_of(credit.schema, metric), held_by(credit)).values()) > 0.001


def test_names_are_text_and_never_mathematics(credit: TrainedState, tmp_path: Path) -> None:
    features = tuple(
        Feature(**{name: getattr(feature, name) for name in feature.__struct_fields__} | {"name": f"$\\bad{place}_^$"})
        for place, feature in enumerate(credit.schema.features)
    )
    schema = Schema(target="y", classes=("$\\frac{$", "日本 $x$ {}"), features=features)
    draw(drawing_of(schema), held_by(credit), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_a_test_part_of_one_class_is_drawn(credit: TrainedState, tmp_path: Path) -> None:
    held = held_by(credit)
    only = held.y == 0
    draw(drawing_of(credit.schema), Held(held.y[only], held.p[only], held.matrix[only], held.session), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_what_a_run_leaves_is_drawn_logged_and_removed(
    penguins: TrainedState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Path] = []
    home = copy_of(penguins, tmp_path)
    with in_force(home) as patch:
        patch.setattr(steps, "draw_in_background", left.append)
        run_now(None, None)
        [folder] = left
        run_id = json.loads((folder / "drawing.json").read_text())["mlflow_run_id"]
        draw_and_log(folder)
        client = MlflowConnection(f"sqlite:///{home / 'mlflow.db'}").client
        files = {Path(file.path).stem for file in client.list_artifacts(run_id, "plots")}
    assert files == PICTURES
    assert not folder.exists()
