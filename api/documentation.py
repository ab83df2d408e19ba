"""`/openapi.json` and `/docs`: what the running service takes and answers, for programs and for people.

The page and what it needs come from this server alone, so that it works without a network and under a strict
content security policy.
"""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, current_app

from api.openapi import openapi
from api.requests import JSON_TYPE
from api.routes import services

#: The page may run and ask for what this server sends, and nothing else.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
documentation = Blueprint("documentation", __name__, static_folder="static/docs", static_url_path="/docs/files")


@documentation.get("/openapi.json")
def description() -> Response:
    core = services()
    deployment = core.settings.deployment
    keys = bool(core.admission.keys.keys())
    document = openapi(core.server.served, _routes(), deployment.max_prediction_batch_size, keys=keys)
    return Response(msgspec.json.encode(document), content_type=JSON_TYPE, headers={"Cache-Control": "no-cache"})


@documentation.get("/docs")
def page() -> Response:
    response = documentation.send_static_file("index.html")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _routes() -> set[tuple[str, str]]:
    """Method and path of every route, in OpenAPI's way of writing parameters."""
    return {
        (method.lower(), rule.rule.replace("<", "{").replace(">", "}"))
        for rule in current_app.url_map.iter_rules()
        for method in rule.methods or ()
    }
