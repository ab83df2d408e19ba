"""Alerts: one incident for one cause, and a file for each that any JSON reader takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.alerts import Alerts, write_whole
from monitoring.incidents import Finding, IncidentKind, Incidents, Severity
from monitoring.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def drift(severity: Severity = "high", **changed: Any) -> Finding:
    finding: dict[str, Any] = {
        "kind": "data_drift",
        "severity": severity,
        "cause": "2 of 12 features drifted",
        "next": "python main.py drift --data data/incoming/new.csv",
        "model_version": "3",
        "features": ("Amount", "Zürich"),
        "evidence": {"drift_score": 0.31},
    }
    return Finding(**{**finding, **changed})


@pytest.fixture
def incidents(store: Store) -> Incidents:
    return Incidents(store)


@pytest.fixture
def alerts(incidents: Incidents, tmp_path: Path) -> Alerts:
    return Alerts(incidents, tmp_path / "alerts")


def files(tmp_path: Path) -> list[dict[str, Any]]:
    """All files of the alerts' folder, decoded strictly; hidden ones too."""
    return [
        json.loads(path.read_bytes(), parse_constant=pytest.fail) for path in sorted((tmp_path / "alerts").iterdir())
    ]


def test_an_alert_says_the_cause_the_evidence_and_the_next_command(alerts: Alerts, tmp_path: Path) -> None:
    alerts.report(drift(), NOON)
    [written] = files(tmp_path)
    assert written["cause"] == "2 of 12 features drifted"
    assert written["next"].startswith("python main.py drift")
    assert written["evidence"] == {"drift_score": 0.31}
    assert written["features"] == ["Amount", "Zürich"]
    assert (written["severity"], written["status"], written["count"]) == ("high", "open", 1)
    assert written["opened_at"] == "2026-03-01T12:00:00Z"


def test_fault_26_numpy_values_in_the_evidence_make_a_valid_file(alerts: Alerts, tmp_path: Path) -> None:
    """The sketch's alerts held numpy.bool_ and int64, and json.dump raised."""
    evidence = {
        "drift_detected": np.bool_(True),
        "rows": np.int64(500),
        "p_value": np.float64(1e-9),
        "psi": np.float32("inf"),
        "bins": np.array([[1, 2]]),
        "at": NOON,
    }
    alerts.report(drift(evidence=evidence), NOON)
    [written] = files(tmp_path)
    expected = {"drift_detected": True, "rows": 500, "p_value": 1e-9, "psi": None, "bins": [[1, 2]]}
    assert written["evidence"] == expected | {"at": "2026-03-01T12:00:00Z"}


def test_fault_26_two_alerts_of_one_moment_do_not_overwrite_each_other(alerts: Alerts, tmp_path: Path) -> None:
    for subject in ("monitor", "retrain", "sync"):
        alerts.report(drift(kind="pipeline", subject=subject), NOON)
    assert len(files(tmp_path)) == 3


def test_one_cause_is_one_incident_however_often_it_is_seen(
    alerts: Alerts, incidents: Incidents, tmp_path: Path
) -> None:
    for hour in range(3):
        alerts.report(drift(cause=f"{hour} features drifted", features=("a",) * hour), NOON + timedelta(hours=hour))
    [incident] = incidents.unresolved()
    assert (incident.count, incident.opened_at, incident.updated_at) == (3, NOON, NOON + timedelta(hours=2))
    [written] = files(tmp_path)
    assert (written["id"], written["count"], written["cause"]) == (incident.id, 3, "2 features drifted")


def test_another_model_another_kind_or_another_subject_is_another_incident(
    alerts: Alerts, incidents: Incidents
) -> None:
    for finding in (drift(), drift(model_version="4"), drift(kind="prediction_drift"), drift(subject="file a")):
        alerts.report(finding, NOON)
    assert [incident.count for incident in incidents.unresolved()] == [1, 1, 1, 1]


