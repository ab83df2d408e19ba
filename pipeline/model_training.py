"""Training: cross-validates the candidates of the configuration on the training rows and refits each on all of them.

TrainingError           every candidate failed; the message holds each one's reason
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from config.errors import ProductError
from config.settings import Settings
from models.encoding import Matrix
from models.metrics import METRICS, Labels
from models.schema import Schema
from pipeline.candidates import CANDIDATES, check_search_space, matrix_pipeline
from pipeline.error_training import kept_rows
from pipeline.folds import Fold, Indices, make_folds, stratified_sample, within
from pipeline.memory import release_memory
from pipeline.progress import Progress, Silent
from pipeline.training_tasks import REFIT, Outcome, OutOfFold, Task, Work, class_probabilities, job_count, run_tasks

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_LEAST_OF_WHOLE = 0.45

__all__ = [
    "CandidateResult",
    "TrainingError",
    "class_probabilities",
    "select",
    "train_on_matrix",
]


class TrainingError(ProductError):
    """No candidate could be trained; the message names each with its reason."""


@dataclass(frozen=True)
class CandidateResult:
    """What became of one candidate.

    `fold_metrics` holds every metric for each fold; `mean` and `std` are those of the selection metric over the folds
    that define it (None when none does). `seconds` is the time of its fits summed, over all cores.
    """

    name: str
    status: str  # "ok" | "failed"
    metric: str
    parameters: dict[str, Any]
    reason: str | None = None
    fold_metrics: tuple[dict[str, float | None], ...] = ()
    mean: float | None = None
    std: float | None = None
    seconds: float = 0.0
    #: The whole fitted pipeline, from a table to probabilities.
    pipeline: Pipeline | None = None
    #: Answers to training rows by the models of folds, which had not seen them.
    answers: OutOfFold | None = None
    #: How many training rows a slow candidate was fitted on, when not all.
    sampled_rows: int | None = None
    notes: tuple[str, ...] = ()
    #: With a search: how many settings were compared.
    settings_tried: int = 1

    @property
    def mean_metrics(self) -> dict[str, float | None]:
        """Every metric's mean over the folds that define it."""
        return {name: _mean([fold[name] for fold in self.fold_metrics]) for name in METRICS}


@dataclass(frozen=True)
class _Entry:
    """One candidate in the race: the settings to try, the rows it may learn from, and what came back so far."""

    name: str
    metric: str
    trials: list[dict[str, Any]]
    sample: Indices | None
    outcomes: list[Outcome] = field(default_factory=list)

    def fold_tasks(self, folds: Sequence[Fold]) -> list[Task]:
        return [
            Task(self.name, trial, parameters, number, within(fold, self.sample))
            for trial, parameters in enumerate(self.trials)
            for number, fold in enumerate(folds)
        ]

    def refit_task(self, trial: int, rows: int) -> Task:
        train = np.arange(rows) if self.sample is None else self.sample
        return Task(self.name, trial, self.trials[trial], REFIT, Fold(train, train[:0]))

    def best_trial(self) -> int | None:
        """The setting with the best mean; None when every one failed."""
        scored = {trial: self.result(trial) for trial in range(len(self.trials))}
        ranked = select(list(scored.values()))
        return next((trial for trial, result in scored.items() if ranked and result is ranked[0]), None)

    def result(self, trial: int) -> CandidateResult:
        """The candidate's result with one of its settings."""
        own = sorted((out for out in self.outcomes if out.task.trial == trial), key=lambda out: out.task.fold)
        folds = tuple(out.metrics for out in own if out.metrics is not None)
        scores = [fold[self.metric] for fold in folds]
        error = next((out.error for out in own if out.error), None)
        mean = _mean(scores)
        if error is None and mean is None:
            error = f"no fold defines {self.metric}"
        fitted = next((out.fitted for out in own if out.fitted is not None), None)
        return CandidateResult(
            name=self.name,
            status="failed" if error else "ok",
            metric=self.metric,
            parameters=self.trials[trial],
            reason=error,
            fold_metrics=folds,
            mean=mean,
            std=_deviation(scores),
            seconds=sum(out.seconds for out in self.outcomes),
            pipeline=None if error else fitted,
            answers=_out_of_fold(own),
            sampled_rows=None if self.sample is None else len(self.sample),
            notes=tuple(dict.fromkeys(out.note for out in own if out.note)),
            settings_tried=len(self.trials),
        )


