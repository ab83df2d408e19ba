"""`/openapi.json` says what the service does, held to it by schemathesis; `/docs` shows it without a network."""

from __future__ import annotations

import json
import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.auth import ROUTE_SCOPES
from api.keys import create_key, keys_path
from api.openapi import OPERATIONS
from config import product
from models.schema import Feature, Ignored, Schema
from tests.bundles import SAMPLE_SCHEMA, sample_row, serve_sample
from tests.test_api_routes import look, make_app

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = 500 if os.environ.get("MLOPS_SOAK") else 10


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    serve_sample(tmp_path / "registry")
    app = make_app(tmp_path, max_prediction_batch_size=50)
    look(app.test_client())
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def routes_of(app: Flask) -> set[tuple[str, str]]:
    """Method and path of every route that is no file of the page."""
    return {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if not rule.rule.startswith("/docs/files/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


# The service keeps to its description


def checks() -> dict[str, Any]:
    """A schema cannot say of every body that its parts fit each other: as many values as the shape tells, as many
    cells as columns. Such bodies are refused although their schema is kept."""
    related = r"^/(invocations|feedback|v2/models/.*/infer)$"
    return {
        "seed": 1,
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
        "phases": {"stateful": {"enabled": False}},
        "checks": {"negative_data_rejection": {"expected-statuses": ["4XX", "503"]}},
        "operations": [{"include-path-regex": related, "checks": {"positive_data_acceptance": {"enabled": False}}}],
    }


def map_body(context: Any, body: Any) -> Any:
    """A hook of schemathesis, which goes by its name."""
    return without_point(body)


def without_point(value: Any) -> Any:
    """JSON Schema takes 2.0 for an integer; the server does not, so that no level is a matter of rounding."""
    if isinstance(value, dict):
        return {name: without_point(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_point(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_schemathesis_finds_nothing_that_the_description_does_not_say(app: Flask) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.engine import events, from_schema

    described = schemathesis.openapi.from_wsgi("/openapi.json", app, config=schemathesis.Config.from_dict(checks()))
    described.hooks.hook(map_body)
    requests, found = 0, []
    for event in from_schema(described).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            requests += len(event.recorder.interactions)
            results = [result for results in event.recorder.checks.values() for result in results]
            found += [f"{event.label}: {r.failure_info.failure}" for r in results if r.failure_info is not None]
    assert found == []
    assert requests > 200


def test_every_route_is_described_and_every_description_has_a_route(app: Flask, document: dict[str, Any]) -> None:
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == routes_of(app)
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}


def test_every_route_has_a_scope_of_its_own(app: Flask) -> None:
    assert {rule.rule for rule in app.url_map.iter_rules()} <= set(ROUTE_SCOPES)


def test_every_example_is_answered(client: FlaskClient, document: dict[str, Any]) -> None:
    in_service = {"{name}": "production_model", "{version}": "1"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            filled = re.sub(r"\{\w+\}", lambda found: in_service[found[0]], path)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            reply = client.open(filled, method=method.upper(), json=body)
            assert str(reply.status_code) in operation["responses"] and reply.status_code < 300, (path, reply.text)


# The document


def test_a_row_has_the_fields_of_the_model_in_service(document: dict[str, Any]) -> None:
    row = document["components"]["schemas"]["Row"]
    assert document["openapi"] == "3.1.0"
    assert row["required"] == list(sample_row())
    assert set(row["properties"]) == {*sample_row(), "customer id", "remark"}
    assert row["additionalProperties"] is False
    assert row["properties"]["age"]["x-trained-range"] == [18.0, 80.0]
    assert row["properties"]["city"]["x-categories"] == ["Berlin", "Köln", "Ulm"]
    assert row["properties"]["visits"]["type"] == "number"
    assert row["properties"]["age"]["type"] == ["number", "null"]
    assert document["components"]["schemas"]["Reply"]["properties"]["prediction"]["items"] == {"enum": ["no", "yes"]}


def test_the_description_follows_a_swap(client: FlaskClient, tmp_path: Path) -> None:
    serve_sample(tmp_path / "registry", "2", seed=1)
    look(client)
    assert client.get("/openapi.json").get_json()["info"]["version"] == "2"


def test_without_a_model_the_routes_are_described_all_the_same(tmp_path: Path) -> None:
    document = make_app(tmp_path).test_client().get("/openapi.json").get_json()
    assert document["components"]["schemas"]["Row"]["type"] == "object"
    assert "/predict" in document["paths"]


def test_with_keys_the_description_asks_for_one_and_the_page_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    key = create_key(keys_path(), "reader", ["read"], datetime(2026, 3, 4, tzinfo=UTC)).key
    client = make_app(tmp_path).test_client()
    assert (client.get("/docs").status_code, client.get("/openapi.json").status_code) == (200, 401)
    document = client.get("/openapi.json", headers={"Authorization": f"Bearer {key}"}).get_json()
    predict, health = document["paths"]["/predict"]["post"], document["paths"]["/health"]["get"]
    assert (predict["security"], predict["x-scope"]) == ([{"key": []}], "predict")
    assert "401" in predict["responses"] and "security" not in health
    assert client.post("/invocations", json={}).get_json()["error_code"] == "UNAUTHENTICATED"
    assert list(client.get("/v2").get_json()) == ["error"]


def test_its_schemas_are_json_schema_2020_12(document: dict[str, Any]) -> None:
    validator = pytest.importorskip("jsonschema_rs")
    schemas, dialect = document["components"]["schemas"], "https://json-schema.org/draft/2020-12/schema"
    assert schemas
    assert [name for name, it in schemas.items() if not validator.meta.is_valid({"$schema": dialect, **it})] == []


def test_every_reference_in_it_leads_to_a_schema(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named and named <= set(document["components"]["schemas"])


def test_names_with_quotes_and_a_level_list_without_end_are_described() -> None:
    from api.openapi_schemas import LISTED_LEVELS, row_schema

    features = (
        Feature(name='a"b\\c', kind="categorical", categories=tuple(f"l{n:04}" for n in range(5000))),
        Feature(name="empty", kind="categorical"),
        Feature(name="no range", kind="numeric"),
    )
    row = row_schema(Schema(target="t", classes=(0, 1), features=features, ignored=(Ignored(name="t", reason="x"),)))
    assert list(row["properties"]) == ['a"b\\c', "empty", "no range"]
    assert len(row["properties"]['a"b\\c']["x-categories"]) == LISTED_LEVELS


def test_the_release_is_that_of_the_project() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == product.VERSION


# The page


def test_the_page_needs_this_server_alone(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.content_type == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    sources = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
    assert len(sources) >= 4
    assert all(source.startswith("/") and client.get(source).status_code == 200 for source in sources)


def test_no_part_of_the_page_breaks_its_policy(client: FlaskClient) -> None:
    page, *rest = (client.get(path).text for path in ("/docs", "/docs/files/docs.js", "/docs/files/docs.css"))
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", page)
    assert not any(re.search(r"https?://|innerHTML|\beval\b|@import", text) for text in rest)


def test_only_the_pages_own_files_are_sent(client: FlaskClient) -> None:
    for path in ("/docs/files/../../app.py", "/docs/files/%2e%2e/%2e%2e/app.py", "/docs/files/", "/docs/files/x"):
        assert client.get(path).status_code == 404


def test_the_fields_of_the_sample_fit_the_page(document: dict[str, Any]) -> None:
    """The page draws from these keys."""
    for feature in SAMPLE_SCHEMA.features:
        shown = document["components"]["schemas"]["Row"]["properties"][feature.name]
        assert shown["x-kind"] == feature.kind
        assert shown["examples"] and shown["description"]
