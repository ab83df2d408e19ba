"""The tests that a drift check makes: of distributions, and of shares of rows (missing, or of unseen levels)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET, UnsetType

from models.binning import Counts
from monitoring.drift_report import ShareChange
from monitoring.drift_statistics import two_proportions
from monitoring.window_profile import Layout, WindowProfile


@dataclass(frozen=True, slots=True)
class DriftTest:
    """One entry of the adjustment. `part` is the distribution's position in the layout; -1 for a share."""

    owner: str
    name: str
    part: int
    statistic: float
    p_value: float
    effect: float
    adjusted: float = 1.0
    drifted: bool = False
    share: ShareChange | None = None

    @property
    def is_share(self) -> bool:
        return self.part < 0


class Shares:
    """Shares of rows (missing, or of unseen levels) by feature: counts of the reference, then of the window."""

    def __init__(self, what: str, owners: list[str], count: Counts, rows: Counts, count_now: Counts, rows_now: Counts):
        self.what = what
        self.positions = {owner: index for index, owner in enumerate(owners)}
        self.before = (count / np.maximum(rows, 1)).tolist()
        self.after = (count_now / np.maximum(rows_now, 1)).tolist()
        z, p, h = two_proportions(count, rows, count_now, rows_now)
        self.z, self.p, self.h = z.tolist(), p.tolist(), h.tolist()

    def tests(self) -> Iterator[DriftTest]:
        """Tests of the shares that differ; of unseen levels only of more than expected: training rows show fewer."""
        for owner, i in self.positions.items():
            if self.z[i] > 0.0 or (self.z[i] < 0.0 and self.what == "missing"):
                share = ShareChange(reference=self.before[i], window=self.after[i])
                yield DriftTest(owner, self.what, -1, self.z[i], self.p[i], abs(self.h[i]), share=share)

    def change(self, owner: str, judged: Mapping[str, Sequence[DriftTest]]) -> ShareChange | UnsetType:
        """How the share of `owner` changed, with the verdict where it was tested; UNSET where it has none."""
        index = self.positions.get(owner)
        if index is None:
            return UNSET
        for test in judged.get(owner, ()):
            if test.name == self.what:
                return ShareChange(
                    reference=self.before[index],
                    window=self.after[index],
                    p_value=test.p_value,
                    adjusted_p_value=test.adjusted,
                    cohens_h=test.effect,
                    drift_detected=test.drifted,
                )
        return ShareChange(reference=self.before[index], window=self.after[index])


NOT_TESTED = DriftTest(owner="", name="none", part=-1, statistic=0.0, p_value=1.0, effect=0.0)


def missing_shares(layout: Layout, window: WindowProfile) -> Shares:
    """Of all features; infinite values count as missing, as the model sees them."""
    names = [feature.name for feature in layout.reference.features]
    rows, rows_now = np.full(len(names), layout.reference.rows), np.full(len(names), window.rows)
    return Shares("missing", names, layout.missing, rows, window.missing + window.infinite, rows_now)


def unseen_shares(layout: Layout, window: WindowProfile) -> Shares:
    """Of categorical features; what is expected is Good and Turing's share."""
    parts = [part for part in layout.parts if part.levels is not None]
    rare = [part.levels.rare_rows for part in parts if part.levels is not None]
    unseen = [window.counts[part.stop - 1] for part in parts]
    known = [sum(part.counts) for part in parts]
    rows_now = [window.counts[part.start : part.stop].sum() for part in parts]
    counts = [np.array(column, dtype=np.int64) for column in (rare, known, unseen, rows_now)]
    return Shares("unseen", [part.owner for part in parts], *counts)


def by_owner(tests: Iterable[DriftTest]) -> dict[str, list[DriftTest]]:
    owners: dict[str, list[DriftTest]] = {}
    for test in tests:
        owners.setdefault(test.owner, []).append(test)
    return owners
