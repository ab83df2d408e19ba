"""Concept drift: found where answers turn wrong on rows that should be right, and told apart from data drift."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from monitoring.concept_drift import (
    ConceptDrift,
    check_concept_drift,
    concept_drift_finding,
    is_drop,
    lower_tail,
    strong_data_drift_is_open,
)
from monitoring.incidents import Finding, Incidents, Severity
from monitoring.performance_estimation import LabelledEstimates
from monitoring.store import Store
from tests.made_hours import PROFILE, put_outcomes

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def one(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Store]:
    path = tmp_path / "one.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    with Store(f"sqlite:///{path}") as opened:
        yield opened


def check(store: Store, *, strong: bool = False, version: str = "1") -> ConceptDrift:
    return check_concept_drift(store, version, NOON, NOON + HOUR, NOON + HOUR, PROFILE, strong_data_drift=strong)


def labelled(c: NDArray[np.float64], right: NDArray[np.bool_]) -> LabelledEstimates:
    return LabelledEstimates(
        labels=len(c), right=int(right.sum()), expected=float(c.sum()), variance=float((c * (1 - c)).sum())
    )


def rate(repeats: int, drop: float, seed: int) -> float:
    """How often 2,000 labels of 85 % accuracy less `drop` are an alarm; the estimate is off as N rows leave it."""
    random, found = np.random.default_rng(seed), 0
    for _ in range(repeats):
        c = random.beta(4.25, 0.75, 2_000)
        off = random.normal(0, np.sqrt(0.85 * 0.15 / PROFILE.rows))
        window = labelled(c, random.random(2_000) < c + off - drop)
        found += is_drop(window, window.z(PROFILE))
    return found / repeats


def test_four_points_less_on_2000_labels_are_found() -> None:
    assert rate(400, 0.04, 1) >= 0.95


def test_nothing_changed_is_no_alarm() -> None:
    assert rate(2_000, 0.0, 2) <= 0.005


def test_z_is_that_of_a_poisson_binomial_with_the_error_models_own_doubt(store: Store) -> None:
    random = np.random.default_rng(3)
    c = random.uniform(0.7, 1.0, 900)
    right = random.random(900) < c - 0.1
    put_outcomes(store, NOON, c, right)
    found = check(store)
    error = np.sqrt((c * (1 - c)).sum() / 900**2 + 0.85 * 0.15 / 8_000)
    z = (right.mean() - c.mean()) / error
    assert found.z == pytest.approx(z, abs=1e-3)
    assert found.p_value == pytest.approx(stats.norm.cdf(z), rel=1e-2)
    assert (found.status, found.labels) == ("drift", 900)
    assert found.drop == pytest.approx(c.mean() - right.mean(), abs=1e-5)


@pytest.mark.parametrize("z", [-40.0, -8.0, -3.09, 0.0, 1.0, 9.0, -np.inf])
def test_the_tail_is_that_of_scipy(z: float) -> None:
    assert lower_tail(z) == pytest.approx(stats.norm.cdf(z), rel=1e-9)


def test_a_drop_under_2_points_is_none_however_sure() -> None:
    c = np.full(200_000, 0.9)
    exact = labelled(c, np.arange(len(c)) < 0.885 * len(c))
    assert lower_tail(exact.z(PROFILE)) < 0.001 and not is_drop(exact, exact.z(PROFILE))


def test_with_strong_data_drift_a_drop_is_not_separable_and_no_finding(one: Store) -> None:
    put_outcomes(one, NOON, np.full(2_000, 0.9), np.arange(2_000) < 1_600)
    found = check(one, strong=True)
    assert found.status == "not_separable" and "not separable" in found.words
    assert concept_drift_finding(found) is None
    put_outcomes(one, NOON, np.full(2_000, 0.9), np.arange(2_000) < 1_800, "2")
    assert check(one, strong=True, version="2").status == "none"


@pytest.mark.parametrize(
    ("severity", "version", "strong"),
    [("critical", "1", True), ("high", "1", True), ("medium", "1", False), ("critical", "2", False)],
)
def test_data_drift_is_strong_while_a_high_incident_of_the_version_is_unresolved(
    one: Store, severity: Severity, version: str, strong: bool
) -> None:
    incidents = Incidents(one)
    opened = incidents.report(
        Finding(kind="data_drift", severity=severity, cause="c", next="n", model_version=version), NOON
    )
    assert strong_data_drift_is_open(one, "1") == strong
    incidents.acknowledge(opened.id, NOON)
    assert strong_data_drift_is_open(one, "1") == strong
    incidents.resolve(opened.id, NOON)
    assert not strong_data_drift_is_open(one, "1")


@pytest.mark.parametrize(("right", "severity"), [(1_720, "medium"), (1_690, "high"), (1_500, "critical")])
def test_a_finding_says_size_evidence_and_what_to_do(one: Store, right: int, severity: str) -> None:
    put_outcomes(one, NOON, np.full(2_000, 0.9), np.arange(2_000) < right)
    finding = concept_drift_finding(check(one))
    assert finding is not None
    assert (finding.kind, finding.severity, finding.model_version) == ("concept_drift", severity, "1")
    assert finding.next == "python main.py retrain" and finding.evidence["labels"] == 2_000
    assert f"{right / 20:.1f}% of 2,000 answers turned out right" in finding.cause and "90.0%" in finding.cause
    assert Incidents(one).report(finding, NOON).kind == "concept_drift"


def test_few_labels_and_no_error_model_are_said_and_are_no_finding(one: Store) -> None:
    put_outcomes(one, NOON, np.full(99, 0.9), np.zeros(99, bool))
    few = check(one)
    assert (few.status, few.z) == ("not_enough_data", None) and "99 rows" in few.words
    without = check_concept_drift(one, "1", NOON, NOON + HOUR, NOON, None, strong_data_drift=False)
    assert without.status == "no_error_model"
    assert concept_drift_finding(few) is None and concept_drift_finding(without) is None
    assert check(one, version="nobody").labels == 0


def test_all_right_and_all_wrong_have_a_verdict(one: Store) -> None:
    put_outcomes(one, NOON, np.ones(500), np.ones(500, bool))
    assert check(one).status == "none"
    put_outcomes(one, NOON, np.ones(500), np.zeros(500, bool), "2")
    worst = check(one, version="2")
    assert worst.status == "drift" and worst.p_value == 0.0
