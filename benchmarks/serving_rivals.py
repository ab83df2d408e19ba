"""What the server is measured against: four applications that answer `POST /predict`.

    echo            decodes and encodes, as plain WSGI in front of Flask: the way that the product's hot path goes
    flask_echo      the same through Flask's dispatch
    typical         what most people write: Flask, joblib, pandas, `predict_proba`
    fastapi_typical the same with FastAPI, to run under uvicorn

The last two load the pipeline that the environment variable `RIVAL_MODEL` names when they are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    reply = msgspec.json.encode(msgspec.json.decode(body))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(reply)))])
    return [reply]


def flask_echo() -> Any:
    from flask import Flask, Response, request

    app = Flask("echo", static_folder=None)

    @app.post("/predict")
    def predict() -> Response:
        reply = msgspec.json.encode(msgspec.json.decode(request.get_data(cache=False)))
        return Response(reply, content_type="application/json")

    return app


def typical() -> Any:
    import joblib
    import pandas as pd
    from flask import Flask, Response, jsonify, request

    app = Flask("typical", static_folder=None)
    model = joblib.load(os.environ["RIVAL_MODEL"])

    @app.post("/predict")
    def predict() -> Response:
        rows = request.get_json()
        table = pd.DataFrame(rows if isinstance(rows, list) else [rows])
        probability = model.predict_proba(table)
        prediction = model.classes_[probability.argmax(axis=1)]
        return jsonify({"prediction": prediction.tolist(), "probability": probability.tolist()})

    return app


def fastapi_typical() -> Any:
    import joblib
    import pandas as pd
    from fastapi import FastAPI
    from pydantic import create_model

    model = joblib.load(os.environ["RIVAL_MODEL"])
    kinds: dict[str, Any] = dict.fromkeys(model.feature_names_in_, (float | str | bool | None, ...))
    row = create_model("Row", **kinds)
    app = FastAPI()

    def predict(rows: Any) -> dict[str, Any]:
        listed = rows if isinstance(rows, list) else [rows]
        table = pd.DataFrame([item.model_dump() for item in listed])
        probability = model.predict_proba(table)
        prediction = model.classes_[probability.argmax(axis=1)]
        return {"prediction": prediction.tolist(), "probability": probability.tolist()}

    predict.__annotations__ = {"rows": row | list[row]}  # type: ignore[valid-type]
    app.post("/predict")(predict)
    return app


def __getattr__(name: str) -> Any:
    """`flask_echo_app`, `typical_app` and `fastapi_app`, for servers that want an object; made when asked for."""
    makers = {"flask_echo_app": flask_echo, "typical_app": typical, "fastapi_app": fastapi_typical}
    if name not in makers:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return makers[name]()
