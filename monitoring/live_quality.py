"""Are the logged rows whole, and of the kind that training saw? Findings of the kind `data_quality`.

Drift looks at each feature by itself; this looks at rows. A client that stops sending half of the fields of a few rows
in a hundred moves no single feature by much, values beyond the trained range are no distribution of their own, and rows
that could not be counted at all are in none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from models.reference import Reference
from monitoring.drift_report import DriftThresholds, severity_of
from monitoring.drift_statistics import benjamini_hochberg, two_proportions
from monitoring.incidents import Finding, Severity
from monitoring.window_records import Window

#: So many lost rows or lines are no accident, when they are also this share of all: each worker that is killed leaves
#: one fragment, and a new version's first rows may be read a moment before its bundle.
LEAST_LOST, LOST_SHARE = 10, 0.01
#: Subject of the incident about fragments, which belong to no model version.
FRAGMENTS = "fragments in the logs"
_WORDS = {
    "missing": "have a gap",
    "unseen_category": "hold a level that training did not see",
    "out_of_range": "hold a number outside of what training saw",
}


class WarnedShare(Struct, frozen=True, kw_only=True):
    """The share of rows with a warning of one code, on held-out rows and in a window."""

    code: str
    reference: float
    window: float
    adjusted_p_value: float
    #: Positive when the window has more.
    cohens_h: float
    #: Significantly and materially more than on held-out rows.
    raised: bool


def warned_shares(window: Window, reference: Reference, thresholds: DriftThresholds) -> list[WarnedShare]:
    """How often a window's rows were warned of, against held-out rows: the rule of missing and unseen shares.

    Two-proportion z-test of each code (`drift_statistics.two_proportions`), the p-values adjusted over the codes
    (Benjamini and Hochberg 1995); raised when the adjusted p is under `p_value` AND Cohen's h is at least
    `share_effect`, so that a share which has fallen is no finding. The floor is that for the shares of one feature, so
    that one change is not material here and immaterial there: 0.2 is 0 to 1 %, 1 % to 4 %, 10 % to 17 %, 50 % to 60 %.
    Held-out rows are the reference because they, like the window's, took no part in learning ranges and levels, and
    because the gaps of one row often come together, which no figure of single features tells.

    Empty where the reference knows no warnings (bundles of older releases), or either side has under `least_rows` rows.
    """
    known = reference.warned
    if known is None or min(known.rows, window.rows) < thresholds.least_rows:
        return []
    codes = sorted(set(known.codes) | set(window.warnings))
    before = np.array([known.codes.get(code, 0) for code in codes], dtype=np.int64)
    after = np.array([window.warnings.get(code, 0) for code in codes], dtype=np.int64)
    rows, rows_now = (np.full(len(codes), count, dtype=np.int64) for count in (known.rows, window.rows))
    _, p_values, h = two_proportions(before, rows, after, rows_now)
    adjusted = benjamini_hochberg(p_values)
    raised = (adjusted < thresholds.p_value) & (h >= thresholds.share_effect)
    return [
        WarnedShare(
            code=code,
            reference=float(before[i] / known.rows),
            window=float(after[i] / window.rows),
            adjusted_p_value=float(adjusted[i]),
            cohens_h=float(h[i]),
            raised=bool(raised[i]),
        )
        for i, code in enumerate(codes)
    ]


def quality_findings(
    version: str, window: Window, reference: Reference, thresholds: DriftThresholds
) -> Iterator[Finding]:
    """What is wrong with the rows of one version."""
    for share in warned_shares(window, reference, thresholds):
        if share.raised:
            yield _warned(version, share, thresholds)
    if _is_lost(window.unprofiled_rows, window.rows):
        yield Finding(
            kind="data_quality",
            severity="high" if 2 * window.unprofiled_rows >= window.rows else "medium",
            cause=f"{unprofiled_words(window)}; drift is judged on the others",
            next="python main.py sync, on each host that serves this version",
            model_version=version,
            subject="unprofiled rows",
            score=window.unprofiled_rows / window.rows,
            evidence={"unprofiled_rows": window.unprofiled_rows, "rows": window.rows},
        )


def fragment_findings(lines: int, fragments: int) -> Iterator[Finding]:
    """Lines of the logs that are none, when they pile up: requests that were not answered."""
    if _is_lost(fragments, lines + fragments):
        yield Finding(
            kind="data_quality",
            severity="medium",
            cause=f"{fragments:,} of {lines + fragments:,} lines of the logs are the remains of writes cut short",
            next="python main.py doctor looks at the disk; the table log_fragments holds what was set aside",
            subject=FRAGMENTS,
            score=fragments / (lines + fragments),
            evidence={"fragments": fragments, "lines": lines},
        )


def severity_of_shares(cohens_h: float, thresholds: DriftThresholds) -> Severity:
    """By Cohen's h of a share of rows, scaled so that its floor is that of the other effects."""
    scale = thresholds.effect / thresholds.share_effect if thresholds.share_effect else 1.0
    found = severity_of(min(1.0, cohens_h * scale))
    return "low" if found == "none" else found


def unprofiled_words(window: Window) -> str:
    """`120 of 1,000 rows are in no profile: …`."""
    return (
        f"{window.unprofiled_rows:,} of {window.rows:,} rows are in no profile: the bundle of their version was not at "
        "hand where they were read"
    )


def _is_lost(lost: int, of: int) -> bool:
    return lost >= LEAST_LOST and lost > LOST_SHARE * of


def _warned(version: str, share: WarnedShare, thresholds: DriftThresholds) -> Finding:
    what = _WORDS.get(share.code, f"are warned of with {share.code}")
    return Finding(
        kind="data_quality",
        severity=severity_of_shares(share.cohens_h, thresholds),
        cause=f"{share.window:.1%} of the rows {what}, {share.reference:.1%} of those held out at training",
        next="python main.py monitor names the features that changed; mend what sends them",
        model_version=version,
        subject=f"warnings: {share.code}",
        score=share.window,
        evidence={"code": share.code, "share": share.window, "reference_share": share.reference},
    )
