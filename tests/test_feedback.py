"""Outcomes: what is taken, what is refused and why, and that what was taken is in the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from config.settings import Settings, decode_settings
from monitoring.ids import uuid7
from monitoring.log_ingestion import Ingestion
from monitoring.outcome_records import counted_outcomes
from monitoring.store import Store
from tests.bundles import sample_row, serve_sample
from tests.test_server_metrics import value

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> list[datetime]:
    """The last of it is now."""
    return [NOON]


@pytest.fixture
def app(tmp_path: Path, clock: list[datetime]) -> Flask:
    serve_sample(tmp_path / "registry")
    app = create_app(
        decode_settings({"deployment": {"max_prediction_batch_size": 5}}),
        registry=tmp_path / "registry",
        logs=tmp_path / "logs",
        clock=lambda: clock[-1],
    )
    reloader = app.extensions["mlops"].reloader
    reloader.ensure_running = lambda: None
    reloader.look()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def logged(tmp_path: Path) -> list[dict[str, Any]]:
    content = (tmp_path / "logs" / "feedback_20260304.jsonl").read_bytes()
    return [json.loads(line) for line in content.splitlines() if line]


def outcome(**changes: Any) -> dict[str, Any]:
    return {"prediction_id": uuid7(), "actual": "yes"} | changes


def test_an_outcome_is_in_the_log_when_it_is_answered(client: FlaskClient, tmp_path: Path) -> None:
    sent = outcome(value=12.5, observed_at="2026-03-01T08:00:00Z")
    reply = client.post("/feedback", json=sent, headers={"X-Request-ID": "trace"})
    assert (reply.status_code, reply.get_json()) == (202, {"accepted": 1, "timestamp": "2026-03-04T12:00:00Z"})
    (line,) = logged(tmp_path)
    assert line == sent | {"timestamp": "2026-03-04T12:00:00Z", "request_id": "trace"}


def test_a_list_is_one_write_and_counted(client: FlaskClient, tmp_path: Path) -> None:
    reply = client.post("/feedback", json=[outcome(), outcome(actual=None, value=3), outcome(actual="no")])
    assert reply.get_json()["accepted"] == 3
    assert len(logged(tmp_path)) == 3
    assert b"mlops_feedback_total 3\n" in client.get("/metrics").data


@pytest.mark.parametrize("actual", ["yes", "no"])
def test_a_class_of_the_model_brings_no_warning(client: FlaskClient, actual: str) -> None:
    assert "warnings" not in client.post("/feedback", json=outcome(actual=actual)).get_json()


@pytest.mark.parametrize("actual", ["maybe", 1, True, ""])
def test_an_unknown_class_is_taken_with_a_warning(client: FlaskClient, tmp_path: Path, actual: Any) -> None:
    reply = client.post("/feedback", json=[outcome(), outcome(actual=actual)])
    assert reply.status_code == 202
    assert reply.get_json()["warnings"] == [{"row": 1, "field": "actual", "code": "unknown_class"}]
    assert logged(tmp_path)[1]["actual"] == actual


def test_without_a_model_outcomes_are_taken(tmp_path: Path) -> None:
    app = create_app(registry=tmp_path / "none", logs=tmp_path / "logs", clock=lambda: NOON)
    app.extensions["mlops"].reloader.ensure_running = lambda: None
    assert app.test_client().post("/feedback", json=outcome()).status_code == 202


@pytest.mark.parametrize(
    ("changes", "path", "rule", "got"),
    [
        ({"prediction_id": "x"}, "$.prediction_id", "expected the prediction_id of a reply", "string"),
        ({"prediction_id": None}, "$.prediction_id", "expected the prediction_id of a reply", "null"),
        ({"actual": 1.5}, "$.actual", "expected a class", "number"),
        ({"actual": ["yes"]}, "$.actual", "expected a class", "array"),
        ({"actual": "x" * 1001}, "$.actual", "expected a class", "string"),
        ({"value": "12"}, "$.value", "expected a finite number", "string"),
        ({"value": True}, "$.value", "expected a finite number", "boolean"),
        ({"observed_at": "yesterday"}, "$.observed_at", "expected an ISO 8601", "string"),
        ({"observed_at": 5}, "$.observed_at", "expected an ISO 8601", "number"),
        ({"label": "yes"}, "$.label", "unknown field", "string"),
        ({"actual": None}, "$", "expected actual or value", "object"),
    ],
)
def test_a_wrong_outcome_is_refused_by_field(
    client: FlaskClient, tmp_path: Path, changes: dict[str, Any], path: str, rule: str, got: str
) -> None:
    reply = client.post("/feedback", json=outcome(**changes))
    assert reply.status_code == 422
    (fault,) = reply.get_json(force=True)["errors"]
    assert (fault["path"], fault["got"]) == (path, got)
    assert fault["rule"].startswith(rule)
    assert not (tmp_path / "logs" / "feedback_20260304.jsonl").exists()


def test_one_wrong_outcome_refuses_the_whole_list(client: FlaskClient, tmp_path: Path) -> None:
    reply = client.post("/feedback", json=[outcome(), outcome(actual=None), 7])
    assert [fault["path"] for fault in reply.get_json(force=True)["errors"]] == ["$[1]", "$[2]"]
    assert not (tmp_path / "logs" / "feedback_20260304.jsonl").exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"1e999", 422),
        (b'{"prediction_id": "x", "value": 1e999}', 422),
        (b'{"prediction_id": "x", "value": 1' + b"0" * 5000 + b"}", 422),
        (b"[" + b"1," * 9 + b"1]", 413),
    ],
)
def test_what_is_no_outcome_has_its_code(client: FlaskClient, body: bytes, status: int) -> None:
    assert client.post("/feedback", data=body, content_type="application/json").status_code == status


def test_an_outcome_twice_counts_once_and_a_correction_wins(
    client: FlaskClient, clock: list[datetime], store: Store, tmp_path: Path
) -> None:
    prediction = client.post("/predict", json=sample_row()).get_json()["prediction_id"][0]
    for second, actual in enumerate(("yes", "yes", "no")):
        clock.append(NOON + timedelta(seconds=second))
        assert client.post("/feedback", json=outcome(prediction_id=prediction, actual=actual)).status_code == 202
    assert len(logged(tmp_path)) == 3
    folders = (tmp_path / "logs", tmp_path / "registry")
    Ingestion(Settings(), store, *folders, lambda: NOON, source_file=tmp_path / "source_id").run_once()
    [count] = counted_outcomes(store, NOON, NOON + timedelta(hours=1))
    assert (count.actual, count.rows) == ("no", 1)


def test_outcomes_that_cannot_be_logged_are_refused_and_counted(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    reply = client.post("/feedback", json=outcome())
    assert (reply.status_code, bool(reply.headers["Retry-After"])) == (503, True)
    assert b'mlops_log_failures_total{log="feedback",outcome="refused"} 1' in client.get("/metrics").data
    (tmp_path / "logs").unlink()
    assert client.post("/feedback", json=outcome()).status_code == 202


def test_a_wrong_outcome_is_no_fault_of_a_feature_of_the_same_name(client: FlaskClient) -> None:
    """Else clients of /feedback would raise data-quality incidents of the model's features."""
    reply = client.post("/feedback", json=outcome(age=41))
    assert reply.get_json(force=True)["type"] == "urn:mlops:problem:invalid-outcomes"
    text = client.get("/metrics").data
    assert value(text, "mlops_refused_requests_total", problem="invalid-outcomes") == 1
    assert b"mlops_refused_values_total{" not in text
