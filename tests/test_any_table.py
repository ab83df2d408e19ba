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
    if ending == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
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


# Tables of kinds that are known to be hard


def learnable(rows: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.random.Generator]:
    """One feature, and a target that follows it, in the last column."""
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=rows)
    labels = np.where(signal + generator.normal(size=rows) > 0, "ja", "nein")
    return pd.DataFrame({"signal": signal, "target": labels}), generator


def reasons(home: Path, outcome: RunOutcome) -> dict[str, str]:
    return {column.name: column.reason for column in bundle_in(home, outcome.model_version).schema.ignored}


def test_400_columns_go_through(home: Path) -> None:
    table, generator = learnable()
    more = pd.DataFrame(generator.normal(size=(400, 400)), columns=[f"c{number}" for number in range(400)])
    table = pd.concat([more, table], axis=1)
    outcome = assert_served(home, run_on(home, table), table)
    assert len(bundle_in(home, outcome.model_version).schema.features) == 401


def test_26_classes_go_through(home: Path) -> None:
    table, _ = learnable(rows=2000)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    table["target"] = letters[np.clip(np.round(table["signal"] * 4 + 13), 0, 25).astype(int)]
    table = table.groupby("target").filter(lambda group: len(group) > 12)
    outcome = assert_served(home, run_on(home, table), table)
    assert len(bundle_in(home, outcome.model_version).schema.classes) == table["target"].nunique() > 12


def test_one_positive_in_130_goes_through(home: Path) -> None:
    table, _ = learnable(rows=2600)
    rare = np.zeros(2600, dtype=int)
    rare[table["signal"].nlargest(20).index] = 1
    outcome = assert_served(home, run_on(home, table.assign(target=rare)), table)
    assert outcome.metrics["test_pr_auc"] is not None


def test_names_and_values_beyond_ascii_go_through(home: Path) -> None:
    table, generator = learnable()
    table.insert(0, "Größe „x“ 日本", generator.choice(["Åbo", "Łódź", "São Paulo", "😀"], 400))
    table["target"] = table["target"].map({"ja": "はい", "nein": "いいえ"})
    outcome = assert_served(home, run_on(home, table), table)
    assert bundle_in(home, outcome.model_version).schema.classes == ("いいえ", "はい")


def test_truth_values_and_dates_stay_what_they_are(home: Path) -> None:
    table, generator = learnable()
    table["member"] = generator.random(400) < 0.5
    table["since"] = (pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 900, 400), unit="D")).astype(
        str
    )
    table["until"] = np.where(generator.random(400) < 0.3, "9999-12-31", table["since"])
    outcome = assert_served(home, run_on(home, table), table)
    schema = bundle_in(home, outcome.model_version).schema
    kinds = {feature.name: feature.kind for feature in schema.features}
    assert kinds == {"signal": "numeric", "member": "boolean", "since": "datetime", "until": "datetime"}


def test_ids_constants_and_text_are_left_out_with_the_reason(home: Path) -> None:
    table, generator = learnable()
    table["customer"] = [f"C{number:06d}" for number in range(400)]
    table["currency"] = "EUR"
    words = generator.choice(["the", "old", "heating", "broke", "again", "today", "why"], (400, 8))
    table["remark"] = [" ".join(row) for row in words]
    outcome = assert_served(home, run_on(home, table), table)
    assert set(reasons(home, outcome)) == {"customer", "currency", "remark"}


def test_a_leak_is_suspected_by_name(home: Path) -> None:
    table, _ = learnable()
    table["decision"] = table["target"].map({"ja": 1.5, "nein": 7.5})
    outcome = assert_served(home, run_on(home, table), table)
    report = json.loads(Path(outcome.quality_report).read_text())
    assert [leak["column"] for leak in report["suspected_leaks"]] == ["decision"]
    assert report["level"] == "warn"


def test_a_column_of_thousands_of_levels_stays_narrow(home: Path) -> None:
    table, generator = learnable(rows=3000)
    table["shop"] = [f"shop {number}" for number in generator.integers(0, 900, 3000)]
    outcome = assert_served(home, run_on(home, table), table)
    [shop] = [f for f in bundle_in(home, outcome.model_version).schema.features if f.name == "shop"]
    assert (shop.kind, shop.encoding) == ("categorical", "target")


def test_infinite_and_enormous_numbers_go_through(home: Path) -> None:
    table, generator = learnable()
    table["big"] = generator.choice([1e300, -1e300, 1.0, 2.0], 400)
    table["open"] = generator.choice([np.inf, -np.inf, 0.5, 1.5, 2.5], 400)
    assert isinstance(run_on(home, table), RunOutcome)


def test_rare_classes_beside_a_column_of_many_levels_go_through(home: Path) -> None:
    """Each class is rarer than the folds of the target encoding."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"shop": [f"shop {number % 45}" for number in range(90)], "signal": generator.normal(size=90)})
    table["target"] = [f"class {number % 15}" for number in range(90)]
    assert_served(home, run_on(home, table), table)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.assign(target="ja"), "one class only"),
        (lambda table: table.assign(target=None), "no row has a value in the target"),
        (lambda table: table.head(30), "30 rows with a target, fewer than data_quality.minimum_rows"),
        (
            lambda table: table.drop(columns="target"),
            "has no column 'target' (target_column); give one of these: 'signal'",
        ),
        (lambda table: table[["target"]], "no column is left to learn from"),
        (lambda table: table.head(0), "has a header and no rows"),
        (lambda table: table.assign(target=["z", *table["target"][1:]]), "class 'z'"),
        (lambda table: table.assign(target=table["signal"]), "is a quantity"),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_refused_in_a_sentence(home: Path, change: Any, words: str) -> None:
    table, _ = learnable()
    sentence = run_on(home, change(table))
    assert isinstance(sentence, str), sentence
    assert words in sentence
