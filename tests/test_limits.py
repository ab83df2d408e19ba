"""Bounds on how much is answered at once and how often to whom, and what a client is told at the bound."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from api.app import create_app
from api.auth import Admission
from api.keys import KeyRing
from api.limits import CLIENTS, Limits, RateLimit
from api.metrics import Metrics
from config.settings import decode_settings
from tests.bundles import sample_row, serve_sample

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 10_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def make_app(folder: Path, **deployment: Any) -> Flask:
    serve_sample(folder / "registry")
    app = create_app(decode_settings({"deployment": deployment}), registry=folder / "registry", logs=folder / "logs")
    reloader = app.extensions["mlops"].reloader
    reloader.ensure_running = lambda: None
    reloader.look()
    return app


def make_limits(most: int) -> Limits:
    return Limits(decode_settings({"deployment": {"max_concurrent_requests": most}}), Metrics())


# Concurrency


def test_as_many_as_configured_enter_and_the_next_is_told_when_to_come_back() -> None:
    limits = make_limits(3)
    assert [limits.enter() for _ in range(3)] == [None] * 3
    refusal = limits.enter()
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (503, {"Retry-After": "1"})
    limits.leave()
    assert limits.enter() is None


def test_the_bound_holds_between_threads() -> None:
    limits, entered = make_limits(5), []
    threads = [threading.Thread(target=lambda: entered.append(limits.enter())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered.count(None) == 5


def test_a_busy_server_answers_503_and_its_health_check(tmp_path: Path) -> None:
    app = make_app(tmp_path, max_concurrent_requests=1)
    app.extensions["mlops"].limits.enter()
    reply = app.test_client().post("/predict", json=sample_row())
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    assert app.test_client().get("/health").status_code == 200
    app.extensions["mlops"].limits.leave()
    assert app.test_client().post("/predict", json=sample_row()).status_code == 200


def test_whatever_becomes_of_a_request_its_place_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(tmp_path, max_concurrent_requests=2)
    client = app.test_client()
    for _ in range(5):
        client.post("/predict", data=b"{", content_type="application/json")
        client.get("/nowhere")
        client.get("/health", headers={"Host": "evil.example"})
        client.get("/predict")
    monkeypatch.setattr(type(app.extensions["mlops"].server), "predict", lambda *_: 1 / 0)
    for _ in range(5):
        assert client.post("/predict", json=sample_row()).status_code == 500
    assert b"mlops_requests_in_flight 1\n" in client.get("/metrics").data  # itself


# Rate


def test_a_burst_of_one_second_is_allowed_and_then_the_rate() -> None:
    clock = Clock()
    rate = RateLimit(10.0, clock)
    assert [rate.take("a") for _ in range(10)] == [0.0] * 10
    assert 0.0 < rate.take("a") <= 0.11
    clock.forward(0.1)
    assert rate.take("a") == 0.0
    assert rate.take("a") > 0.0


def test_over_a_minute_the_rate_is_kept_to() -> None:
    clock = Clock()
    rate, taken = RateLimit(7.0, clock), 0
    for _ in range(60_000):
        taken += rate.take("a") == 0.0
        clock.forward(0.001)
    assert 7 * 60 <= taken <= 7 * 61 + 1


def test_a_rate_under_one_a_second_works() -> None:
    clock = Clock()
    rate = RateLimit(0.2, clock)
    assert rate.take("a") == 0.0
    assert 4.9 < rate.take("a") <= 5.0
    clock.forward(5.0)
    assert rate.take("a") == 0.0


def test_clients_do_not_use_up_each_others_rate() -> None:
    rate = RateLimit(1.0, Clock())
    allowed = sum(rate.take(f"client {number}") == 0.0 for number in range(100))
    assert allowed >= 95  # a shared number is a chance of one in CLIENTS for each pair


def test_many_clients_take_bounded_memory() -> None:
    rate = RateLimit(1.0, Clock())
    for number in range(3 * CLIENTS):
        rate.take(f"client {number}")
    assert len(rate._places) <= CLIENTS + 1


def test_what_an_earlier_boot_has_left_is_forgotten() -> None:
    clock = Clock()
    rate = RateLimit(10.0, clock)
    rate.take("a")
    clock.now = SECOND
    assert rate.take("a") == 0.0


def test_the_rate_is_one_for_all_workers(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from api.limits import RateLimit
rate = RateLimit(50.0, lambda: 10**12)  # the same moment in both
rate.attach(Path(sys.argv[1]))
print(sum(rate.take("a") == 0.0 for _ in range(int(sys.argv[2]))))
"""
    taken = [
        int(
            subprocess.run(
                [sys.executable, "-c", program, str(tmp_path), asked], capture_output=True, check=True
            ).stdout
        )
        for asked in ("30", "30", "30")
    ]
    assert taken == [30, 20, 0]


def test_one_client_is_told_to_wait_and_another_is_answered(tmp_path: Path) -> None:
    settings = decode_settings({"deployment": {"requests_per_second": 5.0, "open_without_keys": True}})
    door = Admission(settings, KeyRing(tmp_path / "keys.json"))
    refusals = [door.admit("predict", "", "h", "10.0.0.1") for _ in range(6)]
    assert [refusal and refusal.status for refusal in refusals] == [None] * 5 + [429]
    assert refusals[-1] is not None and int(refusals[-1].headers["Retry-After"]) >= 1
    assert door.admit("predict", "", "h", "10.0.0.2") is None
    assert door.admit(None, "", "h", "10.0.0.1") is None  # a health check


def test_the_rate_is_answered_429_with_retry_after(tmp_path: Path) -> None:
    client = make_app(tmp_path, requests_per_second=2.0).test_client()
    codes = [client.post("/predict", json=sample_row()) for _ in range(4)]
    assert [reply.status_code for reply in codes][:2] == [200, 200]
    assert (codes[-1].status_code, codes[-1].get_json(force=True)["type"]) == (429, "urn:mlops:problem:rate")
    assert codes[-1].headers["Retry-After"]
