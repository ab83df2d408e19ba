"""Tables of other people: whatever is in them, a run ends in a served model or in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.model_server import ModelServer, ServedModel, load_model
from models.serving_plan import PlannedBundle
from monitoring.prediction_log import PredictionLog
from pipeline.errors import InputError
from pipeline.orchestrator import RunOutcome, run_now
from tests.trained import FAST, bundle_in, client_rows, configure, in_force

ODD_NAMES = (
    "Größe (mm)", "a,b", 'say "x"', "reason", "target ", "x'; DROP", "=1+1", "naïve\tTab", "日本", "0", "index", "row",
    "prediction", "__class__", "a.missing", "nan", "{}", "$x$", "%s", "e\u0301", "  ", "\\", "null",
)  # fmt: skip
Column = list[Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[Path]:
    """One state root for all: each run meets the champion of those before it."""
    home = tmp_path_factory.mktemp("any table")
    configure(home, FAST, {"target_column": "target"})
    (home / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    with in_force(home):
        yield home


def run_on(home: Path, table: pd.DataFrame, target: str = "target", ending: str = "csv") -> RunOutcome | str:
    """The outcome, or the sentence of the refusal; anything else is raised."""
    path = home / f"table.{ending}"
    write = {"csv": table.to_csv, "jsonl": lambda path, **_: table.to_json(path, orient="records", lines=True)}[ending]
    write(path, index=False)
    before = path.read_bytes()
    try:
        outcome: RunOutcome | str = run_now(str(path), target)
    except InputError as error:
        outcome = str(error)
        assert outcome.startswith(str(path)), outcome
        assert "\n" not in outcome
    assert path.read_bytes() == before
    return outcome


def answers(home: Path, outcome: RunOutcome, table: pd.DataFrame) -> np.ndarray[Any, Any]:
    """What the server would answer to the table's first rows with this version, promoted or not."""
    model, log = load(home, outcome.model_version), PredictionLog(home / "logs")
    server = ModelServer(log)
    server.serve(model)
    reply = server.predict(json.dumps(client_rows(model.schema, table.head(50))).encode(), "r")
    log.close()
    return np.array(reply.probability)


def load(home: Path, version: str) -> ServedModel:
    """As the server loads it, its stored rows answered."""
    planned = PlannedBundle(version=version, manifest_sha256=bundle_in(home, version).manifest_sha256)
    return load_model(home / "models/registry", planned, 1000)


def assert_served(home: Path, outcome: RunOutcome | str, table: pd.DataFrame) -> RunOutcome:
    assert isinstance(outcome, RunOutcome), outcome
    probability = answers(home, outcome, table)
    assert np.isfinite(probability).all()
    assert np.allclose(probability.sum(axis=1), 1.0, atol=1e-4)
    return outcome


# Generated tables


def cells(kind: str) -> st.SearchStrategy[Any]:
    return {
        "integer": st.integers(-(10**6), 10**6),
        "huge": st.integers(-(2**70), 2**70),
        "float": st.floats(allow_nan=True, allow_infinity=True),
        "text": st.text(max_size=12),
        "word": st.sampled_from(["red", "grün", "", "  ", "NA", "true", "1", "None"]),
        "boolean": st.booleans(),
        "date": st.datetimes().map(lambda moment: moment.isoformat()),
        "day": st.dates().map(str),
        "constant": st.just("same"),
        "empty": st.none(),
        "mixed": st.one_of(st.integers(-3, 3), st.text(max_size=3), st.booleans(), st.floats()),
    }[kind]


KINDS = ("integer", "huge", "float", "text", "word", "boolean", "date", "day", "constant", "empty", "mixed")


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, str]:
    """A table and its target; a few drawn cells are repeated over the rows, so that sizes vary more than the draws."""
    rows = draw(st.sampled_from([60, 90, 160, 400, 1, 40]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = draw(st.lists(st.one_of(st.sampled_from(ODD_NAMES), st.text(max_size=8)), max_size=8, unique=True))
    columns: dict[str, Column] = {}
    for name in names:
        kind, gaps = draw(st.sampled_from(KINDS)), draw(st.sampled_from([0.0, 0.0, 0.3, 0.9]))
        pool = draw(st.lists(cells(kind), min_size=1, max_size=20))
        picked = generator.integers(0, len(pool), rows)
        columns[name] = [None if generator.random() < gaps else pool[index] for index in picked]
    if draw(st.sampled_from([True, True, True, False])):
        columns["signal"] = generator.normal(size=rows).round(3).tolist()
    if draw(st.booleans()):
        columns["id"] = list(range(rows))
    target = draw(st.sampled_from(["target", "target", "target", "target ", 'say "x"', "日本", "0"]))
    columns[target] = _labels(draw, rows, generator)
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()}), target


def _labels(draw: st.DrawFn, rows: int, generator: np.random.Generator) -> Column:
    shape = draw(st.sampled_from(["two", "two", "two", "gaps", "gaps", "many", "truth", "rare", "one", "amount"]))
    pools: dict[str, Column] = {
        "two": ["no", "yes"],
        "many": [f"class {number}" for number in range(12)],
        "rare": [0] * 60 + [1],
        "one": ["same"],
        "gaps": ["a", "b", None],
        "truth": [True, False],
        "amount": [round(float(number), 3) for number in generator.normal(size=50)],
    }
    return [pools[shape][index] for index in generator.integers(0, len(pools[shape]), rows)]


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
@given(drawn=tables(), ending=st.sampled_from(["csv", "csv", "jsonl"]))
def test_any_table_ends_in_a_served_model_or_in_one_sentence(
    home: Path, drawn: tuple[pd.DataFrame, str], ending: str
) -> None:
    table, target = drawn
    outcome = run_on(home, table, target, ending)
    if isinstance(outcome, RunOutcome):
        assert outcome.status == "succeeded"
        assert load(home, outcome.model_version)  # which answers the stored rows as scikit-learn did
