"""Two years of a real stream through the loop: elec2 in time order, served, labelled, watched and retrained.

Usage: python benchmarks/replay.py TABLE/elec2.csv [--days 7] [--json]

The first quarter of the table trains a model. The rest is answered by the server's application in its order, half an
hour a row, and each outcome comes back at the end of its step of some days; after each step the logs are read, the
monitoring cycle and the performance check are made, and the retraining policy decides, all at the time of the stream.
The frozen model is the first one, on the same rows. Exits 1 unless drift of both kinds was found and the loop was
better.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from flask import Flask  # noqa: E402

from api.app import create_app  # noqa: E402
from config.settings import load_settings, registry_directory  # noqa: E402
from models.serving_plan import read_plan  # noqa: E402
from monitoring.cycle import run_cycle  # noqa: E402
from monitoring.incidents import Incidents  # noqa: E402
from monitoring.store import Store  # noqa: E402
from pipeline.log_jobs import ingestion_of, read_to_end  # noqa: E402
from pipeline.monitoring_jobs import check_performance_at  # noqa: E402
from pipeline.orchestrator import run_now  # noqa: E402
from pipeline.retraining import retrain_now  # noqa: E402
from pipeline.retraining_policy import RetrainingPolicy  # noqa: E402

TARGET, TIME = "class", "t"
START = datetime(2024, 1, 1, tzinfo=UTC)
ROW_SECONDS = 1800
ROWS_A_DAY = 86_400 // ROW_SECONDS
SETTINGS: dict[str, Any] = {
    "target_column": TARGET,
    "data": {"source": "base.csv"},
    "data_split": {"time_column": TIME, "test_size": 0.1},
    "model_selection": {"metric": "accuracy"},
    "training": {"candidates": ["hist_gradient_boosting", "logistic_regression"]},
    "retraining": {"policy": "window", "minimum_labelled_rows": 1000, "cool_down_hours": 168.0},
    "deployment": {"max_prediction_batch_size": 100_000},
}


class Replay:
    """A state root whose time is that of the stream."""

    def __init__(self, table: pd.DataFrame, folder: Path, window: int) -> None:
        self.table = table
        self.window = window
        self.first = len(table) // 4
        self.now = START
        base = table.iloc[: self.first]
        base.to_csv(folder / "base.csv", index=False)
        settings = {**SETTINGS, "retraining": {**SETTINGS["retraining"], "window_rows": self.window}}
        (folder / "pipeline_config.yaml").write_text(yaml.safe_dump(settings))
        self.features = [name for name in table.columns if name not in (TARGET, TIME)]
        self.opened: Counter[str] = Counter()
        self.first_opened: dict[str, str] = {}
        self.retrainings: list[dict[str, Any]] = []

    def run(self, days: int) -> dict[str, Any]:
        began = time.perf_counter()
        run_now(None, None, clock=lambda: self.now)
        app = create_app(clock=lambda: self.now)
        frozen = create_app(clock=lambda: self.now, logs=Path(tempfile.mkdtemp()))
        right, right_frozen, rows = 0, 0, 0
        frozen_answers = self._frozen(frozen)
        with Store(load_settings().store_address) as store:
            for start in range(self.first, len(self.table), days * ROWS_A_DAY):
                chunk = self.table.iloc[start : start + days * ROWS_A_DAY]
                right += self._serve(app, chunk)
                right_frozen += int((frozen_answers[start - self.first :][: len(chunk)] == chunk[TARGET]).sum())
                rows += len(chunk)
                self._watch(store)
                tell(f"{rows:,} rows: accuracy {right / rows:.4f}, frozen {right_frozen / rows:.4f}")
            incidents = Incidents(store).since(START)
        return {
            "rows": rows,
            "accuracy": right / rows,
            "frozen_accuracy": right_frozen / rows,
            "incidents": dict(Counter(incident.kind for incident in incidents)),
            "first_opened": {one.kind: one.opened_at.isoformat() for one in incidents},
            "retrainings": self.retrainings,
            "promoted": sum(run["promoted"] for run in self.retrainings),
            "seconds": round(time.perf_counter() - began, 1),
        }

    def _frozen(self, app: Flask) -> pd.Series[Any]:
        """What the first model says of the whole stream."""
        answers: list[Any] = []
        for start in range(self.first, len(self.table), 5000):
            answers += self._ask(app, self.table.iloc[start : start + 5000])["prediction"]
        return pd.Series(answers, index=self.table.index[self.first :])

    def _ask(self, app: Flask, rows: pd.DataFrame) -> dict[str, Any]:
        reply = app.test_client().post("/predict", json=rows[self.features].to_dict("records"))
        if reply.status_code != 200:
            raise SystemExit(f"the server answered {reply.status_code}: {reply.text[:500]}")
        return dict(reply.json or {})

    def _serve(self, app: Flask, rows: pd.DataFrame) -> int:
        """Answers hour by hour, then hears all outcomes; returns how many answers were right."""
        core = app.extensions["mlops"]
        core.reloader.look()
        ids: list[str] = []
        right = 0
        for start in range(0, len(rows), 12):
            part = rows.iloc[start : start + 12]
            self.now += timedelta(seconds=12 * ROW_SECONDS)
            reply = self._ask(app, part)
            ids += reply["prediction_id"]
            right += sum(map(lambda a, b: a == b, reply["prediction"], part[TARGET]))
        outcomes = [{"prediction_id": id_, "actual": label} for id_, label in zip(ids, rows[TARGET], strict=True)]
        for start in range(0, len(outcomes), 1000):
            reply_ = app.test_client().post("/feedback", json=outcomes[start : start + 1000])
            if reply_.status_code >= 400:
                raise SystemExit(f"/feedback answered {reply_.status_code}: {reply_.text[:500]}")
        return right

    def _watch(self, store: Store) -> None:
        settings = load_settings()
        read = read_to_end(ingestion_of(settings, store, lambda: self.now))
        check_performance_at(settings, store, self.now)
        run_cycle(settings, store, self.now, read)
        plan = read_plan(registry_directory())
        champion = plan.champion.version if plan and plan.champion else None
        reason = RetrainingPolicy(settings, store).reason(champion, self.now)
        if reason is not None:
            outcome = retrain_now(clock=lambda: self.now)
            if outcome.run is not None:
                known = {"at": self.now.isoformat(), "trigger": outcome.trigger, "promoted": outcome.run.promoted}
                self.retrainings.append({**known, "decision": outcome.run.decision["decision"]})
                tell(f"{self.now:%Y-%m-%d}: {outcome.trigger}, {outcome.run.decision['decision']}")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--days", type=int, default=7, help="days a step (default 7)")
    parser.add_argument(
        "--window", type=int, default=90 * ROWS_A_DAY, help="rows of the retraining window (default 90 days)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = pd.read_csv(options.table)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # pictures may still be drawn
        os.environ["MLOPS_HOME"] = folder
        found = Replay(table, Path(folder), options.window).run(options.days)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:16s} {value}")
    both = {"data_drift", "concept_drift"} <= set(found["incidents"])
    return 0 if both and found["accuracy"] > found["frozen_accuracy"] else 1


if __name__ == "__main__":
    sys.exit(main())
