"""The dashboard that ships, as a test sees it: its panels, and its expressions with all choices made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.prometheus import DOCKER

GRAFANA = DOCKER / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows and what is in them."""
    return [one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", []))]


def expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of each query, with every variable set to all, as the dashboard opens."""
    for dashboard in dashboards():
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                yield panel["title"], chosen(dashboard, target["expr"])
        for annotation in dashboard["annotations"]["list"]:
            yield annotation["name"], chosen(dashboard, annotation["expr"])


def chosen(dashboard: dict[str, Any], expression: str) -> str:
    for variable in dashboard["templating"]["list"]:
        expression = expression.replace(f"${variable['name']}", variable["allValue"])
    return expression


def provisioned(kind: str) -> list[dict[str, Any]]:
    """What the provisioning files of a kind (`datasources`, or `providers` of dashboards) say."""
    folder = "dashboards" if kind == "providers" else kind
    files = sorted((GRAFANA / "provisioning" / folder).glob("*.yml"))
    return [one for path in files for one in yaml.safe_load(path.read_text(encoding="utf-8"))[kind]]
