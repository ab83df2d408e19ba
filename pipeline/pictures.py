"""Pictures of a winner for the MLflow UI, drawn after promotion by a process of their own: nobody waits for them.

python -m pipeline.pictures FOLDER     draws what `leave_for_drawing` left there, logs it, and removes the folder
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from config.home import PROJECT_ROOT, under_home
from models.encoding import Encoder, Matrix
from models.metrics import METRICS, Labels, score
from models.runtime import OnnxSession
from models.schema import Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Permutation importance asks the model features × repeats times about this many rows.
IMPORTANCE_ROWS, IMPORTANCE_REPEATS = 2_000, 5
#: Encoded test rows that are handed over; figures but the importance are of all.
DRAWN_ROWS = 10_000
#: More curves than this in one picture cannot be told apart; the commonest classes are drawn.
MOST_CURVES, MOST_FEATURES, MOST_CONFUSED = 8, 25, 30


class Drawing(Struct, frozen=True, kw_only=True):
    """What the pictures are of."""

    mlflow_address: str
    experiment_name: str
    mlflow_run_id: str
    metric: str
    seed: int
    schema: Schema


class Held(Struct, frozen=True):
    """The test part: class indices, the model's probabilities, and the encoded rows."""

    y: Labels
    p: NDArray[np.float64]
    matrix: Matrix
    session: OnnxSession


def leave_for_drawing(run_id: str, drawing: Drawing, y: Labels, p: NDArray[Any], matrix: Matrix, model: bytes) -> Path:
    """Stores what the drawing process needs; returns the folder."""
    folder = under_home("run/pictures") / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drawing.json").write_bytes(msgspec.json.encode(drawing))
    (folder / "model.onnx").write_bytes(model)
    np.savez(folder / "rows.npz", y=y, p=p, matrix=matrix)
    return folder


def draw_in_background(folder: Path) -> None:
    """Starts the drawing as a process of its own, at low priority; it outlives this one."""
    log = under_home("logs") / "pictures.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", "pipeline.pictures", str(folder)],
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def draw_and_log(folder: Path) -> None:
    """Draws, logs to MLflow, removes the folder."""
    from models.mlflow_connection import MlflowConnection
    from models.mlflow_runs import RunLog

    drawing = msgspec.json.decode((folder / "drawing.json").read_bytes(), type=Drawing)
    with np.load(folder / "rows.npz") as rows:
        held = Held(rows["y"], rows["p"], rows["matrix"], OnnxSession((folder / "model.onnx").read_bytes()))
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    draw(drawing, held, plots)
    runs = RunLog(MlflowConnection(drawing.mlflow_address), drawing.experiment_name)
    runs.log_files(drawing.mlflow_run_id, plots, "plots")
    shutil.rmtree(folder)


