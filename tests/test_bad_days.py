"""A real server on bad days: what it declares to do then, and that it needs no restart afterwards."""

from __future__ import annotations

import http.client
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api.keys import create_key, revoke_key
from tests.bundles import promote, sample_bundle, sample_row, serve_sample
from tests.log_reading import logged_lines
from tests.raw_http import exchange_raw, request
from tests.small_disks import small_disk
from tests.test_server_metrics import NOON, value
from tests.test_server_process import GUNICORN, Server, Traffic, exchange, running, wait_for

pytestmark = pytest.mark.integration

FULL_BYTES = 600_000
VERSION_1 = {"model": "production_model", "model_version": "1"}
BATCH = json.dumps([sample_row()] * 100).encode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    serve_sample(tmp_path / "models" / "registry")
    return tmp_path


@contextmanager
def small_files() -> Iterator[None]:
    """For whom may not mount: no file of a process that is started now grows over `FULL_BYTES`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def with_both_workers(home: Path) -> Iterator[Server]:
    """A server of which each worker has the model."""
    with running(home, *GUNICORN) as server:
        wait_for(lambda: metric(server, "mlops_serving_workers", **VERSION_1) == 2, "both workers have the model")
        yield server


def post(server: Server, body: bytes = BATCH) -> tuple[int, list[str]]:
    """The status, and the ids of an answer."""
    reply = exchange_raw(server.port, request(body))
    return reply.status, json.loads(reply.body).get("prediction_id", [])


def fill(server: Server) -> list[str]:
    """Predicts until it is refused; the ids answered."""
    answered: list[str] = []
    for _ in range(200):
        status, ids = post(server)
        if status != 200:
            assert status == 503
            return answered
        answered += ids
    pytest.fail("the disk never was full")


def logged(home: Path) -> Counter[str]:
    return Counter(line.prediction_id for line in logged_lines(home / "logs"))


def assert_all_logged(home: Path, answered: list[str]) -> None:
    """Once and whole; beyond them there may be lines of the one request that was cut short, which was not answered."""
    in_log = logged(home)
    assert answered
    assert {in_log[prediction_id] for prediction_id in answered} == {1}
    assert max(in_log.values()) == 1
    assert len(in_log) < len(answered) + 2 * 100


def metric(server: Server, name: str, **labels: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read()
    connection.close()
    return value(text, name, **labels)


def make_room(home: Path) -> None:
    for path in (home / "logs").glob("*"):
        path.unlink()


# The disk


def test_on_a_full_disk_it_refuses_and_goes_on_when_there_is_room(home: Path) -> None:
    with small_disk(home / "logs", FULL_BYTES), running(home, *GUNICORN) as server:
        answered = fill(server)
        assert_all_logged(home, answered)
        assert [post(server)[0] for _ in range(5)] == [503] * 5
        assert server.get("/health")[0] == 200
        assert metric(server, "mlops_log_failures_total", log="predictions", outcome="refused") >= 6
        make_room(home)
        wait_for(lambda: post(server)[0] == 200, "it answers again")  # each worker lets go of the deleted file
        assert set(post(server)[1]) <= set(logged(home))


def test_on_a_full_disk_it_serves_if_it_is_told_to_and_counts(home: Path) -> None:
    (home / "pipeline_config.yaml").write_text("logging: {when_full: serve}\n")
    with small_disk(home / "logs", FULL_BYTES), running(home, *GUNICORN) as server:
        assert [post(server)[0] for _ in range(60)] == [200] * 60
        unlogged = metric(server, "mlops_log_failures_total", log="predictions", outcome="served")
        assert unlogged > 0
        assert 6000 - 100 * unlogged <= sum(logged(home).values()) < 6000
        feedback = b'{"prediction_id": "01890000-0000-7000-8000-000000000000", "value": 1}'
        refused = exchange_raw(server.port, request(feedback).replace(b"/predict", b"/feedback"))
        assert refused.status in (202, 503)  # a line may still fit; a lost one is never called accepted
        make_room(home)
        wait_for(lambda: set(post(server)[1]) <= set(logged(home)), "answers are in the log again")


def test_a_file_that_may_not_grow_is_a_full_disk_too(home: Path) -> None:
    """The same for whom may not mount a disk; the limit holds for each file, so a new one ends it."""
    with small_files():
        server_running = running(home, *GUNICORN)
        server = server_running.__enter__()
    try:
        assert_all_logged(home, fill(server))
        make_room(home)
        wait_for(lambda: post(server)[0] == 200, "it answers again")
    finally:
        server_running.__exit__(None, None, None)


def test_with_a_read_only_log_folder_it_refuses_until_it_can_write(home: Path) -> None:
    with small_disk(home / "logs", FULL_BYTES, "ro"), running(home, *GUNICORN) as server:
        assert (post(server)[0], server.get("/health")[0], server.get("/ready")[0]) == (503, 200, 200)
        subprocess.run(["mount", "-o", "remount,rw", str(home / "logs")], check=True)
        status, ids = post(server)
        assert (status, set(logged(home))) == (200, set(ids))


def test_a_log_folder_that_vanishes_is_made_again(home: Path) -> None:
    with running(home, *GUNICORN) as server:
        assert post(server)[0] == 200
        shutil.rmtree(home / "logs")
        ids = [id_ for _ in range(10) for id_ in post(server)[1]]
        assert logged(home) == Counter(ids)


# The registry


def test_a_registry_that_vanishes_and_comes_back_costs_no_answer(home: Path) -> None:
    registry = home / "models" / "registry"
    with with_both_workers(home) as server, Traffic(server, clients=2) as traffic:
        traffic.wait_for_replies(10)
        registry.rename(home / "gone")
        wait_for(lambda: server.get("/health")[1]["reload"]["problem"] is not None, "health says so")
        wait_for(lambda: metric(server, "mlops_reload_problem_workers") == 2, "both workers say so")
        traffic.wait_for_replies(10)
        (home / "gone").rename(registry)
        promote(registry, "2", sample_bundle(registry / "2", seed=1))
        wait_for(lambda: server.versions() == {"2"}, "the next version is in service")
        wait_for(lambda: metric(server, "mlops_reload_problem_workers") == 0, "it is well again")
        assert metric(server, "mlops_serving_workers", model="production_model", model_version="2") == 2
        traffic.wait_for_replies(10)
    assert traffic.failures == []


# Workers


def test_workers_killed_under_large_batches_tear_no_answered_line_and_lose_no_count(home: Path, soak: bool) -> None:
    """Lines of over 450 KB a write; the counts of the dead are taken over."""
    (home / "pipeline_config.yaml").write_text("deployment: {max_prediction_batch_size: 2000}\n")
    choose, counted = random.Random(1), [0.0]
    with running(home, *GUNICORN) as server:
        with Traffic(server, clients=3, rows=1600) as traffic:
            for _ in range(30 if soak else 3):
                traffic.wait_for_replies(6)
                victim = choose.choice(server.workers())
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda victim=victim: victim not in server.workers(), "it is replaced")  # type: ignore[misc]
                wait_for(lambda: len(server.workers()) == 2, "two workers")
                counted.append(metric(server, "mlops_predictions_total", model_version="1", arm=""))
            traffic.wait_for_replies(6)
        assert counted == sorted(counted)
        in_log = logged(home)
        assert {in_log[prediction_id] for prediction_id in traffic.ids} == {1}
        assert max(in_log.values()) == 1
        assert 1600 * bytes_a_line(home) > 450_000
        total = metric(server, "mlops_predictions_total", model_version="1", arm="")
        assert len(traffic.ids) <= total <= len(in_log)
        assert metric(server, "mlops_requests_in_flight") == 1  # the one that asks
    assert not any(failure.startswith("5") for failure in traffic.failures)


def bytes_a_line(home: Path) -> float:
    return sum(path.stat().st_size for path in (home / "logs").glob("predictions_*")) / logged(home).total()


# Keys


def test_a_key_is_in_force_and_revoked_in_all_workers_within_a_second(home: Path) -> None:
    path = home / "keys.json"
    with with_both_workers(home) as server:

        def statuses(key: str) -> set[int]:
            """Of several connections, which reach both workers."""
            return {ask(server, key) for _ in range(12)}

        assert statuses("") == {200}
        key = create_key(path, "app", ["predict"], NOON).key
        time.sleep(1.0)  # the promise
        assert (statuses(""), statuses(key), statuses(key + "x")) == ({401}, {200}, {401})
        create_key(path, "other", ["read"], NOON)
        revoke_key(path, "app")
        time.sleep(1.0)
        assert statuses(key) == {401}
        output = server.log() + "".join(file.read_text() for file in (home / "logs").iterdir())
        assert key[:20] not in output


def ask(server: Server, key: str) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/predict", json.dumps(sample_row()), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_health_is_answered_while_the_workers_are_busy(home: Path) -> None:
    with running(home, *GUNICORN) as server, Traffic(server, clients=6, rows=500) as traffic:
        traffic.wait_for_replies(5)
        connection: Any = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        assert all(exchange(connection, "GET", "/health")[0] == 200 for _ in range(20))
        connection.close()
    assert traffic.failures == []
