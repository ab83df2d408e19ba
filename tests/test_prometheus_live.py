"""A live Prometheus, with the rules that ship, scrapes a live server, scheduler and sync: every expression is run.

The system has seen traffic, refusals, warnings, drift, outcomes, a job and a log that failed.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from api.app import create_app
from config.settings import Settings, load_settings
from monitoring.registry_contact import note_success
from pipeline.metrics_exporter import exporting
from tests.command_line import json_of
from tests.grafana import expressions
from tests.live_server import listening
from tests.observed import make_busy, utc_now
from tests.ports import free_port
from tests.prometheus import Running, alertmanager, prometheus, rules
from tests.traffic import drifted_rows
from tests.trained import TrainedState, client_rows, copy_of, in_force

pytestmark = pytest.mark.integration
#: Metrics of the product, of processes, and of Prometheus itself; recorded ones have a colon.
METRIC = re.compile(r"(?<![\w:\"])((?:mlops|process)_\w+|up)(?![\w:(])")


@dataclass
class System:
    prometheus: Running
    #: Where more targets are named, as docs/operations.md says.
    more_targets: Path
    #: The ports of the server and of alertmanager.
    server: int
    alertmanager: int
    #: Sends a handful of requests of every sort.
    use: Callable[[], None]

    def wait(self, holds: Callable[[], bool], what: Callable[[], object], seconds: float = 90.0) -> None:
        """Until something holds, under traffic."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, what()
            self.use()
            time.sleep(0.25)


@pytest.fixture(scope="module")
def system(sample: TrainedState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("observed")
    home = copy_of(sample, folder)
    with in_force(home), contextlib.ExitStack() as stack:
        make_busy(home, sample)
        keys = {scope: json_of("keys", "create", scope, "--scope", scope)["key"] for scope in ("read", "predict")}
        app = create_app(load_settings(), registry=home / "models/registry", logs=home / "logs")
        core = app.extensions["mlops"]
        core.reloader._prepare = lambda: None  # it shares no memory with others here
        stack.callback(core.reloader.stop)
        targets = {"api": stack.enter_context(listening(app)), "scheduler": free_port(), "sync": free_port()}
        targets["alertmanager"] = stack.enter_context(alertmanager(folder / "alertmanager"))
        note_success(utc_now())
        jobs = ("drift", "performance", "retrain", "run")
        stack.enter_context(exporting(on_port(targets["scheduler"]), utc_now, jobs))
        stack.enter_context(exporting(on_port(targets["sync"]), utc_now))
        running = stack.enter_context(prometheus(folder / "prometheus", targets, keys["read"]))
        rows = client_rows(sample.schema, drifted_rows(sample)[:5])
        core.metrics.log_failed("predictions", "refused")
        more, server = folder / "prometheus/targets", targets["api"]
        yield System(running, more, server, targets["alertmanager"], lambda: use(server, keys["predict"], rows))


def on_port(port: int) -> Settings:
    settings = load_settings()
    return replace(settings, monitoring=replace(settings.monitoring, metrics_port=port))


def use(port: int, key: str, rows: list[dict[str, Any]]) -> None:
    unusual: list[Any] = [rows, rows[0] | {"support_calls": 1e9}, {"nothing": 1}]
    for body in unusual:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10).close()


def test_all_targets_are_up(system: System) -> None:
    system.wait(
        lambda: len(system.prometheus.query("up == 1")) == 5,
        lambda: ("targets that are down", system.prometheus.down()),
    )


def test_every_expression_of_the_dashboard_yields_data(system: System) -> None:
    empty = [expression for _, expression in expressions()]
    assert len(empty) >= 50

    def all_yield() -> bool:
        nonlocal empty
        empty = [expression for expression in empty if not has_data(system.prometheus.query(expression))]
        return not empty

    system.wait(all_yield, lambda: ("expressions without data", empty))


