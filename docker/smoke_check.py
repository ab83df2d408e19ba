#!/usr/bin/env python3
"""Tries the running system of docker/docker-compose.yml from outside, as its users reach it.

    python3 docker/smoke_check.py [--wait SECONDS] [--restarts]

1. waits for the first model, gets a prediction with the key of docker/.env, and none without it;
2. finds the training run of that model in MLflow, which lets nobody in without a password;
3. sees every target of Prometheus up;
4. with --restarts, restarts each service in turn while predictions are asked for: no prediction that was answered is
   missing from the log or stands there twice, the store counts as many as the log, and only where the API itself
   restarts may a request fail.

Exit 0 when all of that holds, 1 when not. Standard library only. Compose's own variables (COMPOSE_PROJECT_NAME,
COMPOSE_PROFILES, DOCKER_HOST, …) are heeded.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
COMPOSE = ("docker", "compose", "--file", str(FOLDER / "docker-compose.yml"))
#: Where the API itself restarts, requests may fail; nothing else may make one.
IN_THE_WAY = {"api", "proxy"}
CLIENTS, PAUSE_SECONDS = 3, 0.01
#: Each may be answered by another worker of another server, and each of those takes up the first model by itself.
READY_LOOKS = 40
#: How long a service may take to be healthy again, and a trailing count to be exact.
PATIENCE_SECONDS = 180.0
IDS = (
    "import glob, json\n"
    "for path in glob.glob('/var/lib/mlops/logs/predictions_*.jsonl'):\n"
    "    for line in open(path, 'rb'):\n"
    "        if line.strip(): print(json.loads(line)['prediction_id'])\n"
)


class CheckError(Exception):
    """Something is not as it should be."""


class Addresses:
    """Where the services are published, and the secrets, from docker/.env and the environment over it."""

    def __init__(self) -> None:
        values: dict[str, str] = {}
        for line in _lines(FOLDER / ".env"):
            name, sign, value = line.partition("=")
            if sign and not name.startswith("#"):
                values[name.strip()] = value.strip()
        values.update(os.environ)
        host = values.get("BIND_ADDRESS", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - read, not bound
        port = values.get("API_PORT", "5000") or values.get("PROXY_PORT", "5080")
        self.api = (host, int(port))
        self.mlflow = f"http://{host}:{values.get('MLFLOW_PORT', '5001')}"
        self.prometheus = f"http://{host}:{values.get('PROMETHEUS_PORT', '9090')}"
        if absent := {"API_KEY", "MLFLOW_ADMIN_PASSWORD"} - values.keys():
            raise CheckError(
                f"there is no {', '.join(sorted(absent))} in docker/.env; first: python3 docker/init_env.py"
            )
        self.key = {"Authorization": f"Bearer {values['API_KEY']}"}
        account = base64.b64encode(f"admin:{values['MLFLOW_ADMIN_PASSWORD']}".encode()).decode()
        self.account = {"Authorization": f"Basic {account}"}

    @property
    def api_url(self) -> str:
        return "http://{}:{}".format(*self.api)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wait", type=float, default=600.0, help="seconds for the first model (default 600)")
    parser.add_argument("--restarts", action="store_true", help="restart each service in turn, under load")
    options = parser.parse_args()
    try:
        check(Addresses(), options.wait, restarts=options.restarts)
    except (CheckError, OSError, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("all is well")
    return 0


def check(addresses: Addresses, wait: float, *, restarts: bool) -> None:
    wait_for(
        lambda: all(status_of(f"{addresses.api_url}/ready") == 200 for _ in range(READY_LOOKS)),
        wait,
        "the first model; see: docker compose logs scheduler",
    )
    row = sample_row(get(f"{addresses.api_url}/model_info", addresses.key))
    version = check_prediction(addresses, row)
    wait_for(lambda: status_of(f"{addresses.mlflow}/health") == 200, PATIENCE_SECONDS, "MLflow; see: docker compose ps")
    check_run(addresses, version)
    wait_for(lambda: not targets_down(addresses), PATIENCE_SECONDS, lambda: f"targets: {targets_down(addresses)}")
    tell("every target of Prometheus is up")
    if restarts:
        check_restarts(addresses, row)
        wait_for(lambda: not targets_down(addresses), PATIENCE_SECONDS, lambda: f"targets: {targets_down(addresses)}")
        tell("every target of Prometheus is up again")


def check_prediction(addresses: Addresses, row: dict[str, Any]) -> str:
    status, reply = Client(addresses).predict(row)
    if status != 200:
        raise CheckError(f"/predict answered {status}: {reply}")
    if (refused := status_of(f"{addresses.api_url}/model_info")) != 401:
        raise CheckError(f"/model_info answered {refused} without a key")
    tell(f"model {reply['model_version']} predicts {reply['prediction'][0]!r}; without a key nobody is answered")
    return str(reply["model_version"])


def check_run(addresses: Addresses, version: str) -> None:
    api = f"{addresses.mlflow}/api/2.0/mlflow"
    if (refused := status_of(f"{api}/experiments/search?max_results=1")) != 401:
        raise CheckError(f"MLflow answered {refused} without a password")
    found = get(f"{api}/model-versions/get?name=production_model&version={version}", addresses.account)["model_version"]
    run = get(f"{api}/runs/get?run_id={found['run_id']}", addresses.account)["run"]
    if run["info"]["status"] != "FINISHED":
        raise CheckError(f"the run of version {version} is {run['info']['status']}")
    tell(f"MLflow has its run {found['run_id']}, with {len(run['data']['metrics'])} metrics")


def targets_down(addresses: Addresses) -> list[str]:
    """The targets that are not up; what Prometheus has not asked yet is not up either."""
    try:
        found = get(f"{addresses.prometheus}/api/v1/targets")["data"]["activeTargets"]
    except (OSError, CheckError) as error:
        return [str(error)]
    down = [f"{item['labels']['job']} {item['health']} {item['lastError']}" for item in found if item["health"] != "up"]
    return down if found else ["there are none"]


def check_restarts(addresses: Addresses, row: dict[str, Any]) -> None:
    with Load(addresses, row) as load:
        for service, names in services().items():
            for name in names:
                check_restart(load, service, name if len(names) > 1 else None)
    logged = compose("exec", "-T", "api", "python", "-c", IDS).split()
    missing = set(load.answered) - set(logged)
    if missing or len(set(logged)) != len(logged):
        raise CheckError(
            f"{len(missing)} answered predictions are not logged, {len(logged) - len(set(logged))} are twice"
        )
    tell(f"all {len(load.answered)} answered predictions are in the log, each once")
    wait_for(lambda: stored() == len(logged), PATIENCE_SECONDS, lambda: f"store has {stored()}, the log {len(logged)}")
    tell(f"the store counts the {len(logged)} of the log")


def check_restart(load: Load, service: str, name: str | None) -> None:
    """Restarts a service, or one container out of several of it, which makes no request fail."""
    before, failed = len(load.answered), len(load.failures)
    run("docker", "restart", name) if name else compose("restart", service)
    wait_for(lambda: is_well(service), PATIENCE_SECONDS, f"{service} to be healthy again")
    load.wait_for_more()
    lost = load.failures[failed:]
    if lost and (name or service not in IN_THE_WAY):
        raise CheckError(f"{len(lost)} requests failed while {name or service} restarted: {lost[0]}")
    answered = len(load.answered) - before
    tell(f"{name or service} restarted: {answered} predictions answered, {len(lost)} requests failed")


def stored() -> int:
    report = json.loads(compose("exec", "-T", "scheduler", "python", "main.py", "report", "--days", "2", "--json"))
    return sum(model["predictions"] for model in report["models"])


class Load:
    """Clients that ask for one prediction after the other. What was answered, by id, and what failed, in words."""

    def __init__(self, addresses: Addresses, row: dict[str, Any]) -> None:
        self.answered: list[str] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(Client(addresses), row)) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        enough = len(self.answered) + 100
        wait_for(lambda: len(self.answered) >= enough, PATIENCE_SECONDS, "predictions to go on")

    def _ask(self, client: Client, row: dict[str, Any]) -> None:
        while not self._end.wait(PAUSE_SECONDS):
            try:
                status, reply = client.predict(row)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            if status == 200:
                self.answered += reply["prediction_id"]
            else:
                self.failures.append(f"{status} {reply}")


class Client:
    """One kept-alive connection, opened again when it was closed while idle, as HTTP clients do."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._connection = http.client.HTTPConnection(*addresses.api, timeout=10)

    def predict(self, row: dict[str, Any]) -> tuple[int, Any]:
        """The status, and the reply: as text where it is none of the API's (a proxy answers in HTML)."""
        headers = {"Content-Type": "application/json", **self._addresses.key}
        try:
            self._connection.request("POST", "/predict", json.dumps(row), headers)
            reply = self._connection.getresponse()
            content = reply.read()
            return reply.status, json.loads(content) if reply.status == 200 else content.decode(errors="replace")
        except BaseException:
            self._connection.close()
            raise


