"""Fits as tasks: what one fit is, and how many of them are spread over the cores.

Every fit is one task of one pool of threads: scikit-learn's trees let go of the interpreter's lock, and threads share
the matrix without a copy. The longest tasks start first, so that the cores end together.
"""

from __future__ import annotations

import os
import time as clock
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import ThreadpoolController

from models.encoding import Matrix
from models.error_model import answer_columns
from models.metrics import Labels, Probabilities, evaluate
from models.schema import Schema
from pipeline.candidates import CANDIDATES, matrix_pipeline, unreadable_columns, whole_pipeline
from pipeline.folds import Fold, Indices

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

REFIT = -1
#: Rows predicted at a time.
CHUNK = 20_000
#: Histogram boosting on more than this, in float64, is fitted one at a time and on all cores: it makes copies of its
#: rows, and two at once would take the memory of several tables.
LARGE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Work:
    """What all tasks share, read only."""

    matrix: Matrix
    y: Labels
    schema: Schema
    seed: int
    #: (rows,) training rows whose out-of-fold answers are kept; none without it.
    kept: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Task:
    name: str
    trial: int
    parameters: Mapping[str, Any]
    fold: int  # or REFIT
    rows: Fold


@dataclass(frozen=True)
class OutOfFold:
    """Answers of a fold's model to rows that it was not fitted on: their positions, and (rows, 2) `answer_columns`."""

    rows: Indices
    answers: Matrix


@dataclass(frozen=True)
class Outcome:
    task: Task
    seconds: float = 0.0
    metrics: dict[str, float | None] | None = None
    answers: OutOfFold | None = None
    fitted: Pipeline | None = None
    error: str | None = None
    note: str | None = None


def run_tasks(work: Work, tasks: list[Task], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come. Each fit keeps to one core: the tasks are what is spread."""
    pace = _Pace(ThreadpoolController(), jobs)
    broken: set[tuple[str, int]] = set()
    order = sorted(tasks, key=lambda task: (not _is_large(work, task), -_precedence(work, task)))
    pool = Parallel(jobs, backend="threading", batch_size=1, pre_dispatch="all", return_as="generator_unordered")
    # BLAS has one limit for the process, OpenMP one for each thread.
    with pace.controller.limit(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from pool(delayed(_attempt)(work, task, broken, pace) for task in order)


@dataclass(frozen=True)
class _Pace:
    """How many cores a fit takes."""

    controller: ThreadpoolController
    jobs: int
    one_large: Lock = field(default_factory=Lock)

    @contextmanager
    def of(self, large: bool) -> Iterator[None]:
        with (
            self.one_large if large else nullcontext(),
            self.controller.limit(limits=self.jobs if large else 1, user_api="openmp"),
        ):
            yield


def _is_large(work: Work, task: Task) -> bool:
    threaded = CANDIDATES[task.name].estimator is HistGradientBoostingClassifier
    return threaded and len(task.rows.train) * work.matrix.shape[1] * 8 > LARGE_BYTES


def _precedence(work: Work, task: Task) -> float:
    """The longest first. Of a large table the refits follow their folds: what they fit stays in memory to the end."""
    late = task.fold == REFIT and work.matrix.nbytes > LARGE_BYTES
    return _cost(task, len(work.schema.classes)) * (0.5 if late else 1.0)


def _cost(task: Task, classes: int) -> float:
    candidate = CANDIDATES[task.name]
    models = classes if candidate.per_class and classes > 2 else 1
    return candidate.cost * models * len(task.rows.train)


def _attempt(work: Work, task: Task, broken: set[tuple[str, int]], pace: _Pace) -> Outcome:
    """One fit, scored unless it is a refit. Whatever it raises is that candidate's result, not the run's end."""
    with pace.of(_is_large(work, task)):
        return Outcome(task) if (task.name, task.trial) in broken else _outcome(work, task, broken)


def _outcome(work: Work, task: Task, broken: set[tuple[str, int]]) -> Outcome:
    started = clock.perf_counter()
    try:
        fitted = _fit(work, task)
        metrics, answers = (None, None) if task.fold == REFIT else _score(work, task, fitted)
    except Exception as error:
        broken.add((task.name, task.trial))
        return Outcome(task, clock.perf_counter() - started, error=_one_sentence(error))
    whole = whole_pipeline(fitted, work.schema) if task.fold == REFIT else None
    return Outcome(task, clock.perf_counter() - started, metrics, answers, whole, note=_note(fitted))


def _fit(work: Work, task: Task) -> Pipeline:
    """`Pipeline.fit` by hand: of a large table, the copy for one step is let go before the next one makes its own."""
    matrix, y = _rows(work, task.rows.train)
    without = unreadable_columns(task.name, matrix)
    fitted = matrix_pipeline(task.name, work.schema, task.parameters, work.seed, without=without)
    model = fitted.named_steps["model"]
    matrix = fitted.named_steps["preprocess"].fit_transform(matrix, y)
    if isinstance(model, HistGradientBoostingClassifier):
        matrix = matrix.astype(np.float64)  # it would make this copy itself, beside ours
    model.fit(matrix, y)
    return fitted


def _rows(work: Work, chosen: Indices) -> tuple[Matrix, Labels]:
    whole = len(chosen) == len(work.y)
    return (work.matrix, work.y) if whole else (work.matrix[chosen], work.y[chosen])


def _score(work: Work, task: Task, fitted: Pipeline) -> tuple[dict[str, float | None], OutOfFold | None]:
    tested = task.rows.test
    p = class_probabilities(fitted, work.matrix[tested], len(work.schema.classes))
    metrics = evaluate(work.y[tested], p)
    if work.kept is None:
        return metrics, None
    kept = work.kept[tested]
    return metrics, OutOfFold(tested[kept], answer_columns(p[kept]))


def _note(fitted: Pipeline) -> str | None:
    model = fitted.named_steps["model"]
    limit = getattr(model, "max_iter", None)
    if isinstance(model, LogisticRegression) and limit is not None and np.max(model.n_iter_) >= limit:
        return f"did not converge in {limit} iterations; raise training.parameters.logistic_regression.max_iter"
    return None


def _one_sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def class_probabilities(fitted: Pipeline, matrix: Matrix, classes: int) -> Probabilities:
    """(rows, classes) float64; a class that the fitted rows lacked gets 0. Memory is bounded: a chunk at a time."""
    known = np.asarray(fitted.classes_, dtype=np.int64)
    everything = np.zeros((len(matrix), classes))
    for start in range(0, len(matrix), CHUNK):
        rows = slice(start, start + CHUNK)
        everything[rows, known] = fitted.predict_proba(matrix[rows])
    return everything


def job_count(jobs: int) -> int:
    """Threads to train on: `training.jobs`, where -1 means every core that this process may use."""
    return len(os.sched_getaffinity(0)) if jobs < 1 and hasattr(os, "sched_getaffinity") else max(jobs, 1)
