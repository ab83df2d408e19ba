"""What the prediction log holds of a field, what happens when it is full, and when its files go."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask

from api.app import create_app
from config.settings import ConfigurationError, Settings, decode_settings
from monitoring.log_policy import KEY_FILE, KEY_VARIABLE, FieldPolicy, PolicyError, hash_key
from monitoring.log_retention import delete_expired, expired_logs
from tests.bundles import sample_row, serve_sample

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def with_logging(**logging: Any) -> Settings:
    return decode_settings({"logging": logging})


def make_app(home: Path, **logging: Any) -> Flask:
    serve_sample(home / "registry")
    app = create_app(with_logging(**logging), registry=home / "registry", logs=home / "logs", clock=lambda: NOON)
    app.extensions["mlops"].reloader.ensure_running = lambda: None
    app.extensions["mlops"].reloader.look()
    return app


def logged(home: Path) -> list[dict[str, Any]]:
    content = (home / "logs" / "predictions_20260304.jsonl").read_bytes()
    return [json.loads(line) for line in content.splitlines() if line]


# Fields


def test_without_a_policy_there_is_none_to_apply(home: Path) -> None:
    assert FieldPolicy.of(Settings()) is None
    assert FieldPolicy.of(with_logging(fields={"age": "keep"})) is None
    assert list(home.iterdir()) == []


def test_fields_are_kept_hashed_and_dropped(home: Path) -> None:
    policy = FieldPolicy.of(with_logging(fields={"a": "keep", "b": "hash", "c": "drop", "absent": "drop"}))
    assert policy is not None
    row = policy.apply({"a": 1, "b": "secret", "c": "gone", "d": None})
    assert (list(row), row["a"], row["d"]) == (["a", "b", "d"], 1, None)
    assert row["b"].startswith("hash:") and "secret" not in row["b"]


def test_equal_values_have_equal_hashes_and_others_do_not(home: Path) -> None:
    policy = FieldPolicy.of(with_logging(fields={"x": "hash"}))
    assert policy is not None
    values = ["a", "b", 1, 1.5, True, "1", ""]
    hashes = [policy.apply({"x": value})["x"] for value in values]
    assert len(set(hashes)) == len(values)
    assert policy.apply({"x": "a"})["x"] == hashes[0]
    assert policy.apply({"x": None})["x"] is None


def test_the_hash_needs_the_key_which_is_for_its_owner_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FieldPolicy({"x": "hash"}, hash_key()).apply({"x": "a"})
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert FieldPolicy({"x": "hash"}, hash_key()).apply({"x": "a"}) == first
    (home / KEY_FILE).unlink()
    assert FieldPolicy({"x": "hash"}, hash_key()).apply({"x": "a"}) != first
    monkeypatch.setenv(KEY_VARIABLE, "one key for all hosts of ours")
    shared = FieldPolicy({"x": "hash"}, hash_key()).apply({"x": "a"})
    assert shared == FieldPolicy({"x": "hash"}, hash_key(home / "another")).apply({"x": "a"})
    assert sorted(path.name for path in home.iterdir()) == [KEY_FILE]


def test_a_key_that_is_too_short_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(PolicyError, match="16 bytes"):
        hash_key()


def test_a_key_that_cannot_be_had_is_told_and_nothing_is_logged_plainly(home: Path) -> None:
    (home / KEY_FILE).mkdir()
    with pytest.raises(PolicyError, match=KEY_FILE):
        FieldPolicy.of(with_logging(fields={"x": "hash"}))


def test_an_unknown_action_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigurationError, match=r"logging\.fields"):
        with_logging(fields={"x": "encrypt"})


def test_the_log_of_the_server_keeps_to_the_policy_and_the_answer_does_not_change(home: Path) -> None:
    plain = make_app(home).test_client().post("/predict", json=sample_row()).get_json()
    client = make_app(home, fields={"city": "hash", "age": "drop"}).test_client()
    reply = client.post("/predict", json=[sample_row(), sample_row(city=None)]).get_json()
    assert reply["probability"][0] == plain["probability"][0]
    before, hashed, missing = (line["input_data"] for line in logged(home))
    assert before["city"] == "Köln" and before["age"] == 41
    assert hashed["city"].startswith("hash:") and missing["city"] is None
    assert "age" not in hashed and hashed["visits"] == 7
    assert (home / KEY_FILE).read_text().strip() not in (home / "logs" / "predictions_20260304.jsonl").read_text()


# A log that cannot be written


def test_when_full_refuse_answers_503_and_counts(home: Path) -> None:
    client = make_app(home).test_client()
    (home / "logs").write_text("a file in the way")
    reply = client.post("/predict", json=sample_row())
    assert (reply.status_code, bool(reply.headers["Retry-After"])) == (503, True)
    assert b'mlops_log_failures_total{log="predictions",outcome="refused"} 1' in client.get("/metrics").data


def test_when_full_serve_answers_counts_and_says_so_in_the_log(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = make_app(home, when_full="serve").test_client()
    (home / "logs").write_text("a file in the way")
    assert [client.post("/predict", json=sample_row()).status_code for _ in range(3)] == [200] * 3
    assert b'mlops_log_failures_total{log="predictions",outcome="served"} 3' in client.get("/metrics").data
    assert "cannot be written" in caplog.text
    (home / "logs").unlink()
    answered = client.post("/predict", json=sample_row()).get_json()["prediction_id"]
    assert [line["prediction_id"] for line in logged(home)] == answered


# Retention


def make_files(folder: Path) -> None:
    for name in ("predictions", "feedback"):
        for days in range(5):
            (folder / f"{name}_{NOON - timedelta(days=days):%Y%m%d}.jsonl").write_text("{}\n")
    for other in (
        "predictions_2020.jsonl",
        "predictions_20209999.jsonl",
        "server_20200101.log",
        "notes_20200101.jsonl",
    ):
        (folder / other).write_text("")


def test_nothing_is_deleted_unless_it_is_asked_for(tmp_path: Path) -> None:
    make_files(tmp_path)
    assert delete_expired(tmp_path, Settings(), NOON) == []


def test_files_go_when_their_whole_day_is_past_its_time(tmp_path: Path) -> None:
    make_files(tmp_path)
    settings = with_logging(retention_days=2)
    gone = delete_expired(tmp_path, settings, NOON)
    assert [path.name for path in gone] == [
        *("feedback_20260228.jsonl", "predictions_20260228.jsonl"),
        *("feedback_20260301.jsonl", "predictions_20260301.jsonl"),
    ]
    assert len(list(tmp_path.iterdir())) == 10
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    assert expired_logs(tmp_path, settings, midnight - timedelta(seconds=1)) == []
    assert [path.name[-14:] for path in expired_logs(tmp_path, settings, midnight)] == ["20260302.jsonl"] * 2


def test_what_nobody_has_read_stays(tmp_path: Path) -> None:
    make_files(tmp_path)
    unread = tmp_path / "predictions_20260301.jsonl"
    delete_expired(tmp_path, with_logging(retention_days=1), NOON, unread=[unread])
    assert unread.exists()


# The access log


@pytest.mark.parametrize(("access", "expected"), [("off", []), ("errors", [404, 422]), ("all", [200, 404, 422])])
def test_requests_get_a_line_as_configured(home: Path, access: str, expected: list[int]) -> None:
    client = make_app(home, access=access).test_client()
    client.post("/predict?token=secret", json=sample_row(), headers={"X-Request-ID": "one"})
    client.get("/nowhere?token=secret")
    client.post("/predict", json=sample_row(age="secret"))
    path = home / "logs" / "access_20260304.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line] if path.exists() else []
    assert [line["status"] for line in lines] == expected
    assert not path.exists() or b"secret" not in path.read_bytes()
    if lines:
        assert set(lines[0]) >= {"timestamp", "request_id", "remote", "method", "path", "status", "milliseconds"}
        assert lines[-1]["problem"] == "invalid-rows"


def test_an_access_log_that_cannot_be_written_is_counted_and_the_request_answered(home: Path) -> None:
    client = make_app(home, access="all").test_client()
    (home / "logs").write_text("a file in the way")
    assert client.get("/health").status_code == 200
    assert b'mlops_log_failures_total{log="access",outcome="served"} 1' in client.get("/metrics").data


def test_old_access_logs_are_removed(home: Path) -> None:
    logs = home / "logs"
    logs.mkdir()
    for day in range(1, 29):
        (logs / f"access_202602{day:02}.jsonl").write_text("")
    make_app(home, access="all").test_client().get("/health")
    kept = sorted(path.name for path in logs.glob("access_*.jsonl"))
    assert (len(kept), kept[-1]) == (14, "access_20260304.jsonl")


def test_a_line_survives_whatever_a_client_calls_itself(home: Path) -> None:
    client = make_app(home, access="all").test_client()
    client.get("/%00%ff%22%0a", headers={"X-Request-ID": 'a"\\'})
    content = (home / "logs" / "access_20260304.jsonl").read_bytes()
    (line,) = [line for line in content.split(b"\n") if line]
    assert msgspec.json.decode(line)["status"] == 404
    assert os.linesep.encode() not in line


def test_a_server_that_cannot_hash_ends_with_2_and_a_sentence(home: Path) -> None:
    (home / "pipeline_config.yaml").write_text("logging: {fields: {age: hash}}\n")
    (home / KEY_FILE).mkdir()
    project = Path(__file__).resolve().parent.parent
    gunicorn = ("-m", "gunicorn", "-c", str(project / "config" / "gunicorn.conf.py"))
    for command in (gunicorn, (str(project / "api" / "app.py"),)):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert KEY_FILE in done.stderr