def draw(drawing: Drawing, held: Held, folder: Path) -> None:
    """Writes confusion matrix, ROC, precision-recall, calibration and permutation importance as PNG files."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    labels = [str(label) for label in drawing.schema.classes]
    importance = permutation_importance(drawing, held)
    (folder / "permutation_importance.json").write_bytes(msgspec.json.encode(importance))
    pictures: dict[str, Callable[[Axes], None]] = {
        "confusion_matrix": lambda axes: _confusion(axes, held, labels),
        "roc": lambda axes: _roc(axes, held, labels),
        "precision_recall": lambda axes: _precision_recall(axes, held, labels),
        "calibration": lambda axes: _calibration(axes, held),
        "permutation_importance": lambda axes: _importance(axes, importance, drawing.metric),
    }
    for name, paint in pictures.items():
        figure: Figure
        figure, axes = pyplot.subplots(figsize=(7, 5.5), layout="constrained")
        paint(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / f"{name}.png", dpi=130)
        pyplot.close(figure)


def permutation_importance(drawing: Drawing, held: Held) -> dict[str, float]:
    """How much worse the metric gets when one feature's values change rows, largest first (Breiman, 2001).

    All matrix columns of a feature move together; the mean of `IMPORTANCE_REPEATS` permutations.
    """
    generator = np.random.default_rng(drawing.seed)
    chosen = generator.permutation(len(held.matrix))[:IMPORTANCE_ROWS]
    matrix, y = held.matrix[chosen], held.y[: len(held.matrix)][chosen]
    base = _score(drawing.metric, held.session, matrix, y)
    losses = {}
    for feature, columns in _columns_of_features(drawing.schema).items():
        worse = [
            base - _score(drawing.metric, held.session, _shuffled(matrix, columns, generator), y)
            for _ in range(IMPORTANCE_REPEATS)
        ]
        losses[feature] = float(np.mean(worse))
    return dict(sorted(losses.items(), key=lambda item: -item[1]))


def _score(metric: str, session: OnnxSession, matrix: Matrix, y: Labels) -> float:
    value = score(metric, y, session.run(matrix).astype(np.float64)) or 0.0
    return value if METRICS[metric].greater_is_better else -value


def _shuffled(matrix: Matrix, columns: list[int], generator: np.random.Generator) -> Matrix:
    shuffled = matrix.copy()
    shuffled[:, columns] = matrix[generator.permutation(len(matrix))][:, columns]
    return shuffled


def _columns_of_features(schema: Schema) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    start = 0
    for feature in schema.features:
        width = Encoder(msgspec.structs.replace(schema, features=(feature,))).width
        positions[feature.name] = list(range(start, start + width))
        start += width
    return positions


def _confusion(axes: Axes, held: Held, labels: list[str]) -> None:
    shown = _commonest(held.y, MOST_CONFUSED)
    counts = np.zeros((len(shown), len(shown)))
    for row, true in enumerate(shown):
        answers = held.p[held.y == true].argmax(axis=1)
        counts[row] = [np.count_nonzero(answers == answer) for answer in shown]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(labels[label]) for label in shown]
    axes.set_xticks(
        range(len(shown)), names, rotation=0 if len(shown) < 4 else 60, ha="center" if len(shown) < 4 else "right"
    )
    axes.set_yticks(range(len(shown)), names)
    if len(shown) <= 10:
        for row, column in np.ndindex(counts.shape):
            dark = shares[row, column] > 0.5
            text = f"{counts[row, column]:.0f}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set(xlabel="predicted", ylabel="actual", title="Confusion matrix (test part)")


def _roc(axes: Axes, held: Held, labels: list[str]) -> None:
    from sklearn.metrics import auc, roc_curve

    for label in _drawn_classes(held, labels):
        false, true, _ = roc_curve(held.y == label, held.p[:, label])
        axes.plot(false, true, label=f"{_short(labels[label])} (AUC {auc(false, true):.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC (test part)")
    axes.legend(loc="lower right", frameon=False)


def _precision_recall(axes: Axes, held: Held, labels: list[str]) -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    for label in _drawn_classes(held, labels):
        precision, recall, _ = precision_recall_curve(held.y == label, held.p[:, label])
        area = average_precision_score(held.y == label, held.p[:, label])
        axes.plot(recall, precision, label=f"{_short(labels[label])} (AP {area:.3f})")
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.03), title="Precision and recall (test part)")
    axes.legend(loc="lower left", frameon=False)


def _calibration(axes: Axes, held: Held) -> None:
    confidence, right = held.p.max(axis=1), held.p.argmax(axis=1) == held.y
    edges = np.quantile(confidence, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, 9)
    points = [(confidence[bins == at].mean(), right[bins == at].mean()) for at in range(10) if (bins == at).any()]
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.plot(*zip(*points, strict=True), marker="o")
    axes.set(
        xlabel="how sure the model was (highest probability, tenths of the rows)",
        ylabel="how often it was right",
        xlim=(min(0.5, confidence.min()), 1.02),
        ylim=(0, 1.03),
        title="Calibration (test part)",
    )


def _importance(axes: Axes, importance: dict[str, float], metric: str) -> None:
    shown = list(importance.items())[:MOST_FEATURES][::-1]
    axes.barh([_short(name) for name, _ in shown], [loss for _, loss in shown])
    axes.set_ylim(min(0, len(shown) - 6) - 0.6, len(shown) - 0.4)  # two features are two bars, not two walls
    axes.set(xlabel=f"loss of {metric} when the feature is shuffled", title="Permutation importance (test part)")


def _drawn_classes(held: Held, labels: list[str]) -> list[int]:
    """The second class of two, else the commonest ones that the test part has."""
    return [1] if len(labels) == 2 else _commonest(held.y, MOST_CURVES)


def _commonest(y: Labels, most: int) -> list[int]:
    classes, counts = np.unique(y, return_counts=True)
    return sorted(int(label) for label in classes[np.argsort(-counts)[:most]])


def _short(text: str, limit: int = 28) -> str:
    """Cut, and with dollars that matplotlib takes for dollars and not for mathematics."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut.replace("$", r"\$")


if __name__ == "__main__":
    draw_and_log(Path(sys.argv[1]))
