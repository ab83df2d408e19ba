"""Bins are learnt from training data alone, and counting in them is exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.binning import Binner, Bins, Numbers, learn_bins

ANY = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=False, width=64)
CLOSE = st.integers(-40, 40).map(lambda value: value / 8.0)


def expected_counts(bins: Bins, values: Numbers) -> list[int]:
    finite = values[np.isfinite(values)]
    found: list[int] = np.bincount(np.searchsorted(bins.edges, finite, "right"), minlength=bins.count).tolist()
    return found


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.integers(0, 300), elements=st.one_of(ANY, CLOSE)),
    arrays(np.float64, st.integers(0, 300), elements=st.one_of(ANY, CLOSE)),
)
def test_counts_equal_a_search_for_each_value(training: Numbers, window: Numbers) -> None:
    bins = learn_bins(training)
    for values in (training, window):
        counted = Binner(bins).count(values)
        assert counted.bins.tolist() == expected_counts(bins, values)
        assert counted.missing == np.isnan(values).sum()
        assert counted.infinite == np.isinf(values).sum()


@pytest.mark.parametrize("shape", ["normal", "skewed", "integers", "decimals", "far", "zeros", "tails", "tiny"])
def test_counts_are_exact_for_columns_of_every_shape_over_several_chunks(shape: str) -> None:
    rng = np.random.default_rng(3)
    draws: dict[str, Callable[[int], Numbers]] = {
        "normal": lambda n: rng.normal(size=n),
        "skewed": lambda n: np.exp(3.0 * rng.normal(size=n)),
        "integers": lambda n: rng.integers(-9, 10, n).astype(np.float64),
        "decimals": lambda n: np.round(rng.normal(size=n), 1),
        "far": lambda n: 1e9 + rng.normal(size=n),
        "zeros": lambda n: np.where(rng.random(n) < 0.6, 0.0, rng.exponential(1e3, n)),
        "tails": lambda n: rng.standard_cauchy(n),
        "tiny": lambda n: rng.normal(size=n) * 1e-300,
    }
    draw = draws[shape]
    bins = learn_bins(draw(6_400))
    window = draw(150_000)
    window[::1_000] = np.nan
    window[5::30_000] = np.inf
    window[::7_000] = bins.edges[len(bins.edges) // 2]
    assert Binner(bins).count(window).bins.tolist() == expected_counts(bins, window)


def test_a_continuous_column_has_64_bins_of_equal_mass_between_two_open_ones() -> None:
    training = np.random.default_rng(0).normal(size=6_400)
    bins = learn_bins(training)
    counts = Binner(bins).count(training).bins
    assert len(counts) == 66
    assert counts[0] == counts[-1] == 0
    assert abs(counts[1:-1] - 100).max() <= 10
    assert bins.edges[0] == training.min()
    assert bins.edges[-1] == np.nextafter(training.max(), np.inf)


def test_a_value_with_a_64th_of_the_mass_has_a_bin_of_its_own() -> None:
    training = np.concatenate([np.zeros(100), np.random.default_rng(0).exponential(size=6_300)])
    bins = learn_bins(training)
    atom = Binner(bins).count(np.zeros(10)).bins
    moved = Binner(bins).count(np.full(10, 1e-12)).bins
    assert atom.max() == moved.max() == 10
    assert atom.argmax() != moved.argmax()


@pytest.mark.parametrize("training", [[], [np.nan, np.nan], [np.inf, -np.inf]])
def test_a_column_without_values_has_one_bin_that_takes_everything(training: list[float]) -> None:
    bins = learn_bins(np.array(training, dtype=np.float64))
    assert bins == Bins()
    counted = Binner(bins).count(np.array([1.0, np.nan, np.inf, -3.0]))
    assert (counted.bins.tolist(), counted.missing, counted.infinite) == ([2], 1, 1)


def test_sums_are_of_values_clipped_to_the_range_of_training() -> None:
    binner = Binner(learn_bins(np.linspace(0.0, 10.0, 1_000)))
    counted = binner.count(np.array([5.0, 1e300, -1e300, np.inf, np.nan]))
    assert counted.clipped_sum == pytest.approx(15.0)
