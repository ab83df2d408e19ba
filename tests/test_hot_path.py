"""`/predict` before Flask's dispatch: the same replies, headers, counts and refusals as through it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.hot_path import HotPath
from api.routes import EXTENSION, Services
from config.settings import decode_settings
from monitoring.prediction_log import LogError
from tests.bundles import sample_row, serve_sample
from tests.log_reading import logged_lines

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def make_app(folder: Path, **sections: Any) -> Flask:
    serve_sample(folder / "registry")
    settings = decode_settings({"deployment": {"max_request_bytes": 4096}, **sections})
    app = create_app(settings, registry=folder / "registry", logs=folder / "logs", clock=lambda: NOON)
    services_of(app).reloader.ensure_running = lambda: None  # type: ignore[method-assign]  # tests look themselves
    services_of(app).reloader.look()
    return app


def services_of(app: Flask) -> Services:
    services: Services = app.extensions[EXTENSION]
    return services


@pytest.fixture
def clients(tmp_path: Path) -> tuple[FlaskClient, FlaskClient]:
    """One client through the hot path, one that goes round it."""
    fast, slow = make_app(tmp_path / "fast"), make_app(tmp_path / "slow")
    assert isinstance(slow.wsgi_app, HotPath)
    slow.wsgi_app = slow.wsgi_app.flask  # type: ignore[method-assign, assignment]
    return fast.test_client(), slow.test_client()


def told(reply: TestResponse) -> tuple[int, dict[str, str], Any]:
    """What a client is told, without what is new in each reply."""
    document = json.loads(reply.data)
    document.pop("prediction_id", None)
    document.pop("request_id", None)
    own = ("X-Request-ID", "Content-Length", "Date")
    return reply.status_code, {k: v for k, v in reply.headers.items() if k not in own}, document


REQUESTS: list[dict[str, Any]] = [
    {"json": sample_row()},
    {"json": [sample_row(), sample_row(age=None, city="Atlantis")]},
    {"json": [sample_row(age=n) for n in range(10, 80)]},
    {"json": []},
    {"json": sample_row(age="41", zz=1)},
    {"data": b"{", "content_type": "application/json"},
    {"data": b"", "content_type": "application/json"},
    {"data": b"[" * 2000, "content_type": "application/json"},
    {"data": b"{}", "content_type": "text/plain"},
    {"data": b"{}", "content_type": "application/json; charset=latin-1"},
    {"data": b" " * 5000, "content_type": "application/json"},
    {"json": sample_row(), "headers": {"Content-Encoding": "gzip"}},
    {"json": sample_row(), "headers": {"Host": "evil.example"}},
    {"json": sample_row(), "headers": {"X-Request-ID": "mine"}},
    {"json": sample_row(), "headers": {"X-Request-ID": 'a"b'}},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_is_answered_as_through_flask(
    clients: tuple[FlaskClient, FlaskClient], request_: dict[str, Any]
) -> None:
    fast, slow = (client.post("/predict", **request_) for client in clients)
    assert told(fast) == told(slow)


def test_each_request_is_counted_once_and_as_through_flask(clients: tuple[FlaskClient, FlaskClient]) -> None:
    counted = []
    for client in clients:
        for request_ in REQUESTS:
            client.post("/predict", **request_)
        text = client.get("/metrics").get_data(as_text=True)
        wanted = ("mlops_requests_total", "mlops_predictions_total", "mlops_refused", "mlops_warnings_total")
        counted.append(
            [line for line in text.splitlines() if line.startswith(wanted) and "/predict" in line + "/predict"]
        )
    assert counted[0] == counted[1]


def test_other_routes_and_methods_go_through_flask(clients: tuple[FlaskClient, FlaskClient]) -> None:
    fast, _ = clients
    assert fast.get("/predict").status_code == 405
    assert fast.post("/predict/").status_code == 404
    assert fast.get("/health").status_code == 200


def test_a_request_without_an_id_is_known_by_its_first_prediction(tmp_path: Path) -> None:
    client = make_app(tmp_path).test_client()
    reply = client.post("/predict", json=[sample_row()] * 2)
    first = reply.get_json()["prediction_id"][0]
    assert reply.headers["X-Request-ID"] == first
    assert {line.request_id for line in logged_lines(tmp_path / "logs")} == {first}


def test_a_failure_of_the_core_is_a_problem_and_leaves_nothing_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path, deployment={"max_concurrent_requests": 1})
    core, client = services_of(app), app.test_client()
    for error in (RuntimeError("secret"), LogError("full")):
        with monkeypatch.context() as patch:

            def fail(*_: object, error: Exception = error) -> None:
                raise error

            patch.setattr(core.server, "predict", fail)
            reply = client.post("/predict", json=sample_row())
        assert reply.status_code == (500 if isinstance(error, RuntimeError) else 503)
        assert "secret" not in reply.text
    assert client.post("/predict", json=sample_row()).status_code == 200


def test_with_an_access_log_of_everything_each_answer_has_its_line(tmp_path: Path) -> None:
    app = make_app(tmp_path, logging={"access": "all"})
    assert not isinstance(app.wsgi_app, HotPath)
    app.test_client().post("/predict", json=sample_row())
    (path,) = (tmp_path / "logs").glob("access_*.jsonl")
    assert json.loads(path.read_text())["status"] == 200
