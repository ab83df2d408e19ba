"""Do clients send what the model cannot take? Findings of the kind `data_quality`, for each field and rule.

A refused row is in no profile and no drift, because it was never answered: what its sender did wrong shows here alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np
from msgspec import Struct

from monitoring.drift_report import DriftThresholds
from monitoring.drift_statistics import benjamini_hochberg, two_proportions
from monitoring.incidents import Finding, Incident, fingerprint_of
from monitoring.live_quality import severity_of_shares
from monitoring.refusal_lines import ALL, RULES
from monitoring.refused_hours import RefusedHour, refused
from monitoring.store import Store
from monitoring.window_records import answered_hours, hour_start

#: Fewer refused requests are somebody who tries, whatever their share: one batch alone may bring 20 rows.
LEAST_REQUESTS = 10
#: What was usual is told from so long before the window.
USUAL = timedelta(days=14)
#: Rules that a feature may break, and those of rows as a whole: so many pairs of field and rule are looked at.
_OF_FEATURES, _OF_ROWS = 3, 4
_Pair = tuple[str, str]


class RefusedCounts(Struct, frozen=True, kw_only=True):
    """Rows refused over one field and rule in a window and before it, each out of all rows that were sent."""

    field: str
    rule: str
    rows: int
    #: In which those rows came.
    requests: int
    of: int
    before: int
    of_before: int


class RefusedShare(Struct, frozen=True, kw_only=True):
    counts: RefusedCounts
    share: float
    usual: float
    adjusted_p_value: float
    #: Positive when the window has more.
    cohens_h: float
    #: Significantly and materially more than before, in enough requests.
    raised: bool


def refused_shares(counts: Sequence[RefusedCounts], pairs: int, thresholds: DriftThresholds) -> list[RefusedShare]:
    """How often rows were refused, against what was usual.

    Two-proportion z-test of each field and rule (`drift_statistics.two_proportions`), the p-values adjusted over all
    `pairs` that could have been broken (Benjamini and Hochberg 1995; those that were not have p = 1). Raised when the
    adjusted p is under `p_value` AND Cohen's h is at least `share_effect` (0.2: 0 to 1 %, 1 % to 4 %, 10 % to 17 %) AND
    there were `LEAST_REQUESTS` requests. The h is that of the warnings of `live_quality`, so that a row sent wrong is
    material where a row warned of is.

    Where fewer than `least_rows` rows are known from before, none of so many was refused. Of a window of fewer rows
    nothing is told.
    """
    known = [one for one in counts if one.of >= thresholds.least_rows]
    if not known:
        return []
    before, rows, of = (
        np.array([getattr(one, name) for one in known], dtype=np.int64) for name in ("before", "rows", "of")
    )
    of_before = np.array([max(one.of_before, thresholds.least_rows) for one in known], dtype=np.int64)
    _, p_values, h = two_proportions(before, of_before, rows, of)
    others = np.ones(max(0, pairs - len(known)))
    adjusted = benjamini_hochberg(np.concatenate([p_values, others]))[: len(known)]
    return [
        RefusedShare(
            counts=one,
            share=one.rows / one.of,
            usual=float(before[i] / of_before[i]),
            adjusted_p_value=float(adjusted[i]),
            cohens_h=float(h[i]),
            raised=bool(
                adjusted[i] < thresholds.p_value and h[i] >= thresholds.share_effect and one.requests >= LEAST_REQUESTS
            ),
        )
        for i, one in enumerate(known)
    ]


def refusal_findings(
    store: Store,
    version: str,
    since: datetime,
    now: datetime,
    features: Collection[str],
    trained: int,
    thresholds: DriftThresholds,
    unresolved: Collection[Incident] = (),
) -> Iterator[Finding]:
    """What of the rows sent to one version in [since, now) was refused more often than is usual.

    Args:
        trained: rows that the schema was learnt with. It takes all of them, so they stand beside what was sent before.
        unresolved: incidents; while one of a field and rule is there, usual is what was before it, so that what goes on
            does not become the rule by going on.
    """
    traffic = _Traffic.of(store, version, hour_start(since), now)
    opened = {one.fingerprint: one.opened_at for one in unresolved}
    counts = [
        traffic.counts(pair, _start(opened, version, pair, since, now), trained)
        for pair, requests in sorted(traffic.requests.items())
        if requests >= LEAST_REQUESTS and pair != ALL
    ]
    for share in refused_shares(counts, _OF_FEATURES * len(features) + _OF_ROWS, thresholds):
        if share.raised:
            yield _finding(version, share, thresholds)


@dataclass(frozen=True)
class _Traffic:
    """Rows that were sent: of one version in a window, and before it of all versions, for clients are compared."""

    rows: Counter[_Pair]
    requests: Counter[_Pair]
    answered: int
    refused_before: Sequence[RefusedHour]
    answered_before: Mapping[tuple[datetime, str], int]

    @classmethod
    def of(cls, store: Store, version: str, since: datetime, now: datetime) -> Self:
        rows, requests = Counter[_Pair](), Counter[_Pair]()
        for one in refused(store, since, now):
            if one.model_version == version:
                rows[one.field, one.rule] += one.rows
                requests[one.field, one.rule] += one.requests
        answered = answered_hours(store, since, now)
        return cls(
            rows=rows,
            requests=requests,
            answered=sum(count for (_, of), count in answered.items() if of == version),
            refused_before=refused(store, since - 2 * USUAL, since),
            answered_before=answered_hours(store, since - 2 * USUAL, since),
        )

    def counts(self, pair: _Pair, usual_until: datetime, trained: int) -> RefusedCounts:
        before = [one for one in self.refused_before if usual_until - USUAL <= one.hour < usual_until]
        answered = (
            count for (hour, _), count in self.answered_before.items() if usual_until - USUAL <= hour < usual_until
        )
        return RefusedCounts(
            field=pair[0],
            rule=pair[1],
            rows=self.rows[pair],
            requests=self.requests[pair],
            of=self.answered + self.rows[ALL],
            before=sum(one.rows for one in before if (one.field, one.rule) == pair),
            of_before=sum(one.rows for one in before if (one.field, one.rule) == ALL) + sum(answered) + trained,
        )


def _start(opened: Mapping[str, datetime], version: str, pair: _Pair, since: datetime, now: datetime) -> datetime:
    """Where what is usual ends: at the window's first hour, or at that of the window in which the incident opened."""
    known = opened.get(fingerprint_of("data_quality", version, _subject(pair)))
    return hour_start(since) if known is None else min(hour_start(since), hour_start(known - (now - since)))


def _subject(pair: _Pair) -> str:
    return "refused: " + " ".join(filter(None, pair))


def _finding(version: str, share: RefusedShare, thresholds: DriftThresholds) -> Finding:
    counts = share.counts
    who = f"{share.share:.1%} of the rows ({counts.rows:,} of {counts.of:,}, in {counts.requests:,} requests)"
    why = RULES.get(counts.rule, "break it").format(field=counts.field)
    return Finding(
        kind="data_quality",
        severity=severity_of_shares(share.cohens_h, thresholds),
        cause=f"{who} were refused by the rule {counts.rule}: they {why}; {share.usual:.1%} were before",
        next="grep invalid-rows logs/access_*.jsonl shows who sends them (unless logging.access is off); /docs shows "
        "what the model takes",
        model_version=version,
        subject=_subject((counts.field, counts.rule)),
        features=(counts.field,) if counts.field else (),
        score=share.share,
        evidence={
            "field": counts.field,
            "rule": counts.rule,
            "refused_rows": counts.rows,
            "rows": counts.of,
            "requests": counts.requests,
            "share": share.share,
            "usual_share": share.usual,
        },
    )
