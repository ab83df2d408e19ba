"""What a run of the pipeline costs beside the fits: time against bare scikit-learn, and memory against the table.

Usage: python benchmarks/training.py [--repeats 5] [--only time|memory] [--json]

Time: `main.py run` on the sample of 8,000 rows with three candidates and five folds, and `bare_sklearn.py`, which does
the same fits with the same parallelism, one after the other, each a fresh process and timed as a whole, imports and
all. The first run, which creates MLflow's database, is shown and not counted; the pictures that a run leaves to a
process of its own are waited for before the next measurement.
Memory: the highest sum of the resident memory of the run and its children on 300,000 rows and 40 columns, against the
table as pandas holds it. Pages shared between processes count once for each, so the figure is rather too high.
Exits 1 when a limit is broken: 1.5 times the time, 8 times the table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parent.parent
CANDIDATES = ["random_forest", "gradient_boosting", "logistic_regression"]
TIME_LIMIT, MEMORY_LIMIT = 1.5, 8.0
SAMPLING_SECONDS = 0.02


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Ours without the product's variables, and a state root of its own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    return outer | {"MLOPS_HOME": str(home)} | settings


def call(arguments: list[str], variables: dict[str, str]) -> str:
    """Runs a script of the project in a fresh process; raises with its last words when it fails."""
    done = subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True, cwd=PROJECT)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def seconds(arguments: list[str], variables: dict[str, str]) -> float:
    began = time.perf_counter()
    call(arguments, variables)
    took = time.perf_counter() - began
    wait_for_pictures(Path(variables["MLOPS_HOME"]))
    return took


def wait_for_pictures(home: Path) -> None:
    """Nobody waits for a run's pictures, but what is timed next must not share the cores with their process."""
    deadline = time.monotonic() + 60
    while any(str(home / "run" / "pictures") in argument for argument in all_arguments()):
        if time.monotonic() > deadline:
            raise SystemExit("the pictures of the last run have not been drawn within a minute")
        time.sleep(0.1)


def all_arguments() -> Iterator[str]:
    """Of every process of this machine."""
    for process in psutil.process_iter(["cmdline"]):
        yield from process.info["cmdline"] or ()


def measure_time(home: Path, repeats: int) -> dict[str, Any]:
    variables = environment(home, MLOPS_TRAINING__CANDIDATES=json.dumps(CANDIDATES))
    call(["generate_sample_data.py"], variables)
    run, bare = (
        ["main.py", "run", "--json"],
        ["benchmarks/bare_sklearn.py", str(home / "data" / "raw" / "training.csv")],
    )
    first = seconds(run, variables)
    seconds(bare, variables)  # both have been read from the disk once
    tell(f"first run, with the creation of MLflow's database: {first:.1f} s")
    pairs = []
    for number in range(repeats):
        # The order alternates, so that neither always runs on the warmer machine.
        order = [bare, run] if number % 2 == 0 else [run, bare]
        times = {script[0]: seconds(script, variables) for script in order}
        pairs.append((times[run[0]], times[bare[0]]))
        tell(f"{number + 1} of {repeats}: run {pairs[-1][0]:.2f} s, bare {pairs[-1][1]:.2f} s")
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    return {
        "first_run_seconds": first,
        "run_seconds": [ours for ours, _ in pairs],
        "bare_seconds": [theirs for _, theirs in pairs],
        "ratio": median(ratios),
        "ratio_lowest": ratios[0],
        "ratio_highest": ratios[-1],
        "limit": TIME_LIMIT,
        "passed": median(ratios) <= TIME_LIMIT,
    }


def measure_memory(home: Path, rows: int, columns: int) -> dict[str, Any]:
    variables = environment(home)
    call(["generate_sample_data.py", "--rows", str(rows), "--columns", str(columns)], variables)
    table = int(call(["-c", _TABLE_BYTES, str(home / "data" / "raw" / "training.csv")], variables))
    tell(f"the table of {rows:,} rows and {columns} columns takes {table / 1e6:.0f} MB")
    began = time.perf_counter()
    peak = peak_memory(["main.py", "run", "--json"], variables)
    took = time.perf_counter() - began
    return {
        "rows": rows,
        "columns": columns,
        "table_bytes": table,
        "imports_bytes": imports_alone(variables),
        "peak_bytes": peak,
        "seconds": took,
        "ratio": peak / table,
        "limit": MEMORY_LIMIT,
        "passed": peak / table < MEMORY_LIMIT,
    }


_TABLE_BYTES = "import pandas, sys; print(pandas.read_csv(sys.argv[1]).memory_usage(deep=True).sum())"
_IMPORTS = "import mlflow, pandas, sklearn.ensemble, onnx, onnxruntime, time; time.sleep(0.5)"


def imports_alone(variables: dict[str, str]) -> int:
    """What the libraries take before any data: the part of the peak that does not grow with the table."""
    return peak_memory(["-c", _IMPORTS], variables)


def peak_memory(arguments: list[str], variables: dict[str, str]) -> int:
    """Highest sum of resident bytes over the process and all of its descendants, looked at every 20 ms.

    A descendant counts from the second look on: between fork and exec it shows its parent's memory as its own.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=variables, cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT
        )
        peak, seen = 0, {process.pid}
        try:
            while process.poll() is None:
                resident = resident_bytes(process.pid)
                peak = max(peak, sum(size for pid, size in resident.items() if pid in seen))
                seen = {process.pid, *resident}
                time.sleep(SAMPLING_SECONDS)
        finally:
            process.terminate()  # only when the benchmark itself is being ended
            process.wait(30)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(arguments)} failed:\n{output.read()[-3000:].decode(errors='replace')}")
    return peak


def resident_bytes(pid: int) -> dict[int, int]:
    """Of the process and each of its descendants, by their ids; those that ended in between are left out."""
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}
    sizes = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            sizes[process.pid] = process.memory_info().rss
    return sizes


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(results: dict[str, dict[str, Any]]) -> None:
    if found := results.get("time"):
        print(f"run       {median(found['run_seconds']):7.2f} s  (median of {len(found['run_seconds'])})")
        print(f"bare      {median(found['bare_seconds']):7.2f} s")
        spread = f"{found['ratio_lowest']:.2f} to {found['ratio_highest']:.2f}"
        print(f"ratio     {found['ratio']:7.2f}    ({spread}; limit {found['limit']:g})  {verdict(found)}")
    if found := results.get("memory"):
        print(f"table     {found['table_bytes'] / 1e6:7.0f} MB")
        print(f"imports   {found['imports_bytes'] / 1e6:7.0f} MB")
        print(f"peak      {found['peak_bytes'] / 1e6:7.0f} MB  in a run of {found['seconds']:.0f} s")
        print(f"ratio     {found['ratio']:7.2f}    (limit {found['limit']:g})  {verdict(found)}")


def verdict(found: dict[str, Any]) -> str:
    return "passed" if found["passed"] else "FAILED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, interleaved (default 5)")
    parser.add_argument("--only", choices=["time", "memory"], help="leave the other out")
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the large table")
    parser.add_argument("--columns", type=int, default=40, help="its columns")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an end that tidies up
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "memory":
            results["time"] = measure_time(Path(folder) / "time", options.repeats)
        if options.only != "time":
            results["memory"] = measure_memory(Path(folder) / "memory", options.rows, options.columns)
    print(json.dumps(results, indent=2)) if options.json else show(results)
    return 0 if all(found["passed"] for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
