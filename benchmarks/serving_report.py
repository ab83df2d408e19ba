"""The figures of `serving.py` against their limits, as a table for the terminal and a section of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.http_load import Load

Loads = dict[str, dict[str, list[Load]]]
Alone = dict[str, dict[str, dict[str, float]]]
START, END = "<!-- serving: written by benchmarks/serving.py -->", "<!-- serving: end -->"


@dataclass(frozen=True)
class Limit:
    """A ratio of two servers in one round: of requests a second, or of p99 where `slower` is set (lower is better)."""

    what: str
    scenario: str
    ours: str
    theirs: str
    bound: float
    slower: bool = False


LIMITS = (
    Limit("single rows, 1 connection, against echo", "1 row, 1 connection", "ours", "echo", 0.8),
    Limit("single rows, 1 connection, against echo through Flask", "1 row, 1 connection", "ours", "flask echo", 1.0),
    Limit("single rows, 64 connections, against echo", "1 row, 64 connections", "ours", "echo", 0.8),
    Limit(
        "single rows, 64 connections, against echo through Flask", "1 row, 64 connections", "ours", "flask echo", 1.0
    ),
    Limit("single rows, 1 connection, against the typical handler", "1 row, 1 connection", "ours", "typical", 15.0),
    Limit("single rows, 1 connection, against FastAPI", "1 row, 1 connection", "ours", "fastapi", 15.0),
    Limit(
        "single rows, 64 connections, granian, against its echo",
        "1 row, 64 connections, granian",
        "ours granian",
        "echo granian",
        0.7,
    ),
    Limit(
        "single rows, 64 connections, granian, against its echo through Flask",
        "1 row, 64 connections, granian",
        "ours granian",
        "flask echo granian",
        0.7,
    ),
    Limit("1,000 rows, random forest, against typical", "1,000 rows, forest", "ours", "typical", 2.0),
    Limit("1,000 rows, logistic regression, against typical", "1,000 rows, linear", "ours", "typical", 3.5),
    Limit("p99 at 64 connections, against typical's", "1 row, 64 connections", "ours", "typical", 0.1, slower=True),
)


@dataclass(frozen=True)
class Verdict:
    what: str
    value: float
    spread: tuple[float, float]
    bound: str
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(measured: Loads, alone: Alone, swaps: dict[str, int] | None) -> list[Verdict]:
    verdicts = [_ratio(limit, measured[limit.scenario]) for limit in LIMITS]
    for model, megabytes in (("random_forest", 250.0), ("logistic_regression", 130.0)):
        figures = alone[model]["ours"]
        spread = (figures["pss_at_rest"], figures["pss_after_load"])
        what = f"PSS of the tree after load, MB, {model.replace('_', ' ')}"
        verdicts.append(Verdict(what, spread[1], spread, f"<= {megabytes:.0f}", spread[1] <= megabytes))
        launch = figures["launch_seconds"]
        what = f"launch to the first good answer, s, {model.replace('_', ' ')}"
        verdicts.append(Verdict(what, launch, (launch, launch), "<= 1.5", launch <= 1.5))
    if swaps is not None:
        failed = float(swaps["failed"])
        what = f"failed of {swaps['requests']:,} requests over {swaps['swaps']} hot swaps"
        verdicts.append(Verdict(what, failed, (failed, failed), "0", failed == 0))
    return verdicts


def _ratio(limit: Limit, found: dict[str, list[Load]]) -> Verdict:
    value: Callable[[Load], float] = (lambda x: x.p99) if limit.slower else (lambda x: x.requests_per_second)
    pairs = zip(found[limit.ours], found[limit.theirs], strict=True)
    ratios = sorted(value(ours) / max(value(theirs), 1e-9) for ours, theirs in pairs)
    middle = median(ratios)
    passed = middle <= limit.bound if limit.slower else middle >= limit.bound
    bound = f"{'<=' if limit.slower else '>='} {limit.bound:g}"
    return Verdict(limit.what, middle, (ratios[0], ratios[-1]), bound, passed)


def table(measured: Loads, alone: Alone, verdicts: list[Verdict]) -> str:
    return "\n\n".join("\n".join(part) for part in _parts(measured, alone, verdicts))


def markdown(
    path: Path,
    about: dict[str, Any],
    measured: Loads,
    alone: Alone,
    verdicts: list[Verdict],
) -> None:
    """Replaces the section between the two marks, or appends it."""
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
    section = "\n\n".join(
        [START, f"Machine: {facts}.", *("\n".join(p) for p in _parts(measured, alone, verdicts)), END]
    )
    text = path.read_text() if path.exists() else "# Benchmarks\n\n"
    before, mark, rest = text.partition(START)
    after = rest.partition(END)[2] if mark else "\n"
    path.write_text(before + section + after)


def _parts(measured: Loads, alone: Alone, verdicts: list[Verdict]) -> list[list[str]]:
    limits = ["| figure | measured | lowest to highest | limit | |", "|---|---|---|---|---|"]
    for verdict in verdicts:
        low, high = verdict.spread
        mark = "holds" if verdict.passed else "**falls short**"
        limits.append(f"| {verdict.what} | {verdict.value:.3g} | {low:.3g} to {high:.3g} | {verdict.bound} | {mark} |")
    loads = ["| load | server | requests/s | p50, ms | p99, ms | failed |", "|---|---|---|---|---|---|"]
    for scenario, found in measured.items():
        for server, results in found.items():
            rate, p50, p99 = (median(getattr(x, key) for x in results) for key in ("requests_per_second", "p50", "p99"))
            failed = sum(x.failed for x in results)
            loads.append(f"| {scenario} | {server} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {failed} |")
    tree = ["| model | server | launch, s | PSS at rest, MB | PSS after load, MB |", "|---|---|---|---|---|"]
    for model, servers in alone.items():
        for server, x in servers.items():
            figures = f"{x['launch_seconds']:.2f} | {x['pss_at_rest']:.0f} | {x['pss_after_load']:.0f}"
            tree.append(f"| {model.replace('_', ' ')} | {server} | {figures} |")
    return [limits, loads, tree]
