"""The quality gate: plain JSON, levels, quarantine, and one sentence for a table that cannot be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from pipeline.data_quality import QualityError, QualityReport, write_quarantine
from pipeline.errors import InputError
from tests.tables import kinds_of, prepared, prepared_file, small_table

REAL = [("credit.csv", "Status"), ("elec2.csv", "class"), ("penguins_raw.csv", "Species")]


@pytest.mark.parametrize(("name", "target"), REAL)
def test_fault_10_the_report_is_plain_json_and_keeps_its_schema(real_tables: Path, name: str, target: str) -> None:
    report = prepared_file(real_tables / name, target).quality
    text = json.dumps(msgspec.to_builtins(report), allow_nan=False)
    assert msgspec.json.decode(text, type=QualityReport, strict=True) == report
    assert _types(json.loads(text)) <= {str, int, float, bool, type(None)}
    assert _types(msgspec.to_builtins(report)) <= {str, int, float, bool, type(None)}


def _types(node: Any) -> set[type]:
    if isinstance(node, dict):
        return set().union(*map(_types, node.values()))
    return set().union(*map(_types, node)) if isinstance(node, list) else {type(node)}


def test_the_report_of_credit_counts_what_is_in_the_file(real_tables: Path) -> None:
    report = prepared_file(real_tables / "credit.csv", "Status").quality
    assert (report.rows, report.columns, report.duplicates, report.level) == (4454, 14, 2, "ok")
    assert [(share.label, share.rows) for share in report.target_balance] == [("bad", 1254), ("good", 3200)]
    income = next(column for column in report.column_reports if column.name == "Income")
    assert (income.kind, income.missing, income.minimum, income.maximum) == ("numeric", 381, 6.0, 959.0)


def test_constants_and_ranges_of_dates_are_in_the_report(real_tables: Path) -> None:
    report = prepared_file(real_tables / "penguins_raw.csv", "Species").quality
    assert report.constants == ["Region", "Stage"]
    eggs = next(column for column in report.column_reports if column.name == "Date Egg")
    assert (eggs.minimum, eggs.maximum) == ("2007-11-09T00:00:00", "2009-12-01T00:00:00")


def test_fault_11_duplicates_over_the_threshold_warn() -> None:
    frame = pd.concat([small_table(100), small_table(100)], ignore_index=True)
    report = prepared(frame).quality
    assert (report.duplicates, report.duplicate_share, report.level) == (100, 0.5, "warn")
    assert "duplicates" in {finding.code for finding in report.findings}
    assert prepared(frame, data_quality={"duplicate_threshold": 0.6}).quality.level == "ok"


def test_rows_that_differ_in_the_target_alone_are_no_duplicates() -> None:
    frame = small_table(100)
    other = frame.assign(target=np.where(frame["target"] == "yes", "no", "yes"))
    assert prepared(pd.concat([frame, other], ignore_index=True)).quality.duplicates == 0


def test_fault_11_rows_without_a_target_are_set_aside_with_the_reason() -> None:
    frame = small_table(200)
    frame.loc[[3, 5, 8], "target"] = [None, "  ", np.nan]
    result = prepared(frame)
    assert len(result.frame) == len(result.target) == 197
    assert result.quarantine.index.tolist() == [3, 5, 8]
    assert set(result.quarantine["reason"]) == {"no usable value in the target 'target'"}
    assert frame.iloc[result.rows]["size"].tolist() == result.frame["size"].tolist()
    assert (result.quality.quarantined, result.quality.level) == (3, "warn")


def test_rows_without_a_time_are_set_aside_too() -> None:
    frame = small_table(200, day=np.arange(200.0))
    frame.loc[7, "day"] = np.nan
    result = prepared(frame, data_split={"time_column": "day"})
    assert result.quarantine["reason"].tolist() == ["no value in the time column"]
    assert result.classes == ("no", "yes")


def test_a_table_with_mostly_no_target_is_refused() -> None:
    frame = small_table(300)
    frame.loc[:199, "target"] = None
    with pytest.raises(InputError, match=r"67% of the rows have no target.*maximum_quarantined_share = 0\.5"):
        prepared(frame)


def test_quarantined_rows_are_written_whole_and_never_over_others(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["x\ny", "é"], "reason": ["one", "two"]})
    paths = [write_quarantine(frame, tmp_path / "quarantine", "run") for _ in range(3)]
    assert [path.name for path in paths] == ["run.csv", "run-2.csv", "run-3.csv"]
    assert pd.read_csv(paths[0]).equals(frame)
    assert len(list((tmp_path / "quarantine").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "sections", "sentence"),
    [
        ({}, {"target": "Target"}, r"no column 'Target' \(target_column\); did you mean 'target'"),
        ({"target": "yes"}, {}, r"has one class only \('yes'\)"),
        ({"target": None}, {}, "no row has a value in the target 'target'"),
        ({"target": list(map(str, range(200)))}, {}, "class '0' of 'target' has 1 rows, fewer than the 5 folds"),
        ({"target": np.linspace(0, 1, 200)}, {}, "200 distinct values, so it is a quantity; only classification"),
        ({"target": range(200)}, {}, "200 distinct values, so it is a quantity"),
        ({}, {"data_quality": {"minimum_rows": 201}}, r"200 rows with a target, fewer than .*minimum_rows = 201"),
        ({"target": ["rare"] * 3 + ["a", "b"] * 98 + ["a"]}, {}, "class 'rare' of 'target' has 3 rows, fewer than"),
        ({"size": 1, "colour": "red"}, {}, "no column is left to learn from: 'size' holds one value only"),
        ({}, {"features": {"required": ["weight"]}}, r"features\.required names 'weight'"),
        ({}, {"data_split": {"time_column": "target"}}, "both target_column and data_split"),
        ({}, {"data_split": {"time_column": "colour"}}, "'colour' holds neither numbers nor dates"),
        ({}, {"data_split": {"time_column": "colours"}}, r"\(data_split\.time_column\); did you mean 'colour'"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(change: Any, sections: Any, sentence: str) -> None:
    frame = small_table(200)
    with pytest.raises(InputError, match=sentence) as caught:
        prepared(frame.assign(**change), **sections)
    assert str(caught.value).startswith("table.csv") or "features" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_quantity_for_a_target_is_told_of_a_real_table(real_tables: Path) -> None:
    with pytest.raises(InputError, match="only classification is supported"):
        prepared_file(real_tables / "diamonds.csv", "price")


@pytest.mark.parametrize(
    "leak",
    [
        lambda frame: np.where(frame["target"] == "yes", "paid", "unpaid"),
        lambda frame: (frame["target"] == "yes") * 3.0 + np.linspace(0, 1, len(frame)),
        lambda frame: frame["target"] == "yes",
    ],
)
def test_a_column_that_gives_the_target_away_is_suspected(leak: Any) -> None:
    frame = small_table(400)
    frame.insert(0, "outcome", leak(frame))
    report = prepared(frame).quality
    assert [suspect.column for suspect in report.suspected_leaks] == ["outcome"]
    assert report.level == "warn"
    assert kinds_of(prepared(frame, data_quality={"leak_policy": "drop"}))["outcome"] == "suspected_leak"
    with pytest.raises(QualityError, match="column 'outcome' tells the target almost alone") as caught:
        prepared(frame, data_quality={"leak_policy": "refuse"})
    assert caught.value.report.level == "refuse"


def test_a_rare_class_makes_no_leak_of_a_column_that_says_nothing() -> None:
    frame = small_table(2600, dull=lambda rng, n: rng.choice(["a", "b"], n))
    frame["target"] = np.where(np.arange(2600) % 130 == 0, "fraud", "fine")
    report = prepared(frame).quality
    assert report.suspected_leaks == []
    assert "rare_class" in {finding.code for finding in report.findings}


def test_many_levels_make_no_leak() -> None:
    frame = small_table(600, who=lambda rng, n: [f"u{k}" for k in rng.integers(0, 300, n)])
    assert prepared(frame).quality.suspected_leaks == []


def test_real_tables_have_no_suspects(real_tables: Path) -> None:
    for name, target in REAL:
        assert prepared_file(real_tables / name, target).quality.suspected_leaks == []


def test_the_order_of_time_is_told() -> None:
    frame = small_table(200, day=lambda rng, n: rng.permutation(n).astype(float))
    order = prepared(frame, data_split={"time_column": "day"}).quality.time_order
    assert order is not None
    assert (order.sorted, order.first, order.last, order.distinct) == (False, 0.0, 199.0, 200)