def sample_row(info: dict[str, Any]) -> dict[str, Any]:
    """A row that the model in service answers, from its own schema."""
    row: dict[str, Any] = {}
    for feature in info["schema"]["features"]:
        if feature.get("categories"):
            row[feature["name"]] = feature["categories"][0]
        elif feature["kind"] == "boolean":
            row[feature["name"]] = True
        elif feature["kind"] == "datetime":
            row[feature["name"]] = "2026-01-02T03:04:05Z"
        else:
            row[feature["name"]] = (feature.get("range") or [0])[0]
    return row


def services() -> dict[str, list[str]]:
    """The names of the containers of each service that stays: what ran once and ended is left alone."""
    found: dict[str, list[str]] = {}
    for item in containers():
        if item["State"] == "running":
            found.setdefault(item["Service"], []).append(item["Name"])
    return dict(sorted(found.items()))


def is_well(service: str) -> bool:
    mine = [item for item in containers() if item["Service"] == service]
    return bool(mine) and all(item["State"] == "running" and item["Health"] in ("", "healthy") for item in mine)


def containers() -> list[dict[str, Any]]:
    lines = compose("ps", "--all", "--format", "json").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def compose(*arguments: str) -> str:
    return run(*COMPOSE, *arguments)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise CheckError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def get(url: str, headers: dict[str, str] | None = None) -> Any:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        raise CheckError(f"{url} answered {error.code}: {error.read()[:300]!r}") from None


def status_of(url: str) -> int:
    """The status without any credentials; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(condition: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise CheckError(f"waited {seconds:.0f} s in vain for {what if isinstance(what, str) else what()}")
        time.sleep(0.5)


def tell(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main())
