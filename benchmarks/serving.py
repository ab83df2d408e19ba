"""What an answer costs: this server against an echo, a typical Flask handler and a FastAPI one.

Usage: python benchmarks/serving.py [--rounds 5] [--seconds 2] [--swaps 60] [--json] [--write docs/benchmarks.md]

All servers have two workers on this machine. `echo` only decodes and encodes, as plain WSGI under the same gunicorn
settings, which is the way that our hot path goes; `flask echo` does it through Flask's dispatch; `typical` is Flask,
joblib and pandas under gunicorn's threads; `fastapi` the same under uvicorn. Launch and memory are measured with
nothing else running; then all run, and every round measures each server in turn. Ratios are those of one round; what is
shown is their median, lowest and highest. Exits 1 when a figure falls short of its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

import msgspec  # noqa: E402

from benchmarks.http_load import Load, generator, load  # noqa: E402
from benchmarks.serving_processes import SERVERS, Running, running  # noqa: E402
from benchmarks.serving_report import judge, markdown, table  # noqa: E402
from benchmarks.serving_setup import promote, set_up  # noqa: E402

FOREST, LINEAR = "random_forest", "logistic_regression"
#: By name: the model, rows a request, connections, and the servers that take part.
SCENARIOS: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "1 row, 1 connection": (FOREST, 1, 1, ("ours", "echo", "flask echo", "typical", "fastapi")),
    "1 row, 16 connections": (FOREST, 1, 16, ("ours", "echo", "flask echo", "typical", "fastapi")),
    "1 row, 64 connections": (FOREST, 1, 64, ("ours", "echo", "flask echo", "typical", "fastapi")),
    "1 row, 64 connections, granian": (FOREST, 1, 64, ("ours granian", "echo granian", "flask echo granian")),
    "100 rows, forest": (FOREST, 100, 8, ("ours", "typical", "fastapi")),
    "1,000 rows, forest": (FOREST, 1000, 8, ("ours", "typical", "fastapi")),
    "1 row, 1 connection, linear": (LINEAR, 1, 1, ("ours", "echo", "flask echo", "typical")),
    "1 row, 64 connections, linear": (LINEAR, 1, 64, ("ours", "echo", "flask echo", "typical")),
    "1,000 rows, linear": (LINEAR, 1000, 8, ("ours", "typical", "fastapi")),
}
Measured = dict[str, dict[str, list[Load]]]


def measure_alone(folder: Path, rows: list[dict[str, Any]], seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Launch to the first good answer in seconds, and PSS in MB at rest and after load, by model and server."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for model in (FOREST, LINEAR):
        for name in ("ours", "typical", "fastapi"):
            launches = []
            for _ in range(3):
                with running(SERVERS[name], folder / model, bodies_of(rows, 1)[0]) as server:
                    launches.append(server.launch_seconds)
                    at_rest = server.pss_megabytes()
                    load(server.port, bodies_of(rows, 1), 64, seconds)
                    load(server.port, bodies_of(rows, 1000), 8, seconds)
                    loaded = server.pss_megabytes()
            figures = {"launch_seconds": median(launches), "pss_at_rest": at_rest, "pss_after_load": loaded}
            found.setdefault(model, {})[name] = figures
            tell(f"{model}, {name}: launch {figures['launch_seconds']:.2f} s, PSS {at_rest:.0f} to {loaded:.0f} MB")
    return found


def measure_together(folder: Path, rows: list[dict[str, Any]], rounds: int, seconds: float) -> Measured:
    """Every scenario by server, a load a round."""
    measured: Measured = {name: {} for name in SCENARIOS}
    for model in (FOREST, LINEAR):
        scenarios = {name: entry for name, entry in SCENARIOS.items() if entry[0] == model}
        wanted = dict.fromkeys(server for _, _, _, servers in scenarios.values() for server in servers)
        started: dict[str, Running] = {}
        try:
            for name in wanted:
                started[name] = Running(SERVERS[name], folder / model, bodies_of(rows, 1)[0])
            for number in range(rounds):
                for scenario, (_, size, connections, servers) in scenarios.items():
                    # The order alternates, so that none always runs on the warmer machine.
                    for server in servers if number % 2 == 0 else reversed(servers):
                        result = load(started[server].port, bodies_of(rows, size), connections, seconds)
                        measured[scenario].setdefault(server, []).append(result)
                tell(f"{model}: round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}")
        finally:
            for server_process in started.values():
                server_process.stop()
    return measured


def measure_swaps(folder: Path, rows: list[dict[str, Any]], seconds: int) -> dict[str, int]:
    """Requests and failures while the model in service changes every second."""
    home = folder / FOREST
    with running(SERVERS["ours"], home, bodies_of(rows, 1)[0]) as server:
        results: list[Load] = []
        thread = threading.Thread(target=lambda: results.append(load(server.port, bodies_of(rows, 1), 16, seconds)))
        thread.start()
        swaps = 0
        while thread.is_alive():
            swaps += 1
            promote(home, "21"[swaps % 2], swaps + 1)
            time.sleep(1.0)
        thread.join()
    promote(home, "1", swaps + 2)
    return {"seconds": seconds, "swaps": swaps, "requests": results[0].requests, "failed": results[0].failed}


def bodies_of(rows: list[dict[str, Any]], size: int) -> list[bytes]:
    """A few bodies of distinct rows; single rows are objects."""
    if size == 1:
        return [msgspec.json.encode(row) for row in rows[:64]]
    return [msgspec.json.encode((rows * 2)[start : start + size]) for start in range(0, 300, 100)]


def machine() -> dict[str, Any]:
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_generator": generator(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load (default 2)")
    parser.add_argument("--swaps", type=int, default=60, help="seconds of hot swaps, 0 for none (default 60)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", type=Path, help="replace the section on serving in this Markdown file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        about = machine()
        rows = set_up(folder)
        alone = measure_alone(folder, rows, chosen.seconds)
        measured = measure_together(folder, rows, chosen.rounds, chosen.seconds)
        swaps = measure_swaps(folder, rows, chosen.swaps) if chosen.swaps else None
    about |= {"rounds": chosen.rounds, "seconds": chosen.seconds, "load_after": round(os.getloadavg()[0], 2)}
    verdicts = judge(measured, alone, swaps)
    if chosen.write:
        markdown(chosen.write, about, measured, alone, verdicts)
    if chosen.json:
        plain = {
            scenario: {k: [x.as_dict() for x in v] for k, v in found.items()} for scenario, found in measured.items()
        }
        results = [verdict.as_dict() for verdict in verdicts]
        print(
            json.dumps({"machine": about, "loads": plain, "alone": alone, "swaps": swaps, "limits": results}, indent=2)
        )
    else:
        print(table(measured, alone, verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