def test_a_round_opens_what_is_new_counts_what_goes_on_and_resolves_what_is_gone(
    alerts: Alerts, tmp_path: Path
) -> None:
    kinds: tuple[IncidentKind, ...] = ("data_drift", "prediction_drift")
    first = alerts.settle(kinds, "3", [drift(), drift(kind="prediction_drift")], NOON)
    second = alerts.settle(kinds, "3", [drift()], NOON + timedelta(hours=6))
    assert [incident.kind for incident in first.opened] == ["data_drift", "prediction_drift"]
    assert (second.opened, [one.kind for one in second.continuing]) == ((), ["data_drift"])
    assert [(one.kind, one.resolved_at) for one in second.resolved] == [("prediction_drift", NOON + timedelta(hours=6))]
    assert sorted(written["status"] for written in files(tmp_path)) == ["open", "resolved"]


def test_a_round_leaves_alone_what_it_did_not_look_for(alerts: Alerts, incidents: Incidents) -> None:
    alerts.report(drift(kind="performance_drift"), NOON)
    alerts.report(drift(model_version="2"), NOON)
    alerts.report(drift(kind="pipeline", model_version=None, subject="job a"), NOON)
    alerts.settle(("data_drift",), "3", [], NOON)
    alerts.settle(("pipeline",), None, [], NOON, subject="job b")
    assert len(incidents.unresolved()) == 3


def test_a_cause_that_comes_back_after_the_cool_down_is_a_new_incident_with_a_new_file(
    alerts: Alerts, tmp_path: Path
) -> None:
    alerts.settle(("data_drift",), "3", [drift()], NOON)
    alerts.settle(("data_drift",), "3", [], NOON)
    settled = alerts.settle(("data_drift",), "3", [drift()], NOON + timedelta(hours=24))
    assert [one.count for one in settled.opened] == [1]
    assert sorted(written["status"] for written in files(tmp_path)) == ["open", "resolved"]


def test_what_was_said_of_a_replaced_model_is_resolved(alerts: Alerts, incidents: Incidents) -> None:
    alerts.report(drift(model_version="3"), NOON)
    alerts.report(drift(model_version="4"), NOON)
    alerts.report(drift(kind="serving", model_version="3"), NOON)
    assert [incident.model_version for incident in alerts.resolve_superseded("4", NOON)] == ["3"]
    assert [incident.kind for incident in incidents.unresolved()] == ["data_drift", "serving"]


def test_an_acknowledged_incident_is_open_again_only_when_it_grows_worse(alerts: Alerts) -> None:
    incident = alerts.report(drift("medium"), NOON)
    acknowledged = alerts.acknowledge(incident.id, NOON)
    assert acknowledged is not None
    assert acknowledged.status == "acknowledged"
    assert alerts.report(drift("medium"), NOON).status == "acknowledged"
    assert alerts.report(drift("critical"), NOON).status == "open"


def test_an_incident_that_is_not_there_or_is_over_cannot_be_changed(alerts: Alerts) -> None:
    assert alerts.acknowledge(99, NOON) is None
    incident = alerts.report(drift(), NOON)
    assert alerts.resolve(incident.id, NOON) is not None
    assert alerts.resolve(incident.id, NOON) is None
    assert alerts.acknowledge(incident.id, NOON) is None


def test_recent_incidents_are_those_that_live_or_ended_lately(alerts: Alerts, incidents: Incidents) -> None:
    old = alerts.report(drift(subject="old"), NOON)
    alerts.resolve(old.id, NOON)
    alerts.report(drift(subject="old but open"), NOON)
    ended = alerts.report(drift(subject="ended lately"), NOON)
    alerts.resolve(ended.id, NOON + timedelta(days=8))
    assert [one.id for one in incidents.since(NOON + timedelta(days=7))] == [ended.id, ended.id - 1]


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "alerts" / "a.json"
    write_whole(target, b"{}")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fchmod", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b'{"new": true}')
    assert files(tmp_path) == [{}]
