"""Who is answered: scopes route by route, this machine alone without keys, and no key in any reply or log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import bind_address, create_app
from api.auth import ROUTE_SCOPES, UNMATCHED, Admission
from api.keys import SCOPES, KeyRing, Scope, create_key, keys_path, revoke_key
from config.settings import ConfigurationError, Settings, decode_settings
from tests.bundles import sample_row, serve_sample

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
OPEN_HOST = {"model_serve_host": "0.0.0.0"}


def with_deployment(**deployment: Any) -> Settings:
    return decode_settings({"deployment": deployment})


def admission(path: Path, **deployment: Any) -> Admission:
    return Admission(with_deployment(**deployment), KeyRing(path / "keys.json"))


def bearer(path: Path, name: str, *scopes: Scope) -> str:
    return f"Bearer {create_key(path / 'keys.json', name, scopes, NOON).key}"


def status(refusal: Any) -> int:
    return 200 if refusal is None else int(refusal.status)


@pytest.fixture
def app(home: Path) -> Flask:
    """An application with a model, in a state root of its own."""
    serve_sample(home / "models" / "registry")
    app = create_app()
    reloader = app.extensions["mlops"].reloader
    reloader.ensure_running = lambda: None
    reloader.look()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


# With keys


@pytest.mark.parametrize("asked", SCOPES)
@pytest.mark.parametrize("given", SCOPES)
def test_a_key_opens_its_scope_and_admin_all(tmp_path: Path, asked: Scope, given: Scope) -> None:
    door = admission(tmp_path)
    header = bearer(tmp_path, "app", given)
    expected = 200 if given in (asked, "admin") else 403
    assert status(door.admit(asked, header, "any.example")) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer wrong",
        "bearer mlops_" + "a" * 43,
        "Bearer " + "x" * 10_000,
        "\xff",
    ],
)
def test_no_key_and_a_wrong_key_are_401(tmp_path: Path, header: str) -> None:
    bearer(tmp_path, "app", "predict")
    refusal = admission(tmp_path).admit("predict", header, "127.0.0.1", "127.0.0.1")
    assert status(refusal) == 401
    assert refusal is not None and refusal.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_word_bearer_may_be_written_anyhow(tmp_path: Path) -> None:
    header = bearer(tmp_path, "app", "predict")
    for shown in (header.replace("Bearer", "bearer"), header.replace("Bearer ", "BEARER  ")):
        assert admission(tmp_path).admit("predict", shown, "any.example") is None


def test_with_keys_any_host_name_and_address_is_answered(tmp_path: Path) -> None:
    header = bearer(tmp_path, "app", "predict")
    assert admission(tmp_path, **OPEN_HOST).admit("predict", header, "models.example", "10.0.0.9") is None


def test_what_is_open_to_all_needs_no_key(tmp_path: Path) -> None:
    bearer(tmp_path, "app", "predict")
    assert admission(tmp_path).admit(None, "", "10.0.0.9:5000", "10.0.0.1") is None


# Without keys


@pytest.mark.parametrize(
    ("host", "remote", "expected"),
    [
        ("127.0.0.1:5000", "127.0.0.1", 200),
        ("LOCALHOST", "::1", 200),
        ("[::1]:80", "::ffff:127.0.0.1", 200),
        ("localhost", "", 200),
        ("localhost", "10.0.0.9", 403),
        ("evil.example", "127.0.0.1", 403),
        ("localhost.evil.example", "127.0.0.1", 403),
        ("127.0.0.1.nip.io", "127.0.0.1", 403),
        ("localhost:5000:1", "127.0.0.1", 403),
        ("localhost@evil.example", "127.0.0.1", 403),
        ("", "127.0.0.1", 403),
    ],
)
@pytest.mark.parametrize("scope", ["predict", None])
def test_without_keys_this_machine_alone_is_answered(
    tmp_path: Path, host: str, remote: str, expected: int, scope: Scope | None
) -> None:
    assert status(admission(tmp_path).admit(scope, "", host, remote)) == expected


def test_without_keys_control_is_refused_also_when_open(tmp_path: Path) -> None:
    for settings in ({}, {"open_without_keys": True}):
        refusal = admission(tmp_path, **settings).admit("admin", "", "localhost", "127.0.0.1")
        assert status(refusal) == 403 and "keys create" in str(refusal)


def test_open_without_keys_answers_anybody(tmp_path: Path) -> None:
    door = admission(tmp_path, open_without_keys=True, **OPEN_HOST)
    assert door.admit("predict", "", "models.example", "10.0.0.9") is None


def test_an_open_address_whose_last_key_was_revoked_answers_nobody(tmp_path: Path) -> None:
    header = bearer(tmp_path, "app", "predict")
    revoke_key(tmp_path / "keys.json", "app")
    for host in ("localhost", "models.example"):
        assert status(admission(tmp_path, **OPEN_HOST).admit("predict", header, host, "127.0.0.1")) == 403


def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("torn")
    refusal = admission(tmp_path).admit("predict", "", "localhost", "127.0.0.1")
    assert status(refusal) == 503
    assert refusal is not None and refusal.headers["Retry-After"]


def test_hosts_that_a_client_makes_up_take_no_memory(tmp_path: Path) -> None:
    door = admission(tmp_path)
    for port in range(1000):
        door.admit("predict", "", f"localhost:{port}", "127.0.0.1")
    assert len(door._local_hosts) <= 64


def test_an_open_address_needs_a_key_or_the_setting(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="keys create"):
        bind_address(with_deployment(**OPEN_HOST))
    create_key(keys_path(), "app", ["predict"], NOON)
    assert bind_address(with_deployment(**OPEN_HOST)) == ("0.0.0.0", 5000)


# Over HTTP


def test_every_route_has_a_scope_and_every_scope_a_route(app: Flask) -> None:
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert rules - set(ROUTE_SCOPES) == set(), "say in api/auth.py what these ask of a key"
    assert set(ROUTE_SCOPES) - rules - {UNMATCHED} == set()


def test_each_route_asks_for_its_scope(app: Flask, client: FlaskClient) -> None:
    create_key(keys_path(), "useless", [], NOON)
    app.extensions["mlops"].admission.keys._look_at = 0.0
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<{name}>", "x").replace(f"<path:{name}>", "x")
        method = "POST" if "POST" in (rule.methods or ()) else "GET"
        reply = client.open(path, method=method)
        assert (reply.status_code == 401) == (ROUTE_SCOPES[rule.rule] is not None), path


def test_a_key_in_a_request_is_in_no_reply_and_no_log(
    home: Path, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    key = create_key(keys_path(), "app", ["read"], NOON).key
    client.application.extensions["mlops"].admission.keys._look_at = 0.0
    for sent in (key, key + "x", key[:-1]):
        for path in ("/predict", "/model_info", "/nowhere"):
            reply = client.post(path, json=sample_row(), headers={"Authorization": f"Bearer {sent}"})
            assert key[:20] not in reply.text + str(reply.headers)
    written = b"".join(path.read_bytes() for path in (home / "logs").iterdir())
    assert b"wrong-key" in written
    assert key[:20].encode() not in written and key[:20] not in caplog.text


def test_every_reply_has_the_headers_that_keep_browsers_off(client: FlaskClient) -> None:
    for reply in (client.get("/health"), client.get("/nowhere"), client.post("/predict"), client.get("/metrics")):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Request-ID"]
