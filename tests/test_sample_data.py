"""The sample data: one concept, streams of its own for each file, drift only where it is meant."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import generate_sample_data as generator
from config.settings import load_settings
from pipeline.sample_data import is_sample

ROWS = 4000
MOVED = {"monthly_charge", "support_calls", "region"}


@pytest.fixture(scope="module")
def tables() -> dict[str, generator.Table]:
    return dict(generator.samples(ROWS, 11, seed=42))


def generate(*arguments: str) -> int:
    return generator.main(["--rows", "400", *arguments])


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def share_of_smaller(left: generator.Column, right: generator.Column) -> float:
    """P(a value of the left < one of the right), ties half: 0.5 when both are from one distribution."""
    values = np.sort(right.astype(np.float64))
    found = left.astype(np.float64)
    below = np.searchsorted(values, found, "left") + np.searchsorted(values, found, "right")
    return float(1.0 - np.mean(below) / 2 / len(values))


def shares(column: generator.Column) -> dict[str, float]:
    values, counts = np.unique(column.astype(str), return_counts=True)
    return dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))


def test_fault_30_no_file_repeats_rows_of_another(tables: dict[str, generator.Table]) -> None:
    """The sketch reseeded with 42 for each file, so that the 'new' rows were the training rows again."""
    rows = {name: set(zip(*(c.tolist() for c in table.values()), strict=True)) for name, table in tables.items()}
    for one in rows:
        assert len(rows[one]) == len(tables[one]["target"]), f"{one} repeats itself"
        assert all(not rows[one] & rows[other] for other in rows if other != one)


def test_fault_30_labels_are_drawn_from_the_one_concept(tables: dict[str, generator.Table]) -> None:
    """The sketch drew the target's weights after the features: the three files followed three concepts."""
    for number, table in enumerate(tables.values()):
        population = generator.DRIFT if number == 2 else generator.STEADY
        seeds = np.random.SeedSequence(42).spawn(3)[number].spawn(4)
        whole = generator.features(len(table["target"]), population, np.random.default_rng(seeds[0]))
        expected = np.random.default_rng(seeds[1]).random(len(table["target"])) < generator.leaving_probability(whole)
        assert np.array_equal(table["target"], expected.astype(np.int64))


def test_fault_30_new_data_is_distributed_as_training_data(tables: dict[str, generator.Table]) -> None:
    assert moved_columns(tables[generator.TRAINING], tables[generator.NEW]) == set()


def test_fault_30_only_the_named_features_drift(tables: dict[str, generator.Table]) -> None:
    assert moved_columns(tables[generator.TRAINING], tables[generator.DRIFTED]) - {"target"} == MOVED


def moved_columns(before: generator.Table, after: generator.Table) -> set[str]:
    """Columns whose distribution differs by more than sampling explains at these sizes."""
    moved = set()
    for name in before:
        if name in ("contract", "region", "autopay"):
            one, other = shares(before[name]), shares(after[name])
            distance = sum(abs(one.get(level, 0) - other.get(level, 0)) for level in one | other) / 2
        else:
            there = [table[name][table[name].astype(str) != ""] for table in (before, after)]
            distance = abs(share_of_smaller(*there) - 0.5)
        moved |= {name} if distance > 0.06 else set()
    return moved


def test_drift_is_of_the_stated_amount(tables: dict[str, generator.Table]) -> None:
    before, after = tables[generator.TRAINING], tables[generator.DRIFTED]
    charge = after["monthly_charge"].mean() - before["monthly_charge"].mean()
    assert charge == pytest.approx(generator.DRIFT.charge_shift, abs=2.0)
    calls = after["support_calls"].mean() / before["support_calls"].mean()
    assert calls == pytest.approx(generator.DRIFT.support_calls_factor, rel=0.06)
    share = shares(after["region"])["north_west"] / (1 - generator.GAPS["region"])
    assert share == pytest.approx(generator.DRIFT.north_west_share, abs=0.04)


