"""`kill -9` of the ingestion at any moment, 50 times over a replay: the counts are those of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from config.settings import LoggingSettings, Settings
from monitoring.log_tail import Limits
from monitoring.prediction_log import PredictionLine
from monitoring.profile_codec import decode_profile
from monitoring.store import Store
from tests.logged import NOON, PROFILER, Host, prediction_lines, rows_of, write_version

KILLS, FEWER_KILLS, ROWS_A_ROUND = 50, 15, 120
LIMITS = Limits(rows=15)
SETTINGS = Settings(logging=LoggingSettings(retention_days=2))


def ingest(home: Path, url: str, now: datetime, started: Connection) -> None:
    """What is killed: a process that does nothing but read."""
    with Store(url) as store:
        host = Host(home, store, SETTINGS, LIMITS)
        host.now = now
        started.send(True)
        host.ingestion.run_once()


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Makes processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_ingestion_kill"])
    yield context


def kill_one(processes: ForkServerContext, host: Host, url: str, draw: random.Random) -> bool:
    """Starts an ingestion and kills it; whether it was still at work."""
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=ingest, args=(host.home, url, host.now, there))
    process.start()
    assert here.recv()
    time.sleep(draw.uniform(0.0, 0.1))  # not to wait for something: the moment of the kill
    at_work = process.is_alive()
    process.kill()
    process.join(timeout=30)
    here.close()
    there.close()
    return at_work


def write_round(host: Host, number: int, draw: random.Random, earlier: list[PredictionLine]) -> None:
    """Rows of an hour, outcomes of them and of earlier ones, some before their rows, and now and then a torn line."""
    moment = NOON + number * timedelta(hours=3)
    host.now = moment + timedelta(minutes=30)
    lines = prediction_lines(ROWS_A_ROUND, seed=number, moment=moment, arm=draw.choice(["a", "b", None]))
    of_a_day = earlier[-8 * ROWS_A_ROUND :]  # older lines may be deleted, sooner in one run than in the other
    for line in draw.sample(lines, 40) + draw.sample(of_a_day, min(len(of_a_day), 10)):
        host.feed_back((line.prediction_id, draw.choice(["yes", "no"])), moment=host.now - timedelta(seconds=number))
    for start in range(0, ROWS_A_ROUND, 30):
        host.log(lines[start : start + 30])
        if draw.random() < 0.2:
            with host.predictions_file(moment).open("ab") as log:
                log.write(b'\n{"prediction_id":"0195' + b"x" * draw.randrange(200))
    earlier += lines


def picture(store: Store) -> dict[str, Any]:
    """All that was counted, without what differs between any two runs (numbers of rows in tables, places)."""
    profiles = {}
    for row in rows_of(store, "window_profiles"):
        of_hour = decode_profile(row["profile"], PROFILER.layout)
        figures = {name: row[name] for name in row if name not in ("profile", "source")}
        profiles[row["hour"], row["arm"]] = (figures, of_hour.rows, of_hour.counts.tolist(), of_hour.missing.tolist())
    unordered = {
        name: sorted(repr({key: row[key] for key in row if key not in left_out}) for row in rows_of(store, name))
        for name, left_out in (
            ("predictions", ("source", "file")),
            ("outcomes", ("source",)),
            ("labelled_rows", ("source",)),
            ("outcome_counts", ("source",)),
            ("log_files", ("id", "source", "mark", "deleted_at", "generation")),
            ("log_fragments", ("id", "source", "file", "seen_at")),
        )
    }
    return {"profiles": profiles, **unordered}


def test_fifty_kills_in_a_replay_change_no_count(
    processes: ForkServerContext, store: Store, store_url: str, tmp_path: Path, soak: bool
) -> None:
    """On PostgreSQL, where a killed client's transaction is the server's to undo, fewer without `make soak`."""
    kills = KILLS if store_url.startswith("sqlite") or soak else FEWER_KILLS
    draw = random.Random(7)
    killed, calm = Host(tmp_path / "a", store, SETTINGS, LIMITS), tmp_path / "b.db"
    write_version(killed.registry)
    with Store(f"sqlite:///{calm}") as calm_store:
        undisturbed = Host(tmp_path / "b", calm_store, SETTINGS, LIMITS)
        write_version(undisturbed.registry)
        earlier: tuple[list[PredictionLine], list[PredictionLine]] = ([], [])
        at_work = 0
        for number in range(kills):
            for host, lines in zip((killed, undisturbed), earlier, strict=True):
                write_round(host, number, random.Random(number), lines)
            undisturbed.ingestion.run_once()
            at_work += kill_one(processes, killed, store_url, draw)
        killed.ingestion.run_once()
        undisturbed.ingestion.run_once()
        assert picture(store) == picture(calm_store)
        assert sum(row["rows"] for row in rows_of(store, "window_profiles")) == kills * ROWS_A_ROUND
        assert kills < KILLS or any(row["deleted_at"] for row in rows_of(store, "log_files"))
    assert at_work > kills / 2, "most ingestions had ended before their kill: the test tests nothing"
