"""Achieved rates of the drift rule: how often quiet windows are flagged, and how often injected drifts are found.

    python -m benchmarks.drift_rates [--references 10] [--windows 300] [--repeats 300] [--quiet-rows 500 …] [--json]

Every window is drawn anew from the distribution that its reference was drawn from, never from the reference's own rows.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.encoding import RawColumn
from models.reference import build_reference
from models.schema import Feature, Schema
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftReport
from monitoring.window_profile import Profiler

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE_ROWS = 6_400
QUIET_ROWS = (500, 1_000, 10_000, 100_000)
Columns = list[RawColumn]
Change = Callable[[Columns, np.random.Generator], None]

FEATURES = (
    *(Feature(name=f"normal_{i}", kind="numeric") for i in range(4)),
    Feature(name="skewed", kind="numeric"),
    Feature(name="zero_inflated", kind="numeric"),
    Feature(name="three_valued", kind="numeric"),
    Feature(name="missing_5", kind="numeric"),
    Feature(name="missing_30", kind="numeric"),
    Feature(name="constant", kind="numeric"),
    Feature(name="flag", kind="boolean"),
    Feature(name="region", kind="categorical"),
    Feature(name="levels_50", kind="categorical"),
    Feature(name="zipf_3000", kind="categorical"),
    Feature(name="when", kind="datetime"),
)
SCHEMA = Schema(target="y", classes=("no", "yes"), features=FEATURES)
POSITION = {feature.name: index for index, feature in enumerate(FEATURES)}
PLAIN = Schema(
    target="y", classes=("no", "yes"), features=tuple(Feature(name=f"x{i}", kind="numeric") for i in range(10))
)
_ZIPF = 1.0 / np.arange(1, 3001)
_FIFTY = np.random.default_rng(50).dirichlet(np.ones(50))


def awkward_rows(rows: int, rng: np.random.Generator) -> Columns:
    """Rows of the schema above, one distribution for ever."""

    def holed(share: float) -> RawColumn:
        return np.where(rng.random(rows) < share, np.nan, rng.normal(size=rows))

    return [
        *(rng.normal(size=rows) for _ in range(4)),
        np.exp(1.5 * rng.normal(size=rows)),
        np.where(rng.random(rows) < 0.7, 0.0, rng.exponential(100.0, rows)),
        rng.choice([1.0, 2.0, 3.0], rows, p=[0.5, 0.3, 0.2]),
        holed(0.05),
        holed(0.3),
        np.full(rows, 7.0),
        (rng.random(rows) < 0.3).astype(np.float64),
        _levels("region", rng.choice(5, rows, p=[0.5, 0.2, 0.1, 0.1, 0.1])),
        _levels("level", rng.choice(50, rows, p=_FIFTY)),
        _levels("id", rng.choice(3000, rows, p=_ZIPF / _ZIPF.sum())),
        rng.uniform(1.6e9, 1.63e9, rows),
    ]


def plain_rows(rows: int, rng: np.random.Generator) -> Columns:
    return [rng.normal(size=rows) for _ in range(10)]


def _levels(prefix: str, codes: Sequence[int] | np.ndarray[Any, Any]) -> list[str | int | None]:
    names = np.array([f"{prefix}{i}" for i in range(int(max(codes, default=0)) + 1)], dtype=object)
    return list(names[codes])


def watcher(schema: Schema, rows: Columns) -> Callable[[Columns], DriftReport]:
    """The detector of one reference, as monitoring uses it."""
    reference = build_reference(schema, rows)
    profiler, detector = Profiler(reference), DriftDetector(reference)
    return lambda window: detector.detect(profiler.profile(window), NOW)


def quiet_rates(references: int, windows: int, rows: int, seed: int) -> dict[str, Any]:
    """Shares of quiet windows flagged, over all and for the worst reference, and which features did it."""
    flagged, culprits = [], dict[str, int]()
    for rng in np.random.default_rng(seed).spawn(references):
        check = watcher(SCHEMA, awkward_rows(REFERENCE_ROWS, rng))
        count = 0
        for _ in range(windows):
            report = check(awkward_rows(rows, rng))
            count += report.overall_drift
            for name in report.drifted_features:
                culprits[name] = culprits.get(name, 0) + 1
        flagged.append(count / windows)
    return {"rows": rows, "flagged": float(np.mean(flagged)), "worst_reference": max(flagged), "culprits": culprits}


def detection_rates(
    schema: Schema,
    draw: Callable[[int, np.random.Generator], Columns],
    change: Change,
    named: Sequence[str],
    rows: int,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Shares of changed windows flagged, and in which each of `named` is named; a new reference every 30 windows."""
    rng = np.random.default_rng(seed)
    flagged, found = 0, dict.fromkeys(named, 0)
    for repeat in range(repeats):
        if repeat % 30 == 0:
            check = watcher(schema, draw(REFERENCE_ROWS, rng))
        window = draw(rows, rng)
        change(window, rng)
        report = check(window)
        flagged += report.overall_drift
        for name in named:
            found[name] += name in report.drifted_features
    return {"rows": rows, "flagged": flagged / repeats, "named": {n: c / repeats for n, c in found.items()}}


