"""The candidates: what each estimator is, how its input is prepared, and what it may be tuned over.

A candidate's pipeline is `encode` (rows to the float32 matrix, nothing fitted) -> `preprocess` -> `model`. Training
encodes once and fits the last two on the matrix; `whole_pipeline` puts the encoder back in front.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

from config.settings import TrainingSettings
from models.encoding import EncodedColumn, Encoder, Matrix
from models.frame import TableEncoder
from models.schema import Schema
from pipeline.errors import InputError

#: Parameters that the product sets itself: the configuration must not.
MANAGED_PARAMETERS = ("random_state", "n_jobs", "warm_start", "verbose", "categorical_features")


@dataclass(frozen=True)
class Candidate:
    """One row of the table of candidates."""

    name: str
    estimator: type[BaseEstimator]
    #: Set on top of scikit-learn's own defaults.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    #: What `training.search` may leave empty (`{}`) to get.
    search_space: Mapping[str, list[Any]] = field(default_factory=dict)
    imputes: bool = True
    #: Reads every row of a large table as float64: columns of more levels than outputs are target-encoded, not one-hot.
    compact: bool = False
    scales: bool = False
    #: Trains on a stratified sample above `training.slow_candidate_rows`.
    slow: bool = False
    #: Time of a fit relative to the others on the same rows; `per_class`: it fits one model for each of many classes.
    cost: float = 1.0
    per_class: bool = False


CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate(
            "random_forest",
            RandomForestClassifier,
            search_space={
                "n_estimators": [100, 200, 400],
                "max_depth": [None, 8, 16],
                "min_samples_leaf": [1, 2, 5, 10],
                "max_features": ["sqrt", 0.3, 0.6],
            },
            slow=True,
            cost=5.0,
        ),
        Candidate(
            "gradient_boosting",
            GradientBoostingClassifier,
            search_space={
                "n_estimators": [100, 200, 300],
                "learning_rate": [0.03, 0.05, 0.1, 0.2],
                "max_depth": [2, 3, 4, 5],
                "subsample": [0.6, 0.8, 1.0],
            },
            slow=True,
            cost=10.0,
            per_class=True,
        ),
        Candidate(
            "hist_gradient_boosting",
            HistGradientBoostingClassifier,
            # scikit-learn would turn it on above 10,000 rows, and learn from fewer rows than it was given.
            defaults={"early_stopping": False},
            search_space={
                "max_iter": [100, 200, 400],
                "learning_rate": [0.03, 0.05, 0.1, 0.2],
                "max_leaf_nodes": [15, 31, 63],
                "min_samples_leaf": [10, 20, 50],
                "l2_regularization": [0.0, 0.1, 1.0],
            },
            imputes=False,
            compact=True,
            cost=1.0,
            per_class=True,
        ),
        Candidate(
            "logistic_regression",
            LogisticRegression,
            defaults={"max_iter": 1000},
            search_space={"C": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]},
            scales=True,
            slow=True,
            cost=0.5,
        ),
    )
}


def matrix_pipeline(
    name: str,
    schema: Schema,
    parameters: Mapping[str, Any],
    seed: int,
    jobs: int = 1,
    without: Collection[int] = (),
) -> Pipeline:
    """The unfitted part that is to be fitted, from the encoded float32 matrix to class probabilities.

    Columns of the matrix whose positions are in `without` are not read.

    Raises:
        InputError: the configuration gives the candidate a parameter that it does not have, or a value it refuses.
    """
    candidate = CANDIDATES[name]
    estimator = _estimator(candidate, parameters, seed, jobs)
    preprocess = _preprocess(candidate, _columns(candidate, schema), seed, without)
    return Pipeline([("preprocess", preprocess), ("model", estimator)])


def unreadable_columns(name: str, matrix: Matrix) -> list[int]:
    """Positions that the candidate cannot be fitted on: without imputation, columns that have no value at all here."""
    if CANDIDATES[name].imputes:
        return []
    return [int(position) for position in np.flatnonzero(np.isnan(matrix).all(axis=0))]


def whole_pipeline(fitted: Pipeline, schema: Schema) -> Pipeline:
    """Puts the encoder, which fits nothing, in front of a pipeline on the matrix; the steps are shared, not copied."""
    return Pipeline([("encode", TableEncoder.of(schema)), *fitted.steps])


def check_candidates(training: TrainingSettings) -> None:
    """Finds before any work what scikit-learn would refuse of the configured parameters and spaces; raises as above."""
    for name, parameters in training.parameters.items():
        _estimator(CANDIDATES[name], parameters, seed=0, jobs=1)
    for name, space in training.search.items():
        check_search_space(name, space)


def check_search_space(name: str, space: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The space to search: the given one, or the candidate's own when it is empty; raises InputError as above."""
    chosen = dict(space or CANDIDATES[name].search_space)
    for parameter, values in chosen.items():
        if not values:
            raise InputError(f"training.search.{name}.{parameter}: expected a list of values to try")
        for value in values:
            _estimator(CANDIDATES[name], {parameter: value}, seed=0, jobs=1)
    return chosen


