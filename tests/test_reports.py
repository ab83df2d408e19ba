"""The drift report as people read it."""

from __future__ import annotations

import msgspec
import numpy as np

from monitoring.reports import drift_text
from monitoring.window_profile import profile
from tests import drift_rows
from tests.drift_rows import detect


def test_a_drifted_window_is_told_in_words_and_ranked_by_effect() -> None:
    columns = drift_rows.draw(1_000, 2)
    income, gaps = np.array(columns["income"]) * 1.2, np.array(columns["gaps"]) + 2.0
    text = drift_text(
        drift_rows.check(drift_rows.reference(), changes={"income": income, "gaps": gaps}),
        "production_model 3",
        "new.csv",
    )
    lines = text.splitlines()
    assert lines[0] == "DRIFT REPORT of new.csv against production_model 3"
    assert "Drift: YES, critical" in text
    assert "  - income up: median" in text
    table = lines[next(i for i, line in enumerate(lines) if "effect" in line) + 1 :]
    assert [line.split()[0] for line in table[:2]] == ["gaps", "income"]


def test_what_matters_to_the_model_comes_first_where_that_is_known() -> None:
    columns = drift_rows.draw(1_000, 2)
    moved = {"income": np.array(columns["income"]) * 1.2, "gaps": np.array(columns["gaps"]) + 2.0}
    known = msgspec.structs.replace(drift_rows.reference(), importance={"income": 0.98, "gaps": 0.01})
    report = drift_rows.check(known, changes=moved)
    assert report.drifted_features == ["income", "gaps"]
    assert report.severity == "critical"  # of gaps: importance ranks, and excuses nothing
    lines = drift_text(report).splitlines()
    heading = next(i for i, line in enumerate(lines) if "effect  importance  severity" in line)
    assert [line.split()[0] for line in lines[heading + 1 : heading + 3]] == ["income", "gaps"]
    assert "98.0%" in lines[heading + 1]
    assert "importance" not in drift_text(drift_rows.check(drift_rows.reference(), changes=moved))


def test_a_quiet_window_says_no() -> None:
    assert "Drift: no (score 0." in drift_text(drift_rows.check(drift_rows.reference()))


def test_too_few_rows_say_not_known() -> None:
    text = drift_text(drift_rows.check(drift_rows.reference(), rows=20))
    assert "Drift: not known" in text
    assert "Not enough data: 20 rows" in text


def test_prediction_drift_has_its_own_part() -> None:
    reference = drift_rows.reference()
    raw = list(drift_rows.draw(1_000, 2).values())
    report = detect(reference, profile(reference, raw, drift_rows.probabilities(1_000, 3, 0.8)), drift_rows.NOW)
    assert "Prediction drift: YES (1,000 answers, 1,600 on held-out rows)" in drift_text(report)


def test_a_long_table_is_cut_but_never_the_drifted_ones() -> None:
    columns = drift_rows.draw(1_000, 2)
    report = drift_rows.check(drift_rows.reference(), changes={"income": np.array(columns["income"]) * 2.0})
    text = drift_text(report, most=1)
    assert "income" in text
    assert "… and 6 more without drift" in text
