"""Tries a running server: a smoke test, a batch and a load, with valid rows made from its own /model_info.

    python test_api.py [--url http://127.0.0.1:5000] [--requests 200] [--concurrency 4] [--batch 10] [--json]

Prints what it checked, the success rate and the latency percentiles. Exit 0 when all is well, 1 when the server
misbehaves or cannot be reached, 2 when the command line is wrong. Standard library only; no part of the test suite.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

__test__ = False  # pytest: nothing to collect here

Row = dict[str, Any]
TIMEOUT_SECONDS = 30.0
SHOWN_ERRORS = 5


class MisbehaviourError(Exception):
    """The server did not answer as it should."""


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str = ""


@dataclass
class Load:
    """`latencies` in milliseconds, of the requests that were answered well."""

    requests: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "succeeded": len(self.latencies),
            "success_rate": len(self.latencies) / self.requests if self.requests else 1.0,
            "requests_per_second": len(self.latencies) / self.seconds if self.seconds else 0.0,
            "latency_ms": {f"p{share}": percentile(self.latencies, share) for share in (50, 95, 99)},
            "errors": self.errors[:SHOWN_ERRORS],
        }


class Client:
    """One kept-alive connection; not to be shared between threads."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_SECONDS)
        self._prefix = parts.path.rstrip("/")

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """The status and the decoded body; raises `OSError`, `HTTPException` or `MisbehaviourError`."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, self._prefix + path, body, headers)
        reply = self._connection.getresponse()
        content = reply.read()
        try:
            return reply.status, json.loads(content)
        except ValueError:
            raise MisbehaviourError(f"{method} {path} answered {reply.status} with a body that is not JSON") from None

    def predict(self, rows: Row | list[Row]) -> dict[str, Any]:
        """A checked answer of /predict."""
        status, reply = self.request("POST", "/predict", json.dumps(rows).encode())
        if status != 200:
            raise MisbehaviourError(f"POST /predict answered {status}: {reply.get('detail', '')}")
        check_reply(reply, len(rows) if isinstance(rows, list) else 1)
        return dict(reply)

    def close(self) -> None:
        self._connection.close()


def check_reply(reply: dict[str, Any], rows: int) -> None:
    """Raises `MisbehaviourError` unless the reply holds one sound answer a row."""
    answers = list(zip(reply["prediction"], reply["probability"], strict=True))
    if len(answers) != rows or len(set(reply["prediction_id"])) != rows:
        raise MisbehaviourError(f"{rows} rows were answered with {len(answers)} predictions")
    for prediction, probability in answers:
        if not math.isclose(sum(probability), 1.0, abs_tol=1e-4):
            raise MisbehaviourError("the probabilities of a row do not add up to 1")
        if prediction != reply["classes"][probability.index(max(probability))]:
            raise MisbehaviourError("a prediction is not its most probable class")


def make_row(features: Iterable[Row], source: random.Random) -> Row:
    """A row that the schema of /model_info accepts, inside the trained ranges."""
    return {feature["name"]: make_value(feature, source) for feature in features}


def make_value(feature: Row, source: random.Random) -> Any:
    kind = feature["kind"]
    if kind == "categorical":
        return source.choice(feature.get("categories") or ["any"])
    if kind == "boolean":
        return source.random() < 0.5
    if kind == "datetime":
        first, last = feature.get("range") or ("2020-01-01", "2021-01-01")
        seconds = source.uniform(as_seconds(first), as_seconds(last))
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    low, high = feature.get("range") or (0.0, 1.0)
    value = source.uniform(low, high)
    return round(value) if feature.get("integer") else value


def as_seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def percentile(values: list[float], share: int) -> float | None:
    """The nearest-rank percentile; None of no values."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)] if values else None


