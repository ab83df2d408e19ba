"""The files of Prometheus, alertmanager and Grafana: valid by their own tools, and whole."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.grafana import DASHBOARDS, GRAFANA, dashboards, expressions, panels, provisioned
from tests.prometheus import DOCKER, PROMETHEUS, RULES, adapted, program, rules

ALERTMANAGER = DOCKER / "alertmanager" / "alertmanager.yml"
SEVERITIES = {"low", "medium", "high", "critical"}
ALERTS = {rule["alert"]: rule for rule in rules("alert")}
NEXT_COMMAND = re.compile(r"python main\.py (\w+(?: \w+)?)")


def checked(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# By their own tools


def test_prometheus_accepts_its_configuration_with_the_rules(tmp_path: Path) -> None:
    promtool = program("promtool")
    checked(promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    said = checked(promtool, "check", "config", adapted(tmp_path / "prometheus", {"api": 1, "scheduler": 2}, "k"))
    assert said.count("rules found") == len(RULES)


def test_the_rules_are_valid_and_pass_their_own_tests() -> None:
    promtool = program("promtool")
    checked(promtool, "check", "rules", *RULES)
    checked(promtool, "test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))


def test_alertmanager_accepts_its_configuration_which_needs_no_secret() -> None:
    said = checked(program("amtool"), "check-config", ALERTMANAGER)
    assert "7 inhibit rules" in said and "1 receivers" in said
    assert not re.search("^[^#]*(_file|_url|password|key):", ALERTMANAGER.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_receivers_that_are_shown_as_examples_are_valid(tmp_path: Path) -> None:
    before, begin, rest = ALERTMANAGER.read_text(encoding="utf-8").partition("receivers:\n")
    receivers, _, _ = rest.partition("inhibit_rules:")
    shown = tmp_path / "alertmanager.yml"
    shown.write_text(before + begin + re.sub("^  # ?", "  ", receivers, flags=re.MULTILINE))
    assert "5 receivers" in checked(program("amtool"), "check-config", shown)


@pytest.mark.parametrize(
    ("severity", "every"), [("critical", "2h"), ("high", "4h"), ("medium", "1d"), ("low", "1d"), ("unheard of", "12h")]
)
def test_every_severity_has_a_way_through_the_routes(tmp_path: Path, severity: str, every: str) -> None:
    tree = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    for route in (tree["route"], *tree["route"]["routes"]):  # the receivers are one, so name them by what tells them
        route["receiver"] = route["repeat_interval"].replace("24h", "1d")
    tree["receivers"] = [{"name": name} for name in ("2h", "4h", "1d", "12h")]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(tree))
    arguments = (f"--config.file={tmp_path / 'alertmanager.yml'}", "alertname=x", f"severity={severity}")
    assert checked(program("amtool"), "config", "routes", "test", *arguments).split() == [every]


# The alerts


def test_each_alert_is_tested_by_name_to_fire_and_not_to() -> None:
    cases = [case for test in _rule_tests() for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]} | set(_fired_by_expression())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == ALERTS.keys() == fired


def _rule_tests() -> Iterator[dict[str, Any]]:
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        yield from yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]


def _fired_by_expression() -> Iterator[str]:
    """Where the labels alone are compared: in the expression, or in its samples."""
    for test in _rule_tests():
        for case in test.get("promql_expr_test", []):
            if "ALERTS" in case["expr"]:
                yield from re.findall('alertname="([A-Za-z]+)"', f"{case['expr']} {case['exp_samples']}")


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_how_much_what_next_and_where_to_read(name: str) -> None:
    rule = ALERTS[name]
    assert set(rule["annotations"]) == {"summary", "description", "next", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    severity = rule["labels"]["severity"]
    assert set(re.findall(r"low|medium|high|critical", severity)) <= SEVERITIES and severity
    assert re.search(r"\$value|\d", rule["annotations"]["description"]), "it says no size"


def test_the_runbook_has_a_part_for_each_alert_and_for_no_other() -> None:
    text = (DOCKER.parent / "docs" / "operations.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)) == sorted(ALERTS)


def test_each_next_command_is_one_of_the_product() -> None:
    from main import cli

    for name, rule in ALERTS.items():
        assert "exec api python" not in rule["annotations"]["next"], "the image of the server holds no command line"
        for words in NEXT_COMMAND.findall(rule["annotations"]["next"]):
            group, *command = words.split()
            assert group in cli.commands, (name, words)
            if command and hasattr(cli.commands[group], "commands"):
                assert command[0] in cli.commands[group].commands, (name, words)  # type: ignore[attr-defined]


def test_what_is_down_holds_the_others_back() -> None:
    known = set(ALERTS)
    inhibitions = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))["inhibit_rules"]
    named = {
        name
        for rule in inhibitions
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        if matcher.startswith("alertname")
        for name in re.findall(r'"(.*)"', matcher)[0].split("|")
    }
    assert named <= known
    assert inhibitions[0]["source_matchers"] == ['alertname="TargetDown"']


# Grafana


def test_the_dashboard_is_provisioned_from_a_source_that_is() -> None:
    (source,) = provisioned("datasources")
    (provider,) = provisioned("providers")
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    used = {uid for dashboard in dashboards() for uid in _source_uids(dashboard)}
    assert used == {source["uid"]}


def _source_uids(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["datasource"]["uid"]} if isinstance(node.get("datasource"), dict) else set()
        return own.union(*map(_source_uids, node.values()))
    return set().union(*map(_source_uids, node)) if isinstance(node, list) else set()


def test_dashboards_have_fixed_names_and_no_two_panels_one() -> None:
    assert len(DASHBOARDS) == len({dashboard["uid"] for dashboard in dashboards()}) >= 1
    for dashboard in dashboards():
        assert dashboard["title"] and dashboard["description"] and "id" not in dashboard
        ids = [panel["id"] for panel in panels(dashboard)]
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in panels(dashboard)]
        assert len(titles) == len(set(titles))


def test_no_two_panels_overlap_and_none_leaves_the_grid() -> None:
    for dashboard in dashboards():
        places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
        for title, at in places:
            assert at["x"] >= 0 and at["x"] + at["w"] <= 24 and at["h"] > 0 and at["w"] > 0, title
        for (one, a), (other, b) in itertools.combinations(places, 2):
            apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one, other)


def test_each_panel_says_what_it_shows_in_which_unit() -> None:
    for dashboard in dashboards():
        for panel in panels(dashboard):
            if panel["type"] != "row":
                assert panel["description"].endswith("."), panel["title"]
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
                assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
                assert panel["targets"], panel["title"]


def test_the_dashboard_has_a_row_for_each_subject_and_asks_for_server_and_version() -> None:
    (dashboard,) = dashboards()
    rows = [panel["title"] for panel in panels(dashboard) if panel["type"] == "row"]
    assert rows == ["Now", "Service", "Log and ingestion", "Drift and performance", "Jobs and incidents", "Host use"]
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"instance", "version"}
    text = DASHBOARDS[0].read_text(encoding="utf-8")
    assert "$instance" in text and "$version" in text
    assert not any("$" in expression for _, expression in expressions())


def test_alerts_that_the_dashboard_names_are_there() -> None:
    said = "".join(panel.get("description", "") for dashboard in dashboards() for panel in panels(dashboard))
    named = {name for part in re.findall(r"alerts? ([A-Z]\w+(?:, [A-Z]\w+)*)", said) for name in part.split(", ")}
    assert len(named) > 8
    assert named <= ALERTS.keys()


# Fault 34


def test_fault_34_no_part_of_the_deployment_has_a_default_password() -> None:
    """The sketch's Grafana had the password `admin`; here each secret comes from a file or the environment."""
    texts = [
        path for path in sorted(DOCKER.rglob("*")) if path.is_file() and path.name != ".env" and path.suffix != ".py"
    ]
    assert len(texts) > 8
    assert [(path.name, line) for path in texts for line in written_secrets(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "GF_SECURITY_ADMIN_PASSWORD: admin", "      - GF_SECURITY_ADMIN_PASSWORD=admin", "POSTGRES_PASSWORD=mlops",
        "admin_password = password1234", 'password: "x"', "X: ${GRAFANA_PASSWORD:-admin}", "postgresql://a:mlops@db/x",
        "API_KEY=abc",
    ],
)  # fmt: skip
def test_fault_34_a_password_that_is_written_down_would_be_found(line: str) -> None:
    assert written_secrets(f"before: x\n{line}\n") == [line]