def train_on_matrix(
    matrix: Matrix,
    y: Labels,
    schema: Schema,
    settings: Settings,
    progress: Progress | None = None,
    *,
    time: NDArray[np.float64] | None = None,
) -> list[CandidateResult]:
    """Trains every configured candidate on the training rows, and on nothing else.

    Args:
        matrix: (rows, width of the schema's encoder) the encoded rows.
        y: (rows,) class indices into `schema.classes`.
        time: (rows,) moments, when rows were split by time: cross-validation then goes forward in time.

    Returns:
        One result for each candidate, in the configuration's order; a failed one has its reason and no pipeline.

    Raises:
        InputError: a parameter that a candidate does not have; rows too few for the folds.
        TrainingError: every candidate failed.
    """
    seed = settings.data_split.random_state
    y = np.asarray(y, dtype=np.int64)
    entries = [_entry(name, schema, y, settings) for name in dict.fromkeys(settings.training.candidates)]
    folds = make_folds(y, settings.model_selection.cross_validation_folds, seed, time)
    kept = np.zeros(len(y), dtype=np.bool_)
    kept[kept_rows(len(y), seed)] = True
    work = Work(matrix, y, schema, seed, kept)
    results = _race(work, entries, folds, job_count(settings.training.jobs), progress or Silent())
    if all(result.status == "failed" for result in results):
        raise TrainingError("no candidate could be trained: " + "; ".join(f"{r.name}: {r.reason}" for r in results))
    return results


def select(results: Sequence[CandidateResult]) -> list[CandidateResult]:
    """The candidates that can be used, best mean of the selection metric first; of equals the less varying, then the
    configuration's order. Only cross-validation on the training rows speaks here, never the test part."""
    usable = [result for result in results if result.status == "ok" and result.mean is not None]

    def rank(result: CandidateResult) -> tuple[float, float]:
        mean = result.mean or 0.0
        return (-mean if METRICS[result.metric].greater_is_better else mean, result.std or 0.0)

    return sorted(usable, key=rank)


def _entry(name: str, schema: Schema, y: Labels, settings: Settings) -> _Entry:
    seed = settings.data_split.random_state
    trials = _trials(name, settings, seed)
    for parameters in trials:
        matrix_pipeline(name, schema, parameters, seed)  # what the configuration has wrong shows before the first fit
    limit = settings.training.slow_candidate_rows
    sample = stratified_sample(y, limit, seed) if CANDIDATES[name].slow and len(y) > limit else None
    return _Entry(name, settings.model_selection.metric, trials, sample)


def _trials(name: str, settings: Settings, seed: int) -> list[dict[str, Any]]:
    """The configured parameters first; then, with a search, random draws from its space (at most all of it)."""
    base = dict(settings.training.parameters.get(name, {}))  # type: ignore[call-overload]
    space = settings.training.search.get(name)  # type: ignore[call-overload]
    if space is None:
        return [base]
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    grid = check_search_space(name, space)
    draws = min(settings.training.search_iterations, len(ParameterGrid(grid)))
    return [base, *({**base, **draw} for draw in ParameterSampler(grid, draws, random_state=seed))]


def _race(work: Work, entries: list[_Entry], folds: list[Fold], jobs: int, progress: Progress) -> list[CandidateResult]:
    """All folds, and the refit of every candidate that has one setting, as one queue; then the refits of searches."""
    waiting = {entry.name: len(entry.trials) * len(folds) + 1 for entry in entries}
    tasks = [task for entry in entries for task in entry.fold_tasks(folds)]
    tasks += [entry.refit_task(0, len(work.y)) for entry in entries if len(entry.trials) == 1]
    results: dict[str, CandidateResult] = {}
    for entry in entries:
        progress.candidate_started(entry.name, waiting[entry.name])
    while tasks:
        for outcome in run_tasks(work, tasks, jobs):
            entry = next(entry for entry in entries if entry.name == outcome.task.name)
            entry.outcomes.append(outcome)
            waiting[entry.name] -= 1
            _tell(progress, entry.metric, outcome)
            release_memory()  # fits leave holes behind that the next ones would not fill
            if not waiting[entry.name]:
                results[entry.name] = entry.result(outcome.task.trial)
                progress.candidate_done(results[entry.name])
        tasks = []
        for entry in entries:
            if entry.name not in results:  # a search, with its folds all scored
                best = entry.best_trial()
                if best is None:
                    results[entry.name] = entry.result(0)
                    progress.candidate_done(results[entry.name])
                else:
                    tasks.append(entry.refit_task(best, len(work.y)))
    return [results[entry.name] for entry in entries]


def _out_of_fold(outcomes: Sequence[Outcome]) -> OutOfFold | None:
    """The answers of folds whose model had at least about half of the rows of the final one: going forward in time, the
    first folds learn from so little that their mistakes are not its own."""
    whole = max((len(outcome.task.rows.train) for outcome in outcomes), default=0)
    near = [
        outcome.answers
        for outcome in outcomes
        if outcome.answers is not None and len(outcome.task.rows.train) >= _LEAST_OF_WHOLE * whole
    ]
    if not near:
        return None
    return OutOfFold(np.concatenate([part.rows for part in near]), np.concatenate([part.answers for part in near]))


def _tell(progress: Progress, metric: str, outcome: Outcome) -> None:
    if outcome.task.fold != REFIT and outcome.metrics is not None:
        progress.fold_done(outcome.task.name, outcome.task.fold, outcome.metrics[metric], outcome.seconds)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _deviation(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


if __name__ == "__main__":
    from pipeline.training_alone import main

    sys.exit(main())
