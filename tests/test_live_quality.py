"""Warned rows against held-out rows: quiet windows stay quiet, a client that goes wrong is found."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import binomtest, chi2_contingency

from models.encoding import RawColumn
from models.reference import WarnedRows
from models.row_warnings import WarningRules
from models.schema import Feature, Schema
from monitoring.drift_report import DriftThresholds
from monitoring.live_quality import quality_findings, warned_shares
from monitoring.window_records import Window
from tests.logged import REFERENCE_OF_ROWS

LIMITS = DriftThresholds()
HELD_OUT = WarnedRows(rows=1_600, codes={"missing": 160, "out_of_range": 3, "unseen_category": 0})
REFERENCE = msgspec.structs.replace(REFERENCE_OF_ROWS, warned=HELD_OUT)


def window(rows: int, **warnings: int) -> Window:
    return Window(profile=None, rows=rows, unprofiled_rows=0, withheld=frozenset(), warnings=warnings)


def raised(rows: int, **warnings: int) -> list[str]:
    return [share.code for share in warned_shares(window(rows, **warnings), REFERENCE, LIMITS) if share.raised]


@pytest.mark.parametrize("rows", [60, 500, 1_000, 10_000, 100_000])
def test_quiet_windows_are_flagged_in_one_of_a_hundred_at_most(rows: int) -> None:
    """Both sides are drawn from one truth; gaps are shared by 10 % of the rows, other warnings are rare."""
    draw, flagged = np.random.default_rng(rows), 0
    for _ in range(2_000):
        truth = {"missing": 0.1, "out_of_range": 0.002, "unseen_category": 0.01}
        known = WarnedRows(rows=1_600, codes={code: int(draw.binomial(1_600, p)) for code, p in truth.items()})
        seen = window(rows, **{code: int(draw.binomial(rows, p)) for code, p in truth.items()})
        reference = msgspec.structs.replace(REFERENCE, warned=known)
        flagged += any(share.raised for share in warned_shares(seen, reference, LIMITS))
    assert flagged / 2_000 <= 0.01


@pytest.mark.parametrize(("code", "share"), [("missing", 0.25), ("out_of_range", 0.04), ("unseen_category", 0.03)])
def test_a_client_that_goes_wrong_is_found_at_a_thousand_rows(code: str, share: float) -> None:
    draw = np.random.default_rng(1)
    counts = draw.binomial(1_000, share, 500).tolist()
    quiet = {"missing": 100, "out_of_range": 2}
    assert np.mean([code in raised(1_000, **quiet | {code: count}) for count in counts]) >= 0.99


def test_a_difference_that_is_sure_but_small_or_a_fall_is_no_finding() -> None:
    assert raised(1_000_000, missing=110_000, out_of_range=1_900) == []
    assert raised(1_000_000, missing=0) == []


def test_the_p_value_is_the_larger_of_the_normal_and_the_binomial_test() -> None:
    (found,) = [s for s in warned_shares(window(1_000, missing=150), REFERENCE, LIMITS) if s.code == "missing"]
    normal = chi2_contingency([[160, 1_440], [150, 850]], correction=False).pvalue
    exact = 2.0 * binomtest(150, 310, 1_000 / 2_600, alternative="greater").pvalue
    assert found.adjusted_p_value == pytest.approx(3.0 * max(normal, exact), rel=1e-6)  # the least of three codes
    assert found.cohens_h == pytest.approx(2 * (np.arcsin(np.sqrt(0.15)) - np.arcsin(np.sqrt(0.1))))


def test_few_rows_and_older_bundles_say_nothing() -> None:
    assert warned_shares(window(49, missing=49), REFERENCE, LIMITS) == []
    assert warned_shares(window(1_000, missing=999), REFERENCE_OF_ROWS, LIMITS) == []
    assert warned_shares(window(0), REFERENCE, LIMITS) == []


def test_a_code_that_training_never_saw_counts_from_nothing() -> None:
    (found,) = quality_findings("1", window(1_000, missing=100, odd=200), REFERENCE, LIMITS)
    assert (found.kind, found.subject, found.severity) == ("data_quality", "warnings: odd", "high")
    assert found.cause == "20.0% of the rows are warned of with odd, 0.0% of those held out at training"


def test_each_code_is_an_incident_of_its_own_in_words() -> None:
    found = list(quality_findings("1", window(1_000, missing=400, out_of_range=100), REFERENCE, LIMITS))
    assert [finding.subject for finding in found] == ["warnings: missing", "warnings: out_of_range"]
    assert found[0].cause == "40.0% of the rows have a gap, 10.0% of those held out at training"
    assert len({finding.fingerprint for finding in found}) == 2


def test_rows_are_counted_once_for_each_code_as_the_server_warns() -> None:
    features = (
        Feature(name="a", kind="numeric", range=(0.0, 1.0)),
        Feature(name="b", kind="numeric", range=(0.0, 1.0)),
        Feature(name="c", kind="categorical", categories=("x", "y")),
    )
    rules = WarningRules(Schema(target="t", classes=(0, 1), features=features))
    raw: list[RawColumn] = [
        np.array([np.nan, 2.0, 0.5, 0.5]),
        np.array([np.nan, 0.5, -1.0, 0.5]),
        ["x", None, "z", "y"],
    ]
    warned = rules.count(raw)
    assert warned == WarnedRows(rows=4, codes={"missing": 2, "out_of_range": 2, "unseen_category": 1})
    assert rules.count([np.empty(0), np.empty(0), []]) == WarnedRows(rows=0, codes={})
