"""The monitoring profile: what it holds, and that it survives its file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.reference import (
    ReferenceFormatError,
    build_reference,
    decode_reference,
    encode_reference,
    level_counts,
)
from models.schema import Feature, Schema
from tests import drift_rows


def test_a_reference_comes_back_whole_from_its_file() -> None:
    reference = drift_rows.reference()
    assert decode_reference(encode_reference(reference)) == reference


def test_the_file_holds_counts_and_no_rows() -> None:
    tree = json.loads(encode_reference(drift_rows.reference(rows=20_000)))
    longest = max(len(f["numbers"]["counts"]) for f in tree["features"] if "numbers" in f)
    assert longest <= 2 + 2 * 64
    assert len(encode_reference(drift_rows.reference(rows=20_000))) < 10_000


def test_a_newer_format_is_refused() -> None:
    tree = json.loads(encode_reference(drift_rows.reference())) | {"format_version": 99}
    with pytest.raises(ReferenceFormatError, match="format 99"):
        decode_reference(json.dumps(tree).encode())


def test_a_torn_file_is_refused() -> None:
    with pytest.raises(ReferenceFormatError, match="not valid"):
        decode_reference(encode_reference(drift_rows.reference())[:-20])


def test_numbers_of_any_size_leave_finite_figures() -> None:
    awful = np.array([1e308, -1e308, 1e-308, np.inf, np.nan, 1.7e308] * 50)
    reference = drift_rows.reference(rows=300, changes={"income": awful})
    assert b"null" not in encode_reference(reference).split(b'"metrics"')[0]
    numbers = reference.features[0].numbers
    assert numbers is not None
    assert np.isfinite([numbers.mean, numbers.sd, numbers.minimum, numbers.maximum]).all()


def test_missing_and_infinite_values_are_counted_apart() -> None:
    reference = drift_rows.reference(rows=300, changes={"income": np.array([1.0, np.nan, np.inf] * 100)})
    assert (reference.features[0].missing, reference.features[0].infinite) == (100, 100)


def test_levels_stand_with_their_counts_and_the_rare_rows() -> None:
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="c", kind="categorical"),))
    levels = build_reference(schema, [["b", "a", "a", None, "c", "a", "b"]]).features[0].levels
    assert levels is not None
    assert (levels.levels, levels.counts, levels.rare_rows) == (("a", "b", "c"), (3, 2, 1), 1)


def test_not_a_number_among_levels_is_missing() -> None:
    assert level_counts(["a", None, float("nan"), "a"]) == ({"a": 2}, 2)  # type: ignore[list-item]


def test_scores_of_two_classes_are_those_of_the_last_one() -> None:
    scores = drift_rows.reference().scores
    assert scores is not None
    assert list(scores.scores) == ["probability of yes"]
    assert sum(scores.predicted) == scores.rows == 1_600


def test_scores_of_many_classes_have_the_highest_probability_first() -> None:
    schema = Schema(target="y", classes=("a", "b", "c"), features=())
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    scores = build_reference(schema, [], probabilities).scores
    assert scores is not None
    names = ["highest probability", "probability of a", "probability of b", "probability of c"]
    assert list(scores.scores) == names


def test_calibration_bins_say_how_often_the_model_was_right() -> None:
    scores = drift_rows.reference().scores
    assert scores is not None
    assert sum(one.rows for one in scores.calibration) == 1_600
    assert all(abs(one.mean_confidence - one.share_right) < 0.1 for one in scores.calibration if one.rows > 200)


def test_metrics_that_are_not_known_are_null() -> None:
    schema = Schema(target="y", classes=(0, 1), features=())
    reference = build_reference(schema, [], metrics={"roc_auc": float("nan"), "f1": 0.5})
    assert reference.metrics == {"roc_auc": None, "f1": 0.5}


def test_lags_are_to_the_latest_date_of_the_row() -> None:
    features = {feature.name: feature for feature in drift_rows.reference().features}
    dates = features["ordered"].dates
    assert dates is not None and dates.lag is not None
    assert dates.lag.mean == pytest.approx(3.0 * 86_400.0, rel=0.05)


def test_one_date_without_a_moment_has_no_lag() -> None:
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="d", kind="datetime"),))
    dates = build_reference(schema, [np.arange(100.0) * 3_600.0]).features[0].dates
    assert dates is not None and dates.lag is None


def test_a_moment_for_each_row_gives_every_date_a_lag() -> None:
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="d", kind="datetime"),))
    seconds = np.arange(100.0) * 3_600.0
    dates = build_reference(schema, [seconds], moments=seconds + 60.0).features[0].dates
    assert dates is not None and dates.lag is not None
    assert dates.lag.mean == 60.0