def _estimator(candidate: Candidate, parameters: Mapping[str, Any], seed: int, jobs: int) -> BaseEstimator:
    estimator = candidate.estimator()
    known = estimator.get_params(deep=False)
    own = {key: value for key, value in {"random_state": seed, "n_jobs": jobs}.items() if key in known}
    if isinstance(estimator, LogisticRegression):  # deprecated there, and nothing that it could share out
        own.pop("n_jobs")
    for parameter in parameters:
        if parameter not in known or parameter in MANAGED_PARAMETERS:
            choices = ", ".join(sorted(set(known) - set(MANAGED_PARAMETERS)))
            raise InputError(
                f"training.parameters.{candidate.name}.{parameter}: there is no such parameter; there are {choices}"
            )
    estimator.set_params(**{**candidate.defaults, **own, **parameters})
    for parameter, value in parameters.items():
        _check_value(candidate, parameter, value)
    return estimator


def _check_value(candidate: Candidate, parameter: str, value: Any) -> None:
    """Lets scikit-learn judge one value now, by its own table of constraints, instead of in every fit."""
    from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

    constraints = candidate.estimator._parameter_constraints
    try:
        validate_parameter_constraints(constraints, {parameter: value}, caller_name=candidate.name)
    except InvalidParameterError as error:
        raise InputError(f"training.parameters.{candidate.name}.{parameter}: {error}") from None


def _columns(candidate: Candidate, schema: Schema) -> list[EncodedColumn]:
    """The matrix's columns, each with the role that it has for this candidate."""
    outputs = 1 if len(schema.classes) == 2 else len(schema.classes)
    return [
        EncodedColumn(column.name, "target", column.levels)
        if candidate.compact and column.role == "one_hot" and column.levels > outputs
        else column
        for column in Encoder(schema).columns
    ]


def _preprocess(
    candidate: Candidate, columns: list[EncodedColumn], seed: int, without: Collection[int]
) -> ColumnTransformer:
    """Numbers, one-hot columns, target-encoded columns, in this order; an absent group is left out."""
    positions = {
        role: [index for index, column in enumerate(columns) if column.role == role and index not in without]
        for role in ("numeric", "one_hot", "target")
    }
    levels = [columns[index].levels for index in positions["one_hot"]]
    groups = [
        ("numeric", _numbers(candidate), positions["numeric"]),
        ("one_hot", _one_hot(candidate, levels), positions["one_hot"]),
        ("target", _target(candidate, seed), positions["target"]),
    ]
    # A linear model reads sparse rows; a wide one-hot part would otherwise be many times the table.
    return ColumnTransformer([group for group in groups if group[2]], sparse_threshold=0.3 if candidate.scales else 0.0)


def _numbers(candidate: Candidate) -> Any:
    steps: list[tuple[str, Any]] = []
    if candidate.scales:
        # In float32 a linear model's sums would be off by more than parity with ONNX allows.
        steps.append(("double", FunctionTransformer(np.positive, kw_args={"dtype": "float64"})))
    if candidate.imputes:
        steps.append(("impute", SimpleImputer(strategy="median", keep_empty_features=True)))
    if candidate.scales:
        steps.append(("scale", StandardScaler()))
    return Pipeline(steps) if steps else "passthrough"


def _one_hot(candidate: Candidate, levels: list[int]) -> OneHotEncoder:
    return OneHotEncoder(
        categories=[np.arange(max(count, 1), dtype=np.float32) for count in levels],
        handle_unknown="ignore",
        sparse_output=candidate.scales,
        dtype=np.float64 if candidate.scales else np.float32,
    )


def _target(candidate: Candidate, seed: int) -> Any:
    # Not stratified: that refuses classes that are all rarer than its folds.
    encoder = TargetEncoder(cv=KFold(5, shuffle=True, random_state=seed))
    return Pipeline([("encode", encoder), ("scale", StandardScaler())]) if candidate.scales else encoder
