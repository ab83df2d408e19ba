"""docs/serving.md is run: every curl in it is answered as it says, and its routes and scopes are the server's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.auth import ROUTE_SCOPES, UNMATCHED
from tests.bundles import serve_sample
from tests.test_api_routes import look, make_app

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sh\n(curl [^`]*?)```\n\n```json\n(.*?)```", DOCUMENT, re.DOTALL)
#: What differs from run to run, by name.
UNSTABLE = {"prediction_id", "timestamp", "request_id", "loaded_at", "manifest_sha256", "libraries"}


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    serve_sample(tmp_path / "registry")
    client = make_app(tmp_path).test_client()
    look(client)
    return client


def run(client: FlaskClient, command: str) -> Any:
    """The reply to a `curl URL [-H HEADER]… [-d BODY]`."""
    _, address, *options = shlex.split(command)
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = [tuple(value.split(": ", 1)) for option, value in given if option == "-H"]
    body = next((value.encode() for option, value in given if option == "-d"), None)
    path = address.removeprefix("http://localhost:5000")
    return client.open(path, method="POST" if body else "GET", data=body, headers=headers).get_json()


def assert_alike(found: Any, shown: Any, name: str = "") -> None:
    if name in UNSTABLE:
        assert type(found) is type(shown)
    elif isinstance(shown, dict):
        assert found.keys() == shown.keys()
        for key, value in shown.items():
            assert_alike(found[key], value, "timestamp" if key == "parameters" else key)
    elif isinstance(shown, list):
        assert len(found) == len(shown)
        for left, right in zip(found, shown, strict=True):
            assert_alike(left, right)
    elif isinstance(shown, float):
        assert found == pytest.approx(shown, abs=1e-4)
    else:
        assert found == shown


@pytest.mark.parametrize(("command", "reply"), EXAMPLES, ids=[command[:70] for command, _ in EXAMPLES])
def test_each_example_is_answered_as_shown(client: FlaskClient, command: str, reply: str) -> None:
    assert_alike(run(client, command), json.loads(reply))


def test_the_protocols_are_all_shown() -> None:
    shown = "".join(command for command, _ in EXAMPLES)
    words = ("/predict", "/feedback", "dataframe_split", "dataframe_records", "instances", "inputs", "/infer")
    assert all(word in shown for word in words)


def test_the_table_has_every_route_with_its_scope() -> None:
    rows = re.findall(r"^\| `(?:GET|POST) ([^`]+)` \| .* \| (\w+) \|$", DOCUMENT, re.MULTILINE)
    shown = {path.replace("{", "<").replace("}", ">"): None if scope == "open" else scope for path, scope in rows}
    documented = {
        rule: scope for rule, scope in ROUTE_SCOPES.items() if "/versions/" not in rule and "/files/" not in rule
    }
    documented.pop(UNMATCHED)
    assert shown == documented
