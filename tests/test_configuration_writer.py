"""`init`: a configuration that says what it found, loads, and is not written twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.settings import Settings, load_settings
from pipeline.configuration_writer import quoted, write_configuration
from pipeline.data_processing import prepare, read_data
from pipeline.errors import InputError
from pipeline.table_reading import Table
from tests.tables import small_table


def written(frame: pd.DataFrame, folder: Path, target: str = "target") -> tuple[Settings, str]:
    path = folder / "pipeline_config.yaml"
    write_configuration(Table(frame, "t.csv"), target, path, str(folder / "t.csv"))
    return load_settings(path, environment={}), path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "target", "time_column"),
    [("credit.csv", "Status", None), ("elec2.csv", "class", "t"), ("penguins_raw.csv", "Species", None)],
)
def test_a_real_table_gets_settings_that_it_can_be_trained_with(
    real_tables: Path, tmp_path: Path, name: str, target: str, time_column: str | None
) -> None:
    path = tmp_path / "pipeline_config.yaml"
    source = real_tables / name
    write_configuration(read_data(Settings(), source), target, path, str(source))
    settings = load_settings(path, environment={})
    assert (settings.target_column, settings.data_split.time_column) == (target, time_column)
    assert prepare(read_data(settings), settings).quality.rows > 300


def test_it_says_what_is_left_out_and_why(real_tables: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    write_configuration(read_data(Settings(), real_tables / "penguins_raw.csv"), "Species", path, "p.csv")
    text = path.read_text()
    assert '# - "Region": holds one value only' in text
    assert '# datetime: "Date Egg"' in text
    assert load_settings(path, {}).features.drop == ("Individual ID",)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pipeline_config.yaml"
    path.write_text("target_column: mine\n")
    with pytest.raises(InputError, match="is there already and is not overwritten"):
        written(small_table(), tmp_path)
    assert path.read_text() == "target_column: mine\n"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_for_a_table_that_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no column 'nope'"):
        written(small_table(), tmp_path, "nope")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shares", "metric"),
    [
        ([0.5, 0.5], "f1"),
        ([0.85, 0.15], "roc_auc"),
        ([0.98, 0.02], "pr_auc"),
        ([0.4, 0.3, 0.3], "f1"),
        ([0.7, 0.25, 0.05], "balanced_accuracy"),
    ],
)
def test_the_metric_suits_the_balance_of_the_classes(tmp_path: Path, shares: list[float], metric: str) -> None:
    frame = small_table(1000)
    frame["target"] = np.repeat([f"c{k}" for k in range(len(shares))], [round(share * 1000) for share in shares])
    assert written(frame, tmp_path)[0].model_selection.metric == metric


def test_folds_are_lowered_for_a_tiny_class(tmp_path: Path) -> None:
    frame = small_table(300)
    frame.loc[:3, "target"] = "tiny"
    settings, text = written(frame, tmp_path)
    assert 2 <= settings.model_selection.cross_validation_folds < 5
    assert "too few rows for more folds" in text


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("timestamp", np.arange(200) * 60, True),
        ("anything", pd.date_range("2020", periods=200).astype(str), True),
        ("anything", np.arange(200) * 60, False),
        ("date", np.random.default_rng(0).permutation(200), False),
        ("when", pd.date_range("2020", periods=200)[::-1], False),
        ("year", np.repeat([2019, 2020], 100), False),
    ],
)
def test_a_time_column_is_named_only_where_there_clearly_is_one(
    tmp_path: Path, name: str, values: Any, found: bool
) -> None:
    settings, _ = written(small_table(200, **{name: values}), tmp_path)
    assert settings.data_split.time_column == (name if found else None)


@pytest.mark.parametrize("name", ['a: "b"', "ünï ☃", "x\ny", "#no", "- list", "{", "null", "\x85\x07", "'", "a" * 200])
def test_any_name_survives(tmp_path: Path, name: str) -> None:
    ids = [f"N{n}" for n in range(200)]
    frame = small_table(200).rename(columns={"colour": name + "1", "target": name}).assign(**{name + "2": ids})
    frame.loc[0, name + "1"] = None
    settings, _ = written(frame, tmp_path, name)
    assert settings.target_column == name
    assert settings.features.drop == (name + "2",)


def test_a_quoted_name_stays_on_one_line() -> None:
    assert quoted("a\nb") == '"a\\nb"'
    assert "\n" not in quoted("word " * 100)


@pytest.mark.parametrize(("source", "private"), [("postgresql://me:secret@db/shop", True), ("/data/t.csv", False)])
def test_an_address_with_a_password_is_written_for_its_owner_alone(tmp_path: Path, source: str, private: bool) -> None:
    path = tmp_path / "c.yaml"
    write_configuration(Table(small_table(), "t.csv"), "target", path, source)
    assert (path.stat().st_mode & 0o077 == 0) is private