def _numbers(columns: Columns, index: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(columns[index], dtype=np.float64)


def _shift_and_scale(columns: Columns, _rng: np.random.Generator) -> None:
    columns[0] = _numbers(columns, 0) + 0.5
    columns[1] = _numbers(columns, 1) * 1.2


def _small_shift(columns: Columns, _rng: np.random.Generator) -> None:
    columns[0] = _numbers(columns, 0) + 0.2


def _gaps(columns: Columns, rng: np.random.Generator) -> None:
    values = _numbers(columns, 0)
    columns[0] = np.where(rng.random(len(values)) < 0.3, np.nan, values)


def _level_vanishes(columns: Columns, _rng: np.random.Generator) -> None:
    index = POSITION["region"]
    columns[index] = ["region0" if level == "region4" else level for level in columns[index]]


def _level_appears(columns: Columns, rng: np.random.Generator) -> None:
    index = POSITION["region"]
    columns[index] = ["new" if rng.random() < 0.1 else level for level in columns[index]]


def _turns_constant(columns: Columns, _rng: np.random.Generator) -> None:
    columns[0] = np.zeros(len(columns[0]))


def _constant_moves(columns: Columns, _rng: np.random.Generator) -> None:
    columns[POSITION["constant"]] = np.full(len(columns[0]), 7.001)


def _atom_moves(columns: Columns, _rng: np.random.Generator) -> None:
    values = _numbers(columns, POSITION["zero_inflated"])
    columns[POSITION["zero_inflated"]] = np.where(values == 0.0, 1e-6, values)


#: Name, schema, rows drawn from, change, features that must be named, window sizes.
DRIFTS: tuple[tuple[str, Schema, Any, Change, tuple[str, ...], tuple[int, ...]], ...] = (
    ("0.5 sd shift and x1.2 scale", PLAIN, plain_rows, _shift_and_scale, ("x0", "x1"), (1_000, 2_000)),
    (
        "0.5 sd shift and x1.2 scale, awkward",
        SCHEMA,
        awkward_rows,
        _shift_and_scale,
        ("normal_0", "normal_1"),
        (1_000, 2_000),
    ),
    ("0.2 sd shift of one in ten", PLAIN, plain_rows, _small_shift, ("x0",), (1_000, 10_000)),
    ("0.2 sd shift, awkward", SCHEMA, awkward_rows, _small_shift, ("normal_0",), (1_000, 10_000)),
    ("30 % turning missing", SCHEMA, awkward_rows, _gaps, ("normal_0",), (1_000,)),
    ("a level of 10 % vanishes", SCHEMA, awkward_rows, _level_vanishes, ("region",), (1_000,)),
    ("a level of 10 % appears", SCHEMA, awkward_rows, _level_appears, ("region",), (1_000,)),
    ("a column turns constant", SCHEMA, awkward_rows, _turns_constant, ("normal_0",), (1_000,)),
    ("a constant takes another value", SCHEMA, awkward_rows, _constant_moves, ("constant",), (1_000,)),
    ("the zeros become 1e-6", SCHEMA, awkward_rows, _atom_moves, ("zero_inflated",), (1_000,)),
)


def outlier_effect(repeats: int, seed: int) -> dict[str, float]:
    """Largest move of a drifted feature's effect when ten of 1,000 rows become ±1e300 or infinite."""
    rng, worst = np.random.default_rng(seed), {"0.5 sd shift": 0.0, "x1.2 scale": 0.0}
    for repeat in range(repeats):
        if repeat % 30 == 0:
            check = watcher(PLAIN, plain_rows(REFERENCE_ROWS, rng))
        window = plain_rows(1_000, rng)
        _shift_and_scale(window, rng)
        clean = check(window)
        bad = ([1e300] * 10, [-1e300] * 10, [1e300, -1e300] * 5, [np.inf] * 10, [-np.inf, np.inf] * 5)[repeat % 5]
        for index in (0, 1):
            values = _numbers(window, index).copy()
            values[rng.choice(1_000, 10, replace=False)] = bad
            window[index] = values
        dirty = check(window)
        for drift, name in zip(worst, ("x0", "x1"), strict=True):
            if clean.feature_scores[name].drift_detected:
                move = abs(clean.feature_scores[name].effect - dirty.feature_scores[name].effect)
                worst[drift] = max(worst[drift], move)
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--references", type=int, default=10)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--quiet-rows", type=int, nargs="*", default=QUIET_ROWS, help="sizes of the quiet windows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    say = _silent if options.json else functools.partial(print, flush=True)
    results: dict[str, Any] = {
        "quiet": _report_quiet(options, say),
        "drifts": _report_drifts(options, say),
        "outlier_effect": outlier_effect(options.repeats, options.seed),
    }
    moves = ", ".join(f"{drift} {move:.4f}" for drift, move in results["outlier_effect"].items())
    say(f"ten rows of ±1e300 or infinite among 1,000 move the effect by at most: {moves}")
    if options.json:
        print(json.dumps(results))


def _silent(_line: str) -> None:
    """Takes the place of `print` when only JSON is wanted."""


def _report_quiet(options: argparse.Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    results = []
    for rows in options.quiet_rows:
        rates = quiet_rates(options.references, options.windows, rows, options.seed)
        results.append(rates)
        flagged, worst = rates["flagged"], rates["worst_reference"]
        say(f"quiet, {rows:,} rows: {flagged:.2%} flagged, worst reference {worst:.2%}, by {rates['culprits']}")
    return results


def _report_drifts(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {}
    for name, schema, draw, change, named, sizes in DRIFTS:
        for rows in sizes:
            rates = detection_rates(schema, draw, change, named, rows, options.repeats, options.seed)
            results.setdefault(name, []).append(rates)
            each = ", ".join(f"{feature} {share:.1%}" for feature, share in rates["named"].items())
            say(f"{name}, {rows:,} rows: flagged {rates['flagged']:.1%}; named: {each}")
    return results


if __name__ == "__main__":
    main()
