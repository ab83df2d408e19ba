"""A real Prometheus for tests, with the configuration that ships, adapted in addresses, times and the key alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.home import PROJECT_ROOT
from tests.networks import Host
from tests.ports import free_port

DOCKER = PROJECT_ROOT / "docker"
PROMETHEUS = DOCKER / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
_HERE = Host("127.0.0.1")


def program(*names: str) -> str:
    """The path of a program of Debian's packages prometheus and prometheus-alertmanager; skips where it is not here."""
    found = next((path for name in names if (path := shutil.which(name)) is not None), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed: apt-get install prometheus prometheus-alertmanager")
    return found


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind (`alert`, `record`), as they stand in the files."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def adapted(folder: Path, targets: Mapping[str, int], key: str) -> Path:
    """The configuration that ships in a folder of its own, with these ports by job; other jobs stay as they are."""
    shutil.copytree(PROMETHEUS, folder)
    (folder / "key").write_text(key)
    tree = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    tree["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    tree["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
        f"127.0.0.1:{targets.get('alertmanager', 1)}"
    ]
    for job in tree["scrape_configs"]:
        if job["job_name"] in targets:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(folder / "key")
    tree["scrape_configs"] = [job for job in tree["scrape_configs"] if job["job_name"] in targets]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder / "prometheus.yml"


class Running:
    """The HTTP API of a Prometheus on a host of a test."""

    def __init__(self, port: int, host: Host = _HERE) -> None:
        self.port = port
        self._host = host

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with self._host.entered():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=10) as reply:
                    answer = json.load(reply)
            except urllib.error.HTTPError as error:
                answer = json.load(error)
        assert answer["status"] == "success", (parameters, answer["error"])
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def active(self, alert: str) -> list[dict[str, str]]:
        """The labels of each alert of a rule whose expression holds, be it for as long as its `for:` asks or not."""
        return [one["labels"] for one in self.get("alerts")["alerts"] if one["labels"]["alertname"] == alert]

    def down(self) -> list[str]:
        """What is wrong with each target that is not up."""
        return [
            f"{target['labels']['job']}: {target['lastError'] or target['health']}"
            for target in self.get("targets")["activeTargets"]
            if target["health"] != "up"
        ]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], key: str, host: Host = _HERE) -> Iterator[Running]:
    """Runs it in a folder, on the host of its targets: ports by job, of which `prometheus` is its own."""
    own = free_port()
    configuration = adapted(folder, {**targets, "prometheus": own}, key)
    with _process(
        folder / "log",
        *host.command(program("prometheus")),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ) as process:
        with host.entered():
            _await(own, process, folder / "log")
        yield Running(own, host)


@contextmanager
def alertmanager(folder: Path) -> Iterator[int]:
    """Runs one with the configuration that ships, as it ships; the port of its HTTP API."""
    port = free_port()
    folder.mkdir()
    with _process(
        folder / "log",
        program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={DOCKER / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ) as process:
        _await(port, process, folder / "log")
        yield port


@contextmanager
def _process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is ready."""
    deadline = time.monotonic() + 60
    while not _is_ready(port):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
