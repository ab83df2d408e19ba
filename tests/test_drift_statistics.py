"""Each statistic against an independent implementation, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from models.binning import Binner, Counts, Numbers, learn_bins
from models.reference import build_reference
from models.schema import Feature, Schema
from monitoring.drift_statistics import Comparison, Segments, benjamini_hochberg, compare, two_proportions
from monitoring.window_profile import Layout, profile


def numeric(training: Numbers, window: Numbers) -> tuple[Comparison, Counts, Counts]:
    """The comparison of one numeric column, and the counts of both sides."""
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="x", kind="numeric"),))
    reference = build_reference(schema, [training])
    layout = Layout(reference)
    counts = profile(reference, [window]).counts
    return compare(Segments(layout), counts, 1), layout.counts, counts


def categorical(training: list[str], window: list[str]) -> Comparison:
    schema = Schema(target="y", classes=(0, 1), features=(Feature(name="x", kind="categorical"),))
    reference = build_reference(schema, [training])
    return compare(Segments(Layout(reference)), profile(reference, [window]).counts, 1)


def binned(counts: Counts) -> Counts:
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.1, 0.5])
def test_ks_is_that_of_scipy_on_the_bins(shift: float) -> None:
    rng = np.random.default_rng(1)
    found, reference, window = numeric(rng.normal(size=6_400), rng.normal(size=2_000) + shift)
    expected = stats.ks_2samp(binned(reference), binned(window), method="asymp")
    assert found.ks[0] == pytest.approx(expected.statistic, abs=1e-12)
    effective = 6_400 * 2_000 / 8_400
    assert stats.kstwobign.sf(np.sqrt(effective) * found.ks[0]) == pytest.approx(expected.pvalue, rel=0.15)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.05, 1.0), (0.0, 1.15), (0.2, 1.3)])
def test_the_p_value_of_numbers_is_twice_the_smaller_of_ks_and_chi_squared(shift: float, scale: float) -> None:
    rng = np.random.default_rng(2)
    found, reference, window = numeric(rng.normal(size=6_400), rng.normal(size=1_500) * scale + shift)
    middle = (np.cumsum(reference) - reference / 2) / reference.sum()
    group = np.minimum((middle * 8).astype(int), 7)
    table = [np.bincount(group, weights=counts, minlength=8) for counts in (reference, window)]
    by_chi = stats.chi2_contingency(table, correction=False)
    by_ks = stats.kstwobign.sf(np.sqrt(6_400 * 1_500 / 7_900) * found.ks[0])
    assert found.chi_squared[0] == pytest.approx(by_chi.statistic)
    assert found.p_value[0] == pytest.approx(min(1.0, 2.0 * min(by_chi.pvalue, by_ks)))


def test_chi_squared_of_levels_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    training, window = rng.choice(list("abcd"), 3_000), rng.choice(list("abcd"), 700, p=[0.3, 0.3, 0.2, 0.2])
    found = categorical(training.tolist(), window.tolist())
    table = [[(side == level).sum() for level in "abcd"] for side in (training, window)]
    expected = stats.chi2_contingency(table, correction=False)
    assert found.chi_squared[0] == pytest.approx(expected.statistic)
    assert found.p_value[0] == pytest.approx(expected.pvalue)


def test_levels_of_small_expectation_are_pooled_with_unseen_ones() -> None:
    training = ["a"] * 500 + ["b"] * 480 + [f"rare{i}" for i in range(20)]
    window = ["a"] * 200 + ["b"] * 180 + ["new1", "new2", "rare3", "rare4", "rare4"] * 2
    found = categorical(training, window)
    expected = stats.chi2_contingency([[500, 480, 20], [200, 180, 10]], correction=False)
    assert found.chi_squared[0] == pytest.approx(expected.statistic)
    assert found.p_value[0] == pytest.approx(expected.pvalue)


def test_the_z_of_shares_is_the_chi_squared_of_two_by_two_and_p_at_least_the_binomial_one() -> None:
    z, p, h = two_proportions(np.array([300]), np.array([6_400]), np.array([80]), np.array([1_000]))
    expected = stats.chi2_contingency([[300, 6_100], [80, 920]], correction=False)
    assert z[0] ** 2 == pytest.approx(expected.statistic)
    assert p[0] == pytest.approx(max(expected.pvalue, 2.0 * stats.binom.sf(79, 380, 1_000 / 7_400)))
    assert h[0] == pytest.approx(2 * np.arcsin(np.sqrt(0.08)) - 2 * np.arcsin(np.sqrt(300 / 6_400)))


@pytest.mark.parametrize(("a", "of_a", "b", "of_b"), [(0, 10, 0, 10), (10, 10, 10, 10), (0, 0, 5, 10), (3, 9, 0, 0)])
def test_shares_that_cannot_differ_have_p_one(a: int, of_a: int, b: int, of_b: int) -> None:
    z, p, _ = two_proportions(*(np.array([value]) for value in (a, of_a, b, of_b)))
    assert (z[0], p[0]) == (0.0, 1.0)


def test_one_gap_in_a_small_window_is_no_proof_where_training_had_few() -> None:
    """The z-test alone says p = 1e-9; that the one gap among all rows falls in the window has probability 0.03."""
    _, p, h = two_proportions(np.array([0]), np.array([2_000]), np.array([1]), np.array([60]))
    assert h[0] > 0.2
    assert p[0] == pytest.approx(2 * 60 / 2_060)


def test_a_pool_of_too_few_takes_the_smallest_level_in() -> None:
    training = ["a"] * 900 + ["b"] * 80 + ["c"] * 20
    found = categorical(training, ["a"] * 52 + ["b"] * 6 + ["c"] * 2)
    expected = stats.chi2_contingency([[900, 100], [52, 8]], correction=False)
    assert found.chi_squared[0] == pytest.approx(expected.statistic)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), max_size=40))
def test_benjamini_hochberg_is_that_of_scipy(p_values: list[float]) -> None:
    values = np.array(p_values)
    expected = stats.false_discovery_control(values) if p_values else values
    assert benjamini_hochberg(values) == pytest.approx(expected)


def total_variation(R: Counts, W: Counts) -> tuple[float, float]:
    """Total variation over groups of a 32nd of the reference, and what samples of one distribution show of it."""
    middle = (np.cumsum(R) - R / 2) / R.sum()
    R, W = (np.bincount(np.minimum((middle * 32).astype(int), 31), weights=side) for side in (R, W))
    N, n = R.sum(), W.sum()
    q = (R + W) / (N + n)
    noise = 0.5 * np.sum(np.sqrt(2 / np.pi * q * (1 - q) * (1 / n + 1 / N)))
    return 0.5 * float(np.abs(R / N - W / n).sum()), float(noise)


@pytest.mark.parametrize("scale", [1.2, 1.5, 0.5])
def test_the_effect_is_the_total_variation_within_the_range_less_its_noise(scale: float) -> None:
    rng = np.random.default_rng(5)
    found, R, W = numeric(rng.normal(size=6_400), rng.normal(size=3_000) * scale)
    variation, noise = total_variation(R[1:-1], W[1:-1])
    inside = W[1:-1].sum() / W.sum()
    assert found.effect[0] == pytest.approx(max(found.ks[0], inside * np.sqrt(variation**2 - noise**2)))


def test_rows_outside_the_range_on_both_sides_are_an_effect_of_their_share() -> None:
    """KS sees half of them."""
    training = np.random.default_rng(6).uniform(size=6_400)
    found, _, _ = numeric(training, np.concatenate([training[:5_600], np.full(400, -9.0), np.full(400, 9.0)]))
    assert found.ks[0] == pytest.approx(400 / 6_400, abs=1e-3)
    assert found.effect[0] == pytest.approx(800 / 6_400)


@pytest.mark.parametrize("training", [np.full(500, 7.0), np.full(500, np.finfo(np.float64).max)])
def test_a_constant_that_scatters_to_both_sides_is_drift_as_a_whole(training: Numbers) -> None:
    found, _, _ = numeric(training, training * np.repeat([0.5, -0.5], 250) + np.repeat([9.0, -9.0], 250))
    assert found.effect[0] == 1.0


def test_the_effect_of_no_drift_is_small_where_total_variation_is_not() -> None:
    rng = np.random.default_rng(6)
    effects, variations = [], []
    for _ in range(20):
        found, R, W = numeric(rng.normal(size=6_400), rng.normal(size=500))
        effects.append(found.effect[0])
        variations.append(0.5 * np.abs(R / R.sum() - W / W.sum()).sum())
    assert np.mean(effects) < 0.05 < 0.12 < np.mean(variations)


def test_wasserstein_is_that_of_scipy_on_clipped_values() -> None:
    rng = np.random.default_rng(7)
    training, window = rng.exponential(10.0, 6_400), rng.exponential(14.0, 4_000)
    expected = stats.wasserstein_distance(training, np.clip(window, training.min(), training.max()))
    assert numeric(training, window)[0].wasserstein[0] == pytest.approx(expected, rel=0.1)


def test_psi_is_finite_where_a_group_is_empty_on_one_side() -> None:
    found = categorical(["a"] * 500 + ["b"] * 500, ["c"] * 500)
    assert 1.0 < found.psi[0] < 50.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 60]), st.sampled_from([0, 1, 60]))
def test_every_figure_is_finite_and_in_its_range(seed: int, of_training: int, of_window: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.array([0.0, -0.0, 1.0, 1e308, -1e308, 5e-324, np.inf, np.nan, 2.5])
    found, _, _ = numeric(rng.choice(values, of_training), rng.choice(values, of_window))
    for figures in (found.ks, found.p_value, found.effect):
        assert ((figures >= 0.0) & (figures <= 1.0 + 1e-9)).all()
    assert np.isfinite([found.chi_squared, found.psi, found.wasserstein]).all()


def test_numbers_beyond_the_range_of_training_fall_in_open_bins() -> None:
    binner = Binner(learn_bins(np.linspace(0.0, 1.0, 640)))
    counts = binner.count(np.array([-5.0, 7.0, 8.0])).bins
    assert (counts[0], counts[-1]) == (1, 2)
