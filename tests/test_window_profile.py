"""Counts of a window: they add up, survive the store, and never mix references."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.profile_codec import decode_profile, encode_profile, merge_encoded
from monitoring.window_profile import ProfileError, Profiler, WindowProfile, merge
from tests import drift_rows


def same(a: WindowProfile, b: WindowProfile) -> bool:
    arrays = ("counts", "missing", "infinite", "earliest", "latest")
    equal = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)
    return equal and (a.rows, a.scored_rows) == (b.rows, b.scored_rows) and np.allclose(a.sums, b.sums)


def window(profiler: Profiler, rows: int, seed: int) -> WindowProfile:
    raw = list(drift_rows.draw(rows, seed).values())
    return profiler.profile(raw, drift_rows.probabilities(rows, seed))


def test_profiles_of_parts_add_up_to_the_profile_of_the_whole() -> None:
    profiler = Profiler(drift_rows.reference())
    columns, scores = drift_rows.draw(1_000, 5), drift_rows.probabilities(1_000, 5)
    whole = profiler.profile(list(columns.values()), scores)
    parts = [
        profiler.profile([values[cut] for values in columns.values()], scores[cut])
        for cut in (slice(0, 7), slice(7, 600), slice(600, 1_000))
    ]
    assert same(merge(parts), whole)


def test_merging_leaves_the_parts_as_they_were() -> None:
    profiler = Profiler(drift_rows.reference())
    first, second = window(profiler, 100, 1), window(profiler, 100, 2)
    before = first.counts.copy()
    merge([first, second])
    assert first.rows == 100 and np.array_equal(first.counts, before)


def test_a_profile_comes_back_whole_from_its_blob() -> None:
    profiler = Profiler(drift_rows.reference())
    stored = window(profiler, 70_000, 3)
    assert same(decode_profile(encode_profile(stored), profiler.layout), stored)


def test_an_empty_window_comes_back_whole() -> None:
    profiler = Profiler(drift_rows.reference())
    assert same(decode_profile(encode_profile(profiler.empty()), profiler.layout), profiler.empty())


def test_blobs_of_every_size_add_up_as_their_profiles_do() -> None:
    profiler = Profiler(drift_rows.reference())
    parts = [window(profiler, rows, seed) for seed, rows in enumerate((1, 90, 90, 40_000, 0, 700))]
    assert same(merge_encoded(map(encode_profile, parts), profiler.layout), merge(parts))
    assert same(merge_encoded([], profiler.layout), profiler.empty())


def test_an_hour_of_few_rows_is_a_small_blob() -> None:
    profiler = Profiler(drift_rows.reference())
    assert len(encode_profile(window(profiler, 200, 1))) < profiler.layout.cells + 400


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
def test_a_torn_blob_is_refused(cut: int) -> None:
    profiler = Profiler(drift_rows.reference())
    with pytest.raises(ProfileError):
        decode_profile(encode_profile(window(profiler, 100, 1))[:cut], profiler.layout)


def test_profiles_of_different_references_do_not_mix() -> None:
    one, other = Profiler(drift_rows.reference()), Profiler(drift_rows.reference(rows=500))
    with pytest.raises(ProfileError, match="different references"):
        merge([window(one, 100, 1), window(other, 100, 1)])
    with pytest.raises(ProfileError, match="another reference"):
        decode_profile(encode_profile(window(one, 100, 1)), other.layout)


def test_a_column_that_the_window_lacks_is_all_missing() -> None:
    profiler = Profiler(drift_rows.reference())
    counted = profiler.profile([None if n == "income" else v for n, v in drift_rows.draw(80, 1).items()])
    assert counted.missing[0] == counted.rows == 80


def test_columns_of_different_length_are_refused() -> None:
    profiler = Profiler(drift_rows.reference())
    columns = drift_rows.draw(80, 1) | {"income": np.ones(79)}
    with pytest.raises(ValueError, match="differ in length"):
        profiler.profile(list(columns.values()))


def test_unseen_levels_share_one_cell() -> None:
    profiler = Profiler(drift_rows.reference())
    columns = drift_rows.draw(3, 1) | {"home": ["van", "boat", "rent"]}
    counted = profiler.profile(list(columns.values()))
    part = next(part for part in profiler.layout.parts if part.owner == "home")
    assert counted.counts[part.stop - 1] == 2