def has_data(samples: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def test_every_rule_is_evaluated_without_error(system: System) -> None:
    for rule in [*rules("alert"), *rules("record")]:
        system.prometheus.query(rule["expr"])
    evaluated: list[dict[str, Any]] = []

    def all_evaluated() -> bool:
        groups = system.prometheus.get("rules")["groups"]
        evaluated[:] = [rule for group in groups for rule in group["rules"]]
        return all(rule["health"] != "unknown" for rule in evaluated)

    system.wait(all_evaluated, lambda: "rules that are not evaluated")
    assert len(evaluated) == len(rules("alert")) + len(rules("record"))
    assert [(rule["name"], rule.get("lastError")) for rule in evaluated if rule["health"] != "ok"] == []


def test_every_metric_that_is_asked_for_is_scraped(system: System) -> None:
    texts = [rule["expr"] for rule in [*rules("alert"), *rules("record")]] + [asked for _, asked in expressions()]
    texts += [text for rule in rules("alert") for text in rule["annotations"].values() if "query" in text]
    asked = {name for text in texts for name in METRIC.findall(text)}
    recorded = {name for text in texts for name in re.findall(r"\b\w+:\w+(?::\w+)?(?=[^\w:\"])", f"{text} ")}
    assert len(asked) > 35
    assert {name for name in recorded if "mlops" in name} == {rule["record"] for rule in rules("record")}
    scraped: set[str] = set()

    def all_scraped() -> bool:
        scraped.update(system.prometheus.get("label/__name__/values"))
        return asked <= scraped

    system.wait(all_scraped, lambda: ("metrics that nothing shows", asked - scraped))


def test_alerts_fire_for_what_is_wrong_and_for_nothing_else(system: System) -> None:
    def firing() -> set[str]:
        return {one["metric"]["alertname"] for one in system.prometheus.query('ALERTS{alertstate="firing"}')}

    wrong = {"DataDrift", "JobFailed"}
    system.wait(lambda: wrong <= firing(), lambda: ("firing", firing()))
    possible = {"PerformanceDrop", "IncidentOpen", "LogWriteFailures", "DiskFilling"}
    assert firing() - wrong <= possible
    (alert, *_) = (
        one for one in system.prometheus.get("alerts")["alerts"] if one["labels"]["alertname"] == "DataDrift"
    )
    assert re.search(r"Drift score of version 1 \(data\): 0\.\d{3}\.", alert["annotations"]["description"])
    assert "Features that have drifted: 3." in alert["annotations"]["description"]


def test_alerts_reach_alertmanager_as_it_ships(system: System) -> None:
    def received() -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{system.alertmanager}/api/v2/alerts", timeout=10) as reply:
            return {alert["labels"]["alertname"] for alert in json.load(reply)}

    system.wait(lambda: {"DataDrift", "JobFailed"} <= received(), received)


def test_figures_of_all_hosts_are_counted_once(system: System) -> None:
    per_target = 'count by (job) ({__name__=~"mlops_(incidents|deliveries|runs|window|drift|accuracy|job).*"})'
    system.wait(lambda: bool(system.prometheus.query(per_target)), lambda: "no figures of all hosts")
    assert {one["metric"]["job"] for one in system.prometheus.query(per_target)} == {"scheduler"}
    (incidents,) = system.prometheus.query('sum(mlops_incidents_unresolved{kind="data_drift"})')
    assert incidents["value"][1] == "1"


def test_rows_that_are_sent_arrive(system: System) -> None:
    """The server's own count, by way of Prometheus, moves by the rows that are predicted."""

    def rows() -> float:
        found = system.prometheus.query('sum(mlops_predictions_total{model_version="1"})')
        return float(found[0]["value"][1]) if found else 0.0

    before = rows()
    system.use()
    system.wait(lambda: rows() >= before + 6, rows)


def test_a_server_that_is_no_target_any_more_is_missed(system: System) -> None:
    """As when the container of one of several replicas is gone; the minutes of `for:` are promtool's to test."""

    def servers() -> list[str]:
        return [one["value"][1] for one in system.prometheus.query("job:mlops_servers_up:count")]

    assert not system.prometheus.active("ServersFewer")
    second = system.more_targets / "api_second.yml"
    second.write_text(f"[{{targets: ['localhost:{system.server}']}}]")
    system.wait(lambda: servers() == ["2"], servers)
    assert not system.prometheus.active("ServersFewer")
    second.unlink()
    system.wait(lambda: bool(system.prometheus.active("ServersFewer")), servers)
    assert servers() == ["1"] and not system.prometheus.active("TargetDown")