@pytest.mark.parametrize(
    "line",
    [
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?run init-env}", "POSTGRES_PASSWORD=", "# password: admin",
        "credentials_file: /run/secrets/metrics_key", "postgresql://mlops:${POSTGRES_PASSWORD}@postgres/mlops",
        "GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana", "password_file: /run/x",
    ],
)  # fmt: skip
def test_fault_34_a_reference_to_a_secret_is_none(line: str) -> None:
    assert written_secrets(line) == []


def written_secrets(text: str) -> list[str]:
    """Lines that give a password or key a value, a default among them, or hold one in an address."""
    name = r"(?:password|passwd|secret|token|(?<!access)_key)"
    default = re.compile(rf"\$\{{\w*{name}\w*:?-[^}}]", re.IGNORECASE)
    value = re.compile(rf"{name}[\"']?(?::\s+|\s*=\s*)[\"']?(?![/<{{\[|>;\"'\s])\S", re.IGNORECASE)
    address = re.compile(r"://[^\s:/@]+:[^\s:/@]+@")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in lines if default.search(line) or _matches(_without_references(line), value, address)]


def _without_references(line: str) -> str:
    """Without `${NAME}`, `${NAME:?why}` and `$NAME`."""
    return re.sub(r"\$\$?(?:\{[^}]*\}|\w+)", "", line)


def _matches(line: str, *patterns: re.Pattern[str]) -> bool:
    return any(pattern.search(line) for pattern in patterns)


def test_fault_34_all_that_prometheus_and_grafana_read_is_there() -> None:
    """The sketch mounted a configuration that did not exist."""
    for path in (PROMETHEUS / "prometheus.yml", ALERTMANAGER, *RULES, *DASHBOARDS):
        assert path.is_file() and path.stat().st_size > 0
    assert len(RULES) == 2
    assert list((GRAFANA / "provisioning" / "dashboards").glob("*.yml"))
