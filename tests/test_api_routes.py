"""The routes through Flask's test client: codes, the one problem shape, reloading, and what a bad day looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import bind_address, create_app
from api.model_server import ModelServer
from api.reloading import Reloader
from api.routes import EXTENSION, Services
from config.settings import ConfigurationError, Settings, decode_settings
from models.bundle import MANIFEST, MODEL
from models.serving_plan import PLAN, ServingPlan, write_plan
from monitoring.prediction_log import PredictionLog
from tests.bundles import promote, sample_bundle, sample_model, sample_row, serve_sample
from tests.log_reading import logged_lines

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def make_app(folder: Path, **deployment: Any) -> Flask:
    configured = decode_settings({"deployment": deployment})
    app = create_app(configured, registry=folder / "registry", logs=folder / "logs", clock=lambda: NOON)
    services_of(app).reloader.ensure_running = lambda: None  # type: ignore[method-assign]  # tests look themselves
    return app


def services_of(app: Flask) -> Services:
    services: Services = app.extensions[EXTENSION]
    return services


@pytest.fixture
def client(tmp_path: Path, registry: Path) -> FlaskClient:
    """A client of an application that serves the sample model."""
    serve_sample(registry)
    app = make_app(tmp_path, max_prediction_batch_size=5, max_request_bytes=4096)
    services_of(app).reloader.look()
    return app.test_client()


def look(client: FlaskClient) -> None:
    services_of(client.application).reloader.look()


def post(client: FlaskClient, rows: Any) -> TestResponse:
    return client.post("/predict", json=rows)


def assert_problem(reply: TestResponse, status: int) -> dict[str, Any]:
    """The one shape of every refusal."""
    assert (reply.status_code, reply.content_type) == (status, "application/problem+json")
    problem: dict[str, Any] = json.loads(reply.data)
    assert problem["status"] == status
    assert all(problem[key] for key in ("type", "title", "detail"))
    assert problem["request_id"] == reply.headers["X-Request-ID"]
    assert "Traceback" not in reply.text and str(PROJECT) not in reply.text
    return problem


# Answers


def test_fault_13_a_row_and_a_list_have_one_shape(client: FlaskClient) -> None:
    one, many = post(client, sample_row()), post(client, [sample_row(), sample_row(age=None)])
    assert (one.status_code, many.status_code) == (200, 200)
    reply = many.get_json()
    assert [len(reply[key]) for key in ("prediction", "probability", "classes", "prediction_id")] == [2, 2, 2, 2]
    assert reply["warnings"] == [{"row": 1, "field": "age", "code": "missing"}]
    assert set(one.get_json()) == set(reply) - {"warnings"}
    assert (reply["model_name"], reply["model_version"]) == ("production_model", "1")
    assert reply["timestamp"] == "2026-03-04T12:00:00Z"


def test_fault_18_every_answered_id_is_in_the_log(client: FlaskClient, tmp_path: Path) -> None:
    answered = [id_ for _ in range(3) for id_ in post(client, [sample_row()] * 2).get_json()["prediction_id"]]
    assert [line.prediction_id for line in logged_lines(tmp_path / "logs")] == answered


def test_the_request_id_of_a_client_is_in_reply_and_log(client: FlaskClient, tmp_path: Path) -> None:
    reply = client.post("/predict", json=sample_row(), headers={"X-Request-ID": "trace-1"})
    assert reply.headers["X-Request-ID"] == "trace-1"
    assert logged_lines(tmp_path / "logs")[0].request_id == "trace-1"


def test_a_request_id_that_no_log_should_hold_is_replaced(client: FlaskClient) -> None:
    reply = client.get("/health", headers={"X-Request-ID": 'a"b' * 100})
    assert len(reply.headers["X-Request-ID"]) == 36


def test_health_ready_and_model_info_tell_the_version(client: FlaskClient) -> None:
    health, ready, info = (client.get(path).get_json() for path in ("/health", "/ready", "/model_info"))
    assert (health["status"], health["model_version"], health["timestamp"]) == ("healthy", "1", "2026-03-04T12:00:00Z")
    assert health["reload"]["problem"] is None
    assert ready["model_version"] == info["version"] == "1"
    assert [feature["name"] for feature in info["schema"]["features"]] == list(sample_row())


# Refusals


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"age": NaN}', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", "application/json; charset=latin-1", 415),
        (b"{}", "application/json; charset=UTF-8", 422),
        (b"[" + b"1," * 5000 + b"1]", "application/json", 413),
    ],
)
def test_fault_14_a_mistake_of_the_client_has_its_code(
    client: FlaskClient, body: bytes, content_type: str, status: int
) -> None:
    assert_problem(client.post("/predict", data=body, content_type=content_type), status)


def test_fault_14_every_bad_field_is_named(client: FlaskClient) -> None:
    problem = assert_problem(post(client, [sample_row(age="41", zz=1)]), 422)
    assert problem["errors"] == [
        {"path": "$[0].age", "rule": "expected a finite number or null", "got": "string"},
        {"path": "$[0].zz", "rule": "unknown field", "got": "number"},
    ]


def test_fault_20_the_configured_batch_size_is_enforced(client: FlaskClient) -> None:
    assert post(client, [sample_row()] * 5).status_code == 200
    assert "5 rows" in assert_problem(post(client, [sample_row()] * 6), 413)["detail"]


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    reply = client.post("/predict", json=sample_row(), headers={"Content-Encoding": "gzip"})
    assert_problem(reply, 415)


def test_an_unknown_route_and_a_wrong_method_are_problems(client: FlaskClient) -> None:
    assert_problem(client.get("/nothing/here"), 404)
    reply = client.get("/predict")
    assert_problem(reply, 405)
    assert "POST" in reply.headers["Allow"]


@pytest.mark.parametrize("path", ["/docs/files//etc/passwd", "/v2//health/live", "/v2/models//ready", "/health//"])
def test_a_double_slash_is_an_unknown_route_and_no_redirect(client: FlaskClient, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 404
    assert "json" in reply.content_type


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5000", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_without_keys_a_foreign_host_name_is_refused(client: FlaskClient, host: str) -> None:
    assert_problem(client.get("/health", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:5000", "[::1]", "[::1]:5000"])
def test_the_names_of_this_machine_are_answered(client: FlaskClient, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


def test_open_without_keys_answers_to_any_name(tmp_path: Path) -> None:
    client = make_app(tmp_path, open_without_keys=True).test_client()
    assert client.get("/health", headers={"Host": "models.example"}).status_code == 200


def test_listening_elsewhere_without_keys_needs_the_explicit_setting() -> None:
    open_address = {"model_serve_host": "0.0.0.0"}
    with pytest.raises(ConfigurationError, match="open_without_keys"):
        bind_address(decode_settings({"deployment": open_address}))
    allowed = decode_settings({"deployment": open_address | {"open_without_keys": True}})
    assert bind_address(allowed) == ("0.0.0.0", 5000)


def test_a_fault_of_the_service_shows_nothing_of_itself(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret /etc/path")

    monkeypatch.setattr(ModelServer, "predict", fail)
    reply = post(client, sample_row())
    assert_problem(reply, 500)
    assert "secret" not in reply.text
    assert "secret" in caplog.text


def test_a_log_that_cannot_be_written_is_answered_503_and_heals(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    reply = post(client, sample_row())
    assert_problem(reply, 503)
    assert reply.headers["Retry-After"]
    (tmp_path / "logs").unlink()
    assert post(client, sample_row()).status_code == 200


# The model in service


def test_fault_15_it_starts_without_a_model_and_picks_up_the_first(tmp_path: Path, registry: Path) -> None:
    client = make_app(tmp_path).test_client()
    look(client)
    assert client.get("/health").status_code == 200
    for reply in (client.get("/ready"), post(client, sample_row()), client.get("/model_info")):
        assert_problem(reply, 503)
        assert reply.headers["Retry-After"]
    serve_sample(registry)
    look(client)
    assert client.get("/ready").status_code == 200
    assert post(client, sample_row()).status_code == 200


def test_fault_16_a_new_model_is_picked_up_and_a_rollback_too(client: FlaskClient, registry: Path) -> None:
    first = post(client, sample_row()).get_json()
    digest = sample_bundle(registry / "2", seed=1)
    promote(registry, "2", digest)
    look(client)
    second = post(client, sample_row()).get_json()
    promote(registry, "1", sample_bundle(registry / "1"))
    look(client)
    third = post(client, sample_row()).get_json()
    assert [reply["model_version"] for reply in (first, second, third)] == ["1", "2", "1"]
    assert first["probability"] == third["probability"] != second["probability"]


def test_a_reply_in_flight_finishes_on_the_old_model(client: FlaskClient, registry: Path) -> None:
    server = services_of(client.application).server
    old = server.current()
    serve_sample(registry, "2", seed=1)
    look(client)
    assert server.answer(old, [sample_row()], "r", 0.0).model_version == "1"
    assert post(client, sample_row()).get_json()["model_version"] == "2"


def _altered(registry: Path) -> None:
    digest = sample_bundle(registry / "2", seed=1)
    (registry / "2" / MODEL).write_bytes(b"other")
    promote(registry, "2", digest)


def _wrong_answers(registry: Path) -> None:
    promote(registry, "2", sample_bundle(registry / "2", seed=0, model=sample_model(1)))


def _not_promoted(registry: Path) -> None:
    sample_bundle(registry / "2", seed=1)
    promote(registry, "2", "0" * 64)


def _absent(registry: Path) -> None:
    promote(registry, "2", "0" * 64)


def _half(registry: Path) -> None:
    digest = sample_bundle(registry / "2", seed=1)
    (registry / "2" / MANIFEST).unlink()
    promote(registry, "2", digest)


def _torn_plan(registry: Path) -> None:
    (registry / PLAN).write_text('{"format_version": 1, "champ')


def _newer_plan(registry: Path) -> None:
    write_plan(registry, ServingPlan(registered_name="m", champion=None, format_version=99))


def _no_champion(registry: Path) -> None:
    write_plan(registry, ServingPlan(registered_name="m", champion=None))


def _no_plan(registry: Path) -> None:
    (registry / PLAN).unlink()


def _no_text(registry: Path) -> None:
    (registry / PLAN).write_bytes(b'{"format_version": 1, "registered_name": "\xff", "champion": null}')


def _pipe(registry: Path) -> None:
    """Which a server would wait at for ever, and never see another plan."""
    (registry / PLAN).unlink()
    os.mkfifo(registry / PLAN)


BAD_DAYS = [_altered, _wrong_answers, _not_promoted, _absent, _half, _torn_plan, _newer_plan, _no_champion, _no_plan]
BAD_DAYS += [_no_text, _pipe]


@pytest.mark.parametrize("happen", BAD_DAYS)
def test_the_last_good_model_stays_and_health_says_why(client: FlaskClient, registry: Path, happen: Any) -> None:
    happen(registry)
    look(client)
    assert post(client, sample_row()).get_json()["model_version"] == "1"
    health = client.get("/health")
    assert health.status_code == 200
    assert health.get_json()["reload"]["problem"]
    assert str(registry) not in health.text
    serve_sample(registry, "3", seed=1)
    look(client)
    assert post(client, sample_row()).get_json()["model_version"] == "3"
    assert client.get("/health").get_json()["reload"]["problem"] is None


def test_a_bundle_that_failed_is_tried_again_later_and_less_and_less_often(tmp_path: Path, registry: Path) -> None:
    now = [0.0]
    server = ModelServer(PredictionLog(tmp_path))
    reloader = Reloader(server, registry, 10, monotonic=lambda: now[0])
    _absent(registry)
    for second in range(60):
        now[0] = float(second)
        reloader.look()
    assert 5 <= reloader.status.refused <= 7
    promote(registry, "2", sample_bundle(registry / "2"))
    reloader.look()
    assert server.served is not None


def test_an_unchanged_model_is_not_loaded_again(client: FlaskClient, registry: Path) -> None:
    server = services_of(client.application).server
    before = server.current()
    promote(registry, "1", before.manifest_sha256)
    look(client)
    assert server.current() is before
    assert client.get("/health").get_json()["reload"]["generation"] == 2


# The process


def test_fault_17_a_prediction_imports_nothing_of_training_or_drift(registry: Path, tmp_path: Path) -> None:
    serve_sample(registry)
    program = f"""
import json, sys
from pathlib import Path
from api.app import create_app
app = create_app(registry=Path({str(registry)!r}), logs=Path({str(tmp_path)!r}))
reply = app.test_client().post("/predict", json=json.loads({json.dumps(sample_row())!r}))
assert reply.status_code == 200, reply.text
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"pandas", "sklearn", "mlflow", "sqlalchemy", "matplotlib", "pyarrow", "scipy", "skl2onnx"}
    assert not any(name.startswith(("pipeline", "monitoring.drift")) for name in json.loads(done.stdout))


def test_importing_the_application_does_nothing(tmp_path: Path) -> None:
    program = "import threading, api.app, api.routes; assert threading.active_count() == 1"
    environment = {"MLOPS_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_the_first_request_starts_the_watch_where_no_server_has(tmp_path: Path, registry: Path) -> None:
    serve_sample(registry)
    app = create_app(Settings(), registry=registry, logs=tmp_path / "logs")
    assert post(app.test_client(), sample_row()).status_code == 200
    services_of(app).reloader.stop()


def test_the_encoded_reply_is_plain_json(client: FlaskClient) -> None:
    assert msgspec.json.decode(post(client, sample_row()).data)["prediction"][0] in ("no", "yes")
