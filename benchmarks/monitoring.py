"""What monitoring costs: reading the prediction log into the store, and the drift check, each against the usual way.

Usage: python benchmarks/monitoring.py [--only ingestion | drift] [--rows 100000 1000000 10000000] [--rounds 5] [--json]

Ingestion: a log of rows of 10 numeric features, as the server writes it (requests of 1 to 50 rows), is read by
`monitoring.log_ingestion` into an empty SQLite store in a fresh process, each row estimated by an error model. Rows a
second by the processor's time, so that a busy machine does not count, and by the clock; the highest resident memory,
less what the process needs before it reads. pandas is `read_json(lines=True)` in chunks of as many rows and nothing
more: no store, no profile, no estimate, no joining.
Exits 1 when a limit is broken: 50,000 rows a second of processor time; memory at the largest log within a tenth of
that at the smallest.

The drift check is in `benchmarks/drift_cost.py`, with its limits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
ROWS = [100_000, 1_000_000]
FEATURES = 10
START = datetime(2026, 3, 1, tzinfo=UTC)
LEAST_RATE, MOST_GROWTH = 50_000.0, 1.1
_BLOCK = 10_000


def write_log(folder: Path, rows: int) -> Path:
    """A day's log: `_BLOCK` different rows over and over, each line with an id and a time of its own."""
    import numpy as np

    from monitoring.ids import IdSource

    draw = np.random.default_rng(1)
    clock = [int(START.timestamp() * 1000)]
    ids = IdSource(lambda: clock[0])
    tails = [_tail(draw.normal(size=FEATURES).tolist(), float(score)) for score in draw.random(_BLOCK)]
    path = folder / "logs" / f"predictions_{START:%Y%m%d}.jsonl"
    path.parent.mkdir(parents=True)
    step = 86_000_000 / rows
    written = 0
    with path.open("wb") as stream:
        while written < rows:
            size = min(int(draw.integers(1, 51)), rows - written)
            clock[0] = int(START.timestamp() * 1000 + written * step)
            moment = (START + timedelta(milliseconds=written * step)).isoformat().replace("+00:00", "Z")
            lines = [
                f'{{"prediction_id":"{id_}","timestamp":"{moment}","request_id":"r{written}",'
                f"{tails[(written + row) % _BLOCK]}"
                for row, id_ in enumerate(ids.take(size))
            ]
            stream.write(("\n" + "\n".join(lines) + "\n").encode())
            written += size
    return path


def _tail(values: list[float], score: float) -> str:
    row = {f"feature_{index}": value for index, value in enumerate(values)}
    rest = {
        "model_version": "1", "input_data": row, "prediction": int(score > 0.5), "probability": [1.0 - score, score],
        "max_probability": max(score, 1.0 - score), "latency_ms": 2.5, "experiment": None, "arm": None, "unit": None,
        "fallback": False, "warnings": [],
    }  # fmt: skip
    return json.dumps(rest, separators=(",", ":"))[1:]


def write_bundle(folder: Path) -> dict[str, Any]:
    """The schema, the reference and an error model of version 1."""
    import msgspec
    import numpy as np

    from models import bundle
    from models.reference import build_reference, encode_reference
    from models.schema import Feature, Schema

    draw = np.random.default_rng(2)
    features = tuple(Feature(name=f"feature_{index}", kind="numeric") for index in range(FEATURES))
    schema = Schema(target="y", classes=(0, 1), features=features)
    scores = draw.random(2_000)
    reference = build_reference(
        schema, [draw.normal(size=6_400) for _ in features], np.column_stack([1.0 - scores, scores])
    )
    manifest = bundle.Manifest(
        registered_name="m", run_id="r", created_at="", task="", classes=schema.classes, algorithm="", metrics={},
        split=bundle.SplitRule(method="hash", test_size=0.2), data_source="", libraries={},
    )  # fmt: skip
    files = {
        bundle.SCHEMA: msgspec.json.encode(schema),
        bundle.REFERENCE: encode_reference(reference),
        bundle.ESTIMATOR: _error_model(schema, draw),
    }
    (folder / "registry").mkdir()
    bundle.write_bundle(folder / "registry" / "1", manifest, files)
    return {}