def smoke(client: Client, rows: list[Row]) -> list[Check]:
    first = next(iter(rows[0]))
    incomplete = {name: value for name, value in rows[0].items() if name != first}
    steps: list[tuple[str, Callable[[], object]]] = [
        ("GET /health answers 200", lambda: expect(client, "GET", "/health", 200)),
        ("GET /ready answers 200", lambda: expect(client, "GET", "/ready", 200)),
        ("one row is predicted", lambda: client.predict(rows[0])),
        (f"a batch of {len(rows)} rows is predicted", lambda: client.predict(rows)),
        ("an absent field is refused with 422", lambda: expect(client, "POST", "/predict", 422, incomplete)),
        ("an unknown field is refused with 422", lambda: expect(client, "POST", "/predict", 422, {"no such field": 1})),
        ("an unknown route answers 404", lambda: expect(client, "GET", "/no-such-route", 404)),
        ("a wrong method answers 405", lambda: expect(client, "GET", "/predict", 405)),
    ]
    return [run_check(name, step) for name, step in steps]


def run_check(name: str, step: Callable[[], object]) -> Check:
    try:
        step()
    except (MisbehaviourError, OSError, http.client.HTTPException, KeyError, ValueError, TypeError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}")
    return Check(name, True)


def expect(client: Client, method: str, path: str, status: int, body: Any = None) -> None:
    got, reply = client.request(method, path, json.dumps(body).encode() if body is not None else None)
    if got != status:
        raise MisbehaviourError(f"{method} {path} answered {got}, expected {status}")
    if status >= 400 and reply.get("status") != status:
        raise MisbehaviourError(f"{method} {path} answered {got} without a problem description")


def load(url: str, rows: list[Row], requests: int, concurrency: int) -> Load:
    """Sends single rows over `concurrency` kept-alive connections."""
    result, lock, left = Load(requests), threading.Lock(), iter(range(requests))

    def work() -> None:
        client = Client(url)
        while True:
            with lock:
                index = next(left, None)
            if index is None:
                break
            started = time.perf_counter()
            check = run_check("load", partial(client.predict, rows[index % len(rows)]))
            took = (time.perf_counter() - started) * 1000.0
            with lock:
                if check.ok:
                    result.latencies.append(took)
                else:
                    result.errors.append(check.detail)
            if not check.ok:
                client.close()  # the next request opens a new connection
        client.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(min(concurrency, max(requests, 1)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.seconds = time.perf_counter() - started
    return result


def try_server(url: str, requests: int, concurrency: int, batch: int) -> dict[str, Any]:
    client = Client(url)
    status, info = client.request("GET", "/model_info")
    if status != 200:
        raise MisbehaviourError(f"GET /model_info answered {status}: {info.get('detail', '')}")
    source = random.Random(0)  # noqa: S311 - rows to send, no secrets
    rows = [make_row(info["schema"]["features"], source) for _ in range(batch)]
    checks = smoke(client, rows)
    client.close()
    result = load(url, rows, requests, concurrency).summary()
    return {
        "url": url,
        "model_version": info["version"],
        "ok": all(check.ok for check in checks) and result["success_rate"] == 1.0,
        "checks": [asdict(check) for check in checks],
        "load": {"concurrency": concurrency, **result},
    }


def show(report: dict[str, Any]) -> None:
    print(f"{report['url']}, model version {report['model_version']}")
    for check in report["checks"]:
        print(f"  {'ok  ' if check['ok'] else 'FAIL'}  {check['name']}{': ' * bool(check['detail'])}{check['detail']}")
    figures = report["load"]
    print(f"  {figures['requests']} requests over {figures['concurrency']} connections")
    print(f"  success rate {figures['success_rate']:.2%}, {figures['requests_per_second']:.0f} requests/s")
    shown = ((name, value) for name, value in figures["latency_ms"].items() if value is not None)
    print("  latency " + ", ".join(f"{name} {value:.1f} ms" for name, value in shown))
    for error in figures["errors"]:
        print(f"  FAIL  {error}")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tries a running server: smoke test, batch and load.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--requests", type=positive, default=200, help="single rows of the load (200)")
    parser.add_argument("--concurrency", type=positive, default=4, help="connections of the load (4)")
    parser.add_argument("--batch", type=positive, default=10, help="rows of the batch (10)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        report = try_server(options.url, options.requests, options.concurrency, options.batch)
    except (MisbehaviourError, OSError, http.client.HTTPException, KeyError, ValueError, TypeError) as error:
        print(f"{options.url}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