def test_no_feature_gives_the_target_away(tables: dict[str, generator.Table]) -> None:
    table = tables[generator.TRAINING]
    left = table["target"] == 1
    for name in ("age", "tenure_months", "monthly_charge", "support_calls", "late_payments"):
        assert abs(share_of_smaller(table[name][left], table[name][~left]) - 0.5) < 0.25, name
    for name in ("contract", "region", "autopay"):
        rates = [table["target"][table[name] == level].mean() for level in np.unique(table[name])]
        assert min(rates) > 0.01, name
        assert max(rates) < 0.6, name
    assert 0.15 < left.mean() < 0.35


def test_fault_30_a_forest_of_the_training_file_knows_the_other_files(tables: dict[str, generator.Table]) -> None:
    """Well, as they follow its concept, and not perfectly, as no feature is a leak."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=0)
    forest.fit(encoded(tables[generator.TRAINING]), tables[generator.TRAINING]["target"])
    for name in (generator.NEW, generator.DRIFTED):
        probability = forest.predict_proba(encoded(tables[name]))[:, 1]
        assert 0.84 < roc_auc_score(tables[name]["target"], probability) < 0.93, name


def encoded(table: generator.Table) -> np.ndarray:
    columns = []
    for name in generator.FEATURES:
        if name in ("contract", "region", "autopay"):
            columns += [table[name] == level for level in ("month_to_month", "one_year", "north_west", "island", True)]
        else:
            text = table[name].astype(str)
            columns.append(np.where(text == "", "-1", text).astype(np.float64))
    return np.column_stack(columns)


# The command.


def test_the_sample_fits_the_configuration_that_ships(home: Path) -> None:
    assert generate() == 0
    settings = load_settings()
    header, *rows = read(home / settings.data.source)
    assert header == [*generator.FEATURES, settings.target_column]
    assert len(rows) == 400
    assert {row[-1] for row in rows} == {"0", "1"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    files = []
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert generate("--output", str(tmp_path / folder), "--seed", seed) == 0
        names = (generator.TRAINING, generator.NEW, generator.DRIFTED)
        files.append([(tmp_path / folder / name).read_bytes() for name in names])
    assert files[0] == files[1]
    assert all(one != other for one, other in zip(files[0], files[2], strict=True))


def test_extra_columns_leave_the_others_as_they_are() -> None:
    narrow = dict(generator.samples(50, 11, seed=3))[generator.TRAINING]
    wide = dict(generator.samples(50, 40, seed=3))[generator.TRAINING]
    assert len(wide) == 40
    assert list(wide)[-1] == "target"
    assert all(np.array_equal(narrow[name], wide[name]) for name in narrow)


def test_training_data_that_is_there_is_replaced_only_when_forced(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = home / "data" / "raw" / "training.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine\n")
    assert generate() == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert own.read_text() == "mine\n"
    assert [path.name for path in own.parent.parent.iterdir()] == ["raw"]
    assert generate("--force") == 0
    assert len(read(own)) == 401


def test_the_files_are_known_as_generated_until_somebody_changes_them(home: Path) -> None:
    assert generate() == 0
    training = home / "data" / generator.TRAINING
    assert is_sample(str(training))
    training.write_text(training.read_text() + "1,2,3\n")
    assert not is_sample(str(training))


def test_if_needed_generates_once_and_never_beside_data_of_ones_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "pipeline_config.yaml").write_text("data: {source: my.csv}\n")
    assert generate("--if-needed") == 0
    assert not (home / "data").exists()
    (home / "pipeline_config.yaml").unlink()
    assert generate("--if-needed") == 0
    (home / "data" / "raw" / "training.csv").write_text("mine\n")
    assert generate("--if-needed") == 0
    assert (home / "data" / "raw" / "training.csv").read_text() == "mine\n"


def test_a_broken_configuration_is_said_in_a_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "pipeline_config.yaml").write_text("dta: {}\n")
    assert generate("--if-needed") == 2
    assert "$.dta: unknown key" in capsys.readouterr().err


def test_an_unwritable_folder_fails_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert generate("--output", str(tmp_path / "file")) == 1
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--rows", "0"], ["--rows", "x"], ["--seed", "-1"], ["--columns", "10"]])
def test_a_value_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        generator.main(arguments)
