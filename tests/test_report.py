"""`python main.py report`: its JSON, its two texts, and all files that it leaves."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import Settings
from monitoring.drift_checks import DriftChecks
from monitoring.incidents import Finding, Incidents
from monitoring.performance_text import performance_text
from monitoring.plain_json import encode
from monitoring.report_data import Report, build_report, read_report
from monitoring.store import Store
from pipeline.reporting import latest_drift_text
from tests import drift_rows
from tests.command_line import failure, json_of, run_command
from tests.logged import NOON, Host, prediction_lines, write_version

HOUR = timedelta(hours=1)
INCIDENT_FIELDS = ["id", "kind", "severity", "status", "model_version", "opened_at", "cause", "features", "next"]


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC) - timedelta(seconds=5)


def store_of(home: Path) -> Store:
    return Store(f"sqlite:///{home / 'mlops.db'}")


def serve(home: Path, now: datetime, labelled: int = 150) -> None:
    """200 predictions of version 1 in the logs, and outcomes of the first ones, as many right as not."""
    write_version(home / "models/registry", metrics={"test_accuracy": 0.9, "test_f1": 0.9})
    with store_of(home) as store:
        host = Host(home, store)
    lines = prediction_lines(200, moment=now)
    host.log(lines)
    answers = ((line.prediction_id, "yes" if at % 2 else "no") for at, line in enumerate(lines[:labelled]))
    host.feed_back(*answers, moment=now)


def found_wrong(home: Path, now: datetime) -> None:
    check: dict[str, Any] = msgspec.json.decode(encode(drift_rows.check(drift_rows.reference())))
    finding = Finding(kind="data_drift", severity="high", cause="income is up", next="retrain", model_version="1")
    with store_of(home) as store:
        DriftChecks(store).add("1", now, 500, check)
        Incidents(store).report(finding, now)
        Incidents(store).report(msgspec.structs.replace(finding, model_version="9"), now)


def test_a_version_that_there_is_none_of_is_refused_and_leaves_no_file(home: Path, now: datetime) -> None:
    serve(home, now)
    assert "nothing is known here of a version 99" in failure("report", "--model", "99", code=2)
    assert list((home / "reports").glob("*")) == []


def test_on_an_empty_state_root_it_answers_that_there_is_nothing(home: Path) -> None:
    report = json_of("report")
    assert {name: report[name] for name in ("days", "models", "drift", "incidents")} == {
        "days": 7, "models": [], "drift": None, "incidents": [],
    }  # fmt: skip
    text = run_command("report").output
    assert "No predictions were logged in these days." in text
    assert "No drift check was made yet; next: python main.py monitor" in text


def test_the_json_has_the_names_that_people_script_against(home: Path, now: datetime) -> None:
    serve(home, now)
    found_wrong(home, now)
    report = json_of("report", "--days", "3")
    assert (report["days"], report["drift"]["rows"]) == (3, 1000)
    [model] = report["models"]
    assert (model["model_version"], model["predictions"], model["labels"], model["coverage"]) == ("1", 200, 150, 0.75)
    assert {"accuracy", "precision", "recall", "f1_score", "roc_auc", "ece"} <= model["metrics"].keys()
    assert {"intervals", "baseline", "delay", "by_day", "trend"} <= model.keys()
    assert model["baseline"]["f1_score"] == 0.9
    assert [list(incident) for incident in report["incidents"]] == [INCIDENT_FIELDS] * 2


def test_one_version_is_reported_with_what_is_of_it(home: Path, now: datetime) -> None:
    serve(home, now)
    found_wrong(home, now)
    report = json_of("report", "--model", "9")
    assert [(model["model_version"], model["predictions"]) for model in report["models"]] == [("9", 0)]
    assert (report["drift"], [incident["model_version"] for incident in report["incidents"]]) == (None, ["9"])
    endings = {path.suffix for path in (home / "reports").glob("report_*_version_9.*")}
    assert endings == {".json", ".html", ".png"}


def test_it_leaves_the_json_both_texts_a_page_and_a_picture_and_no_remains(home: Path, now: datetime) -> None:
    serve(home, now)
    found_wrong(home, now)
    printed = run_command("report").output
    names = sorted(re.sub(r"_\d{8}", "", path.name) for path in (home / "reports").iterdir())
    assert names == ["drift_report.txt", "performance_report.txt", "report.html", "report.json", "report.png"]
    [text] = (home / "reports").glob("performance_report_*.txt")
    [plain] = (home / "reports").glob("report_*.json")
    assert text.read_text() in printed
    assert json.loads(plain.read_text())["models"][0]["labels"] == 150
    [page] = (home / "reports").glob("report_*.html")
    assert printed.endswith(f"With pictures: {page}\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_cannot_be_drawn_costs_the_picture_alone(
    home: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    serve(home, now)
    json_of("report")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as where a part of it is broken
    result = run_command("report", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: the picture could not be drawn: ")
    names = sorted(re.sub(r"_\d{8}", "", path.name) for path in (home / "reports").iterdir())
    assert names == ["drift_report.txt", "performance_report.txt", "report.html", "report.json"]
    [page] = (home / "reports").glob("report_*.html")
    assert "There is no picture: it could not be drawn." in page.read_text() and "<img" not in page.read_text()
    printed = json.loads(result.stdout)["models"][0]["labels"] if as_json else "With pictures" in result.stdout
    assert printed == (150 if as_json else False)


@pytest.mark.parametrize("days", ["0", "-1", "367", "x"])
def test_days_that_are_none_are_refused(home: Path, days: str) -> None:
    failure("report", "--days", days, code=2)


def text_of(home: Path, now: datetime, labelled: int) -> list[str]:
    serve(home, now, labelled)
    with store_of(home) as store:
        host = Host(home, store, Settings())
        host.registry = home / "models/registry"
        host.now = now
        host.restarted().run_once()
        report = read_report(store, host.registry, now + HOUR, 1)
    return performance_text(report).splitlines()


def test_people_read_figures_with_intervals_and_baselines(tmp_path: Path) -> None:
    lines = text_of(tmp_path, NOON, 150)
    assert lines[0] == "PERFORMANCE REPORT of the last 1 day"
    assert any(line.startswith("Version 1: 200 predictions, 150 labels (75.0%), after 0 s") for line in lines)
    [accuracy] = [line.split() for line in lines if line.startswith("accuracy")]
    assert (accuracy[3], accuracy[-1]) == ("to", "0.9000")
    assert float(accuracy[2]) < float(accuracy[1]) < float(accuracy[4])
    assert any(line.startswith("2026-03-01") for line in lines)
    assert "Trend: not known, fewer than three days have enough labels" in lines


def test_people_are_told_that_nothing_is_known_without_outcomes(tmp_path: Path) -> None:
    assert "How good the answers were is not known: no outcome has come back." in text_of(tmp_path, NOON, 0)


def test_a_drift_report_is_the_one_of_the_check_that_was_stored() -> None:
    drift = msgspec.json.decode(encode(drift_rows.check(drift_rows.reference())))
    report = msgspec.structs.replace(build_report(7, NOON, [], None, []), drift=drift)
    assert latest_drift_text(report).startswith("DRIFT REPORT\n")
    assert "1,000 rows" in latest_drift_text(report)


def test_a_drift_check_of_another_release_is_no_reason_to_fail() -> None:
    report: Report = msgspec.structs.replace(build_report(7, NOON, [], None, []), drift={"verdict": "odd"})
    assert "another release" in latest_drift_text(report)
