"""What a drift check costs, against pandas with `scipy.stats.ks_2samp` and against `numpy.sort` of the same columns.

    python benchmarks/monitoring.py --only drift

- *Raw columns* (10 features of 10³ to 10⁶ rows, 100 features of 10⁵): ours counts them in the reference's bins and
  judges them; pandas and scipy take the missing share and a KS test against the reference's raw rows, column by column;
  numpy sorts a copy of each column. All three take turns in each round; a ratio is that of one round. The columns are
  of ten kinds (normal, skewed, heavy-tailed, whole numbers, gaps, …) and in memory before the clock starts.
- *Added memory* is the rise of the highest resident memory in a process of its own that holds the columns already and
  has done the same on 1,000 rows.
- *A week's window*: 168 stored hours of 100 features are merged and judged, hours of 1,000 rows and of 100,000.

Limits: a week's window under 10 ms; 10⁶ rows of 10 features in at most half of the time of the sort, and in less than
50 MB.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.binning import Numbers
from models.reference import Reference, build_reference
from models.schema import Feature, Schema
from monitoring.drift_detection import DriftDetector
from monitoring.profile_codec import encode_profile, merge_encoded
from monitoring.window_profile import Profiler

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE_ROWS = 6_400
SIZES = ((10, 1_000), (10, 10_000), (10, 100_000), (10, 1_000_000), (100, 100_000))
HOURS, HOUR_ROWS, WEEK_FEATURES = 168, (1_000, 100_000), 100
MOST_OF_SORT, MOST_MEGABYTES, MOST_WEEK_MS = 0.5, 50.0, 10.0
_BIG = "10 x 1000000"
Work = Callable[[], Any]


def columns(features: int, rows: int, seed: int) -> list[Numbers]:
    rng = np.random.default_rng(seed)
    kinds: tuple[Callable[[], Numbers], ...] = (
        lambda: rng.normal(size=rows),
        lambda: rng.normal(50.0, 9.0, rows),
        lambda: rng.uniform(size=rows),
        lambda: rng.exponential(10.0, rows),
        lambda: np.exp(1.5 * rng.normal(size=rows)),
        lambda: rng.standard_cauchy(rows),
        lambda: rng.integers(0, 20, rows).astype(np.float64),
        lambda: np.round(rng.normal(size=rows), 2),
        lambda: np.where(rng.random(rows) < 0.7, 0.0, rng.exponential(100.0, rows)),
        lambda: np.where(rng.random(rows) < 0.05, np.nan, rng.normal(size=rows)),
    )
    return [kinds[index % len(kinds)]() for index in range(features)]


def reference_of(raw: Sequence[Numbers]) -> Reference:
    names = tuple(Feature(name=f"x{index}", kind="numeric") for index in range(len(raw)))
    return build_reference(Schema(target="y", classes=(0, 1), features=names), list(raw))


def rivals(features: int) -> dict[str, Callable[[list[Numbers]], Any]]:
    """The ways to do it, ready to run: what is made once is made."""
    import pandas as pd
    from scipy.stats import ks_2samp

    training = columns(features, REFERENCE_ROWS, 1)
    reference = reference_of(training)
    profiler, detector = Profiler(reference), DriftDetector(reference)

    def with_scipy(raw: list[Numbers]) -> list[tuple[float, float]]:
        found = []
        for before, now in zip(training, map(pd.Series, raw), strict=True):
            known = now.dropna()
            found.append((float(now.isna().mean()), ks_2samp(before[~np.isnan(before)], known, method="asymp").pvalue))
        return found

    return {
        "ours": lambda raw: detector.detect(profiler.profile(raw), NOW),
        "scipy": with_scipy,
        "sort": lambda raw: [np.sort(values) for values in raw],
    }


def measure(rounds: int) -> dict[str, Any]:
    raw = {f"{features} x {rows}": _measure_raw(features, rows, rounds) for features, rows in SIZES}
    return {"raw columns": raw, "a week's window": {str(rows): _measure_week(rows, rounds) for rows in HOUR_ROWS}}


def _measure_raw(features: int, rows: int, rounds: int) -> dict[str, Any]:
    raw, ways = columns(features, rows, 2), rivals(features)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way([values[:1_000] for values in raw])
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(_seconds(lambda way=way: way(raw)))  # type: ignore[misc]
    ratios = {
        f"ours / {name}": _spread([ours / other for ours, other in zip(times["ours"], times[name], strict=True)])
        for name in ("scipy", "sort")
    }
    seconds = {name: _spread([1e3 * value for value in values]) for name, values in times.items()}
    added = {name: _added_megabytes(name, features, rows) for name in ways}
    return {"milliseconds": seconds, "ratios": ratios, "added_megabytes": added}


def _measure_week(rows: int, rounds: int) -> dict[str, float]:
    reference = reference_of(columns(WEEK_FEATURES, REFERENCE_ROWS, 1))
    profiler, detector = Profiler(reference), DriftDetector(reference)
    different = [encode_profile(profiler.profile(columns(WEEK_FEATURES, rows, seed))) for seed in range(3, 6)]
    hours = [different[hour % len(different)] for hour in range(HOURS)]

    def check() -> Any:
        return detector.detect(merge_encoded(hours, detector.layout), NOW)

    check()
    return _spread([1e3 * _seconds(check) for _ in range(4 * rounds)])


def _seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4), "lowest": round(min(values), 4), "highest": round(max(values), 4)
    }  # fmt: skip


def _added_megabytes(name: str, features: int, rows: int) -> float:
    """In a fresh process, where the highest memory is that of this one piece of work."""
    code = f"from benchmarks import drift_cost; drift_cost.print_added_megabytes({name!r}, {features}, {rows})"
    project = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} on {features} x {rows} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout))


def print_added_megabytes(name: str, features: int, rows: int) -> None:
    raw, way = columns(features, rows, 2), rivals(features)[name]
    way([values[:1_000] for values in raw])
    # What making the columns took and gave back must not hide what the work takes: the mark is set back.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kilobytes()
    way(raw)
    print(round((_peak_kilobytes() - before) / 1024, 1))


def _peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def broken_limits(found: dict[str, Any]) -> list[str]:
    big = found["raw columns"][_BIG]
    sort, added = big["ratios"]["ours / sort"]["median"], big["added_megabytes"]["ours"]
    weeks = {rows: week["median"] for rows, week in found["a week's window"].items()}
    broken = [f"a week of {rows}-row hours takes {ms} ms" for rows, ms in weeks.items() if ms >= MOST_WEEK_MS]
    broken += [f"drift of {_BIG} takes {sort} of numpy.sort"] * (sort > MOST_OF_SORT)
    return broken + [f"drift of {_BIG} adds {added} MB"] * (added >= MOST_MEGABYTES)