def _error_model(schema: Any, draw: Any) -> bytes:
    """One like that of a run: every feature, their squares and products."""
    import numpy as np

    from models.error_model import answer_columns
    from pipeline.error_training import AnsweredRows, fit_error_model

    def rows(count: int) -> AnsweredRows:
        second = draw.random(count)
        matrix = draw.normal(size=(count, FEATURES)).astype("f4")
        return AnsweredRows(matrix, answer_columns(np.column_stack([1 - second, second])), draw.random(count) < second)

    fitted = fit_error_model(schema, rows(6_400), rows(1_600), 6_400)
    if fitted is None:
        raise SystemExit("no error model could be fitted")
    return fitted[0].export()


def ingest(folder: Path) -> dict[str, Any]:
    """Reads the log of a folder; runs in a process of its own."""
    from config.settings import Settings
    from monitoring.log_ingestion import Ingestion
    from monitoring.store import Store

    with Store(f"sqlite:///{folder / 'mlops.db'}") as store:
        ingestion = Ingestion(
            Settings(), store, folder / "logs", folder / "registry", lambda: START + timedelta(hours=25),
            source_file=folder / "source_id",
        )  # fmt: skip
        first = ingestion.run_once(rows=1).rows  # what is loaded at the first batch belongs to the process
        return _measured(lambda: ingestion.run_once().rows) | {"first_rows": first}


def read_with_pandas(folder: Path) -> dict[str, Any]:
    import pandas as pd

    chunks: Iterator[Any] = iter(pd.read_json(next((folder / "logs").glob("*.jsonl")), lines=True, chunksize=20_000))
    next(chunks)
    return _measured(lambda: sum(len(chunk) for chunk in chunks))


PARTS = {"bundle": write_bundle, "ingestion": ingest, "pandas": read_with_pandas}


def _measured(work: Any) -> dict[str, Any]:
    before, processor, clock = _peak_bytes(), time.process_time(), time.perf_counter()
    rows = work()
    spent, elapsed = time.process_time() - processor, time.perf_counter() - clock
    return {
        "rows": rows,
        "rows_per_second": round(rows / spent),
        "rows_per_second_by_clock": round(rows / elapsed),
        "added_megabytes": round((_peak_bytes() - before) / 2**20, 1),
        "peak_megabytes": round(_peak_bytes() / 2**20, 1),
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_ingestion(sizes: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            log = write_log(folder, rows)
            _in_fresh_process("bundle", folder)  # a child's highest memory begins with that of its parent
            found[str(rows)] = {"megabytes_of_log": round(log.stat().st_size / 2**20)}
            for part in ("ingestion", "pandas") if rows <= 1_000_000 else ("ingestion",):
                found[str(rows)][part] = _in_fresh_process(part, folder)
            found[str(rows)]["megabytes_of_store"] = round((folder / "mlops.db").stat().st_size / 2**20)
    return found


def _in_fresh_process(part: str, folder: Path) -> dict[str, Any]:
    environment = os.environ | {"MLOPS_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, "--folder", str(folder)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{part} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def broken_limits(found: dict[str, Any]) -> list[str]:
    sizes = sorted(found, key=int)
    slow = [size for size in sizes if found[size]["ingestion"]["rows_per_second"] < LEAST_RATE]
    peaks = [found[size]["ingestion"]["peak_megabytes"] for size in sizes]
    grown = peaks[-1] > MOST_GROWTH * peaks[0]
    return [f"{size} rows: under {LEAST_RATE:,.0f} rows/s" for size in slow] + ["memory grows with the log"] * grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["ingestion", "drift"])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of the logs that are read")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the drift check and its rivals")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder)))
        return 0
    found: dict[str, Any] = {}
    broken: list[str] = []
    if options.only != "drift":
        found["ingestion"] = measure_ingestion(options.rows)
        broken += broken_limits(found["ingestion"])
    if options.only != "ingestion":
        from benchmarks import drift_cost

        found["drift"] = drift_cost.measure(options.rounds)
        broken += drift_cost.broken_limits(found["drift"])
    print(json.dumps(found | {"broken": broken}, indent=None if options.json else 2))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
