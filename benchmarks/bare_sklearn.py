"""The same fits as `main.py run` with three candidates, by hand: what somebody would write without the product.

Usage: python benchmarks/bare_sklearn.py TABLE.csv
Five folds and a final fit for each candidate, imputing and encoding in each fit, one pool of threads over all cores,
longest fits first; then the winner's score on rows that were held out. Prints one line.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

SEED, FOLDS = 42, 5


def candidates() -> dict[str, Any]:
    """Longest fit first."""

    def prepared(model: Any, *scaler: Any) -> Any:
        numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), *scaler)
        names = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = make_column_transformer(
            (numbers, make_column_selector(dtype_include=[np.number, "bool"])),
            (names, make_column_selector(dtype_exclude=[np.number, "bool"])),
        )
        return make_pipeline(columns, model)

    return {
        "gradient_boosting": prepared(GradientBoostingClassifier(random_state=SEED)),
        "random_forest": prepared(RandomForestClassifier(random_state=SEED)),
        "logistic_regression": prepared(LogisticRegression(max_iter=1000), StandardScaler()),
    }


def fit(name: str, model: Any, X: pd.DataFrame, y: pd.Series[int], train: Any, test: Any) -> tuple[str, float, Any]:
    fitted = clone(model).fit(X.iloc[train], y.iloc[train])
    score = f1_score(y.iloc[test], fitted.predict(X.iloc[test]), average="weighted") if len(test) else float("nan")
    return name, score, fitted


def main(path: str) -> None:
    table = pd.read_csv(path)
    y = table.pop("target")
    X, X_test, y, y_test = train_test_split(table, y, test_size=0.2, random_state=SEED, stratify=y)
    everything = (np.arange(len(X)), np.arange(0))
    splits = [*StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(X, y), everything]
    work = [(name, model, X, y, *split) for name, model in candidates().items() for split in splits]
    with threadpool_limits(1):
        done = Parallel(n_jobs=-1, prefer="threads")(delayed(fit)(*task) for task in work)
    means = {name: np.nanmean([score for other, score, _ in done if other == name]) for name in candidates()}
    winner = max(means, key=lambda name: means[name])
    refitted = next(fitted for name, score, fitted in done if name == winner and np.isnan(score))
    test = f1_score(y_test, refitted.predict(X_test), average="weighted")
    print(f"{winner}: cross-validated f1 {means[winner]:.4f}, test f1 {test:.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
