"""What clients send wrong: counted by the server, read into the store once, told by field and rule."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from api.faults import Fault, collect_faults
from api.refusal_log import MOST_PAIRS, WRITE_SECONDS, RefusalMeter
from config.clock import utc_now
from config.settings import Settings, load_settings, registry_directory
from models.bundle import read_manifest
from models.raw_rows import raw_columns
from models.reference import build_reference, encode_reference
from monitoring.cycle import run_cycle
from monitoring.daily_sums import whole_lines
from monitoring.drift_report import DriftThresholds
from monitoring.incidents import Incident, Incidents
from monitoring.log_retention import delete_expired
from monitoring.refusal_findings import RefusedCounts, refused_shares
from monitoring.refusal_lines import RefusalLine, RefusedField
from monitoring.refused_hours import RefusalReader, refused
from monitoring.store import Store
from pipeline.log_jobs import ingestion_of
from tests.bundles import SAMPLE_SCHEMA, promote, random_rows, sample_bundle, sample_row
from tests.logged import NOON, Host, keeping, prediction_lines, rows_of, write_version
from tests.test_server_process import GUNICORN, exchange, running
from tests.trained import in_force

HOUR = timedelta(hours=1)
NAMES = SAMPLE_SCHEMA.feature_names


# The server's side


def meter(logs: Path) -> RefusalMeter:
    return RefusalMeter(logs, lambda: NOON)


def counted(logs: Path, *documents: Any) -> dict[tuple[str, str], tuple[int, int]]:
    """What requests are counted as, each a row or a list of rows."""
    counting = meter(logs)
    for document in documents:
        counting.note("1", collect_faults(SAMPLE_SCHEMA, document), NAMES)
    counting.close()
    [line] = written(logs)
    return {("", "all"): (line.rows, line.requests)} | {(f.field, f.rule): (f.rows, f.requests) for f in line.fields}


def written(logs: Path) -> list[RefusalLine]:
    return [
        line for path in sorted(logs.glob("refusals_*.jsonl")) for line in whole_lines(path.read_bytes(), RefusalLine)
    ]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in sample_row().items() if name not in names}


def test_a_row_counts_once_for_each_feature_at_fault_and_a_request_once(tmp_path: Path) -> None:
    bad = sample_row(age="41", visits=None)
    assert counted(tmp_path, bad, [bad, sample_row(), sample_row(age=True)], without("city")) == {
        ("", "all"): (4, 3),
        ("age", "type"): (3, 2),
        ("visits", "null"): (2, 2),
        ("city", "absent"): (1, 1),
    }


def test_a_row_that_is_another_thing_altogether_is_one_cause(tmp_path: Path) -> None:
    assert counted(tmp_path, {}, {"a": 1}, 5) == {
        ("", "all"): (3, 3),
        ("", "several"): (2, 2),
        ("", "type"): (1, 1),
    }


def test_no_name_that_only_a_client_knows_is_kept(tmp_path: Path) -> None:
    misspelt = {**without("age"), "Age": 41}
    assert counted(
        tmp_path, *({**sample_row(), f"secret {n}": 1} for n in range(50)), misspelt, sample_row(churned="y")
    ) == {
        ("", "all"): (52, 52),
        ("", "unknown"): (50, 50),
        ("age", "absent"): (1, 1),
        ("", "target"): (1, 1),
    }
    assert b"secret" not in next(tmp_path.glob("refusals_*")).read_bytes()


def test_a_line_is_bounded_whatever_is_sent(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(500)]
    counting = meter(tmp_path)
    for name in names:
        counting.note("1", [Fault(f"$.{name}", "required field", "absent")], names)
    for version in range(100):
        counting.note(f"v{version}", [Fault("$.f0", "required field", "absent")], names)
    counting.close()
    first, *others = written(tmp_path)
    assert len(first.fields) == MOST_PAIRS + 1 and len(others) < 10
    assert sum(field.rows for field in first.fields) == first.rows == 500


def test_a_log_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.write_text("a file in the way")
    seconds = 0.0
    counting = RefusalMeter(logs, lambda: NOON, lambda: seconds)
    for _ in range(2):
        counting.note("1", collect_faults(SAMPLE_SCHEMA, without("age")), NAMES)
        seconds += WRITE_SECONDS
        counting.tick()
    logs.unlink()
    counting.tick()
    assert not logs.exists()
    seconds += WRITE_SECONDS
    counting.tick()
    assert [(line.rows, line.requests) for line in written(logs)] == [(2, 2)]


# The store


def refusals(count: int, field: str = "income", rule: str = "type", **more: Any) -> bytes:
    found = RefusedField(field=field, rule=rule, rows=count, requests=more.pop("requests", count))
    values: dict[str, Any] = {"timestamp": NOON, "model_version": "1", "rows": count, "requests": count}
    return msgspec.json.encode(RefusalLine(**values | more, fields=[found])) + b"\n"


def test_each_line_counts_once_however_often_it_is_read(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "refusals_20260301.jsonl"
    later = refusals(7, timestamp=NOON + HOUR)
    log.write_bytes(refusals(3) + refusals(2, rule="absent") + b'\n{"timestamp":"2026' + b"\n" + later)
    reader = RefusalReader(store, tmp_path)
    assert (reader.read(1), reader.read(1), RefusalReader(store, tmp_path).read(1)) == (1, 0, 1)
    with log.open("ab") as stream:
        stream.write(refusals(4))
    RefusalReader(store, tmp_path).read(1)
    RefusalReader(store, tmp_path).read(2)  # another host with the like
    first, *_, last = [(one.field, one.rule, one.rows, one.hour) for one in refused(store, NOON, NOON + 2 * HOUR)]
    assert first == ("", "all", 18, NOON)
    assert last == ("income", "type", 7 * 2, NOON + HOUR)
    assert len(rows_of(store, "refused_hours")) == 10


def test_ingestion_reads_it_and_retention_deletes_it(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store)
    log = host.logs / "refusals_20260301.jsonl"
    log.write_bytes(refusals(3))
    host.ingestion.run_once()
    assert {row["rows"] for row in rows_of(store, "refused_hours")} == {3}
    assert delete_expired(host.logs, keeping(1), NOON + timedelta(days=3)) == [log]


# The rule

LIMITS = DriftThresholds()


def raised(rows: int, of: int, before: int = 0, of_before: int = 1_600, requests: int | None = None) -> bool:
    known = RefusedCounts(
        field="age", rule="type", rows=rows, of=of, before=before, of_before=of_before,
        requests=rows if requests is None else requests,
    )  # fmt: skip
    return any(share.raised for share in refused_shares([known], 34, LIMITS))


@pytest.mark.parametrize(
    ("rows", "of", "found"),
    [
        (60, 300, True),
        (12, 300, True),
        (9, 300, False),
        (40, 4_000, True),
        (30, 4_000, False),
        (49, 49, False),
        (50, 50, True),
    ],
)
def test_a_share_is_told_when_it_is_sure_and_material_and_of_enough_requests(rows: int, of: int, found: bool) -> None:
    assert raised(rows, of) == found


def test_one_batch_is_one_request_whatever_its_rows() -> None:
    assert not raised(20, 300, requests=1)


def test_what_was_usual_is_no_news() -> None:
    assert not raised(300, 10_000, before=3_000, of_before=100_000)
    assert raised(1_000, 10_000, before=3_000, of_before=100_000)


def test_with_nothing_known_from_before_few_rows_stand_for_none_refused() -> None:
    assert raised(100, 300, of_before=0)
    assert not raised(12, 300, of_before=0)


@pytest.mark.parametrize("rows", [100, 1_000, 10_000])
def test_quiet_windows_are_flagged_in_one_of_a_hundred_at_most(rows: int) -> None:
    """Clients err at one rate before and now, over five rules."""
    draw, flagged = np.random.default_rng(rows), 0
    for _ in range(2_000):
        rates = draw.uniform(0.0, 0.1, 5)
        before, now = draw.binomial(5_000, rates), draw.binomial(rows, rates)
        counts = [
            RefusedCounts(
                field=f"f{i}", rule="type", rows=int(k), requests=int(k), of=rows, before=int(b), of_before=5_000
            )
            for i, (b, k) in enumerate(zip(before, now, strict=True))
        ]
        flagged += any(share.raised for share in refused_shares(counts, 34, LIMITS))
    assert flagged / 2_000 <= 0.01


# The cycle


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host in whose state root version 1 is in service."""
    with in_force(tmp_path / "home"), Store(f"sqlite:///{tmp_path / 'mlops.db'}") as opened:
        write_version(registry_directory())
        promote(registry_directory(), "1", read_manifest(registry_directory() / "1")[1])
        host = Host(tmp_path / "home", opened)
        write_version(host.registry)
        yield host


def send(host: Host, at: Any, answered: int, refused: int) -> list[Incident]:
    """Traffic at a moment, and what is open after the cycle half an hour later."""
    host.log(prediction_lines(answered, seed=1, moment=at))
    with (host.logs / f"refusals_{at:%Y%m%d}.jsonl").open("ab") as log:
        log.write(refusals(refused, timestamp=at))
    host.now = at + HOUR / 2
    host.ingestion.run_once()
    run_cycle(Settings(), host.store, host.now)
    return [one for one in Incidents(host.store).unresolved() if "refused" in one.cause]


def test_an_incident_names_field_rule_count_and_share_and_goes_when_it_stops(host: Host) -> None:
    [found] = send(host, NOON, 800, 200)
    assert (found.kind, found.model_version, found.features, found.severity) == (
        "data_quality",
        "1",
        ("income",),
        "high",
    )
    assert found.cause == (
        "20.0% of the rows (200 of 1,000, in 200 requests) were refused by the rule type: "
        "they send income as another type than the model's; 0.0% were before"
    )
    assert found.next.startswith("grep invalid-rows logs/access_")
    assert send(host, NOON + 30 * HOUR, 800, 3) == []


def test_what_goes_on_stays_an_incident_until_somebody_says_that_it_is_usual(host: Host) -> None:
    days = [NOON + timedelta(days=day) for day in range(16)]
    found = {one.id for day in days for one in send(host, day, 800, 50)}
    assert len(found) == 1
    Incidents(host.store).resolve(found.pop(), host.now, "ada", "their test client")
    assert send(host, NOON + timedelta(days=16), 800, 50) == []


def test_a_night_without_traffic_resolves_nothing(host: Host) -> None:
    send(host, NOON, 800, 200)
    run_cycle(Settings(), host.store, NOON + timedelta(days=20))
    assert len(Incidents(host.store).unresolved()) >= 1


# All of it


@pytest.mark.integration
@pytest.mark.parametrize(("wrong", "features"), [(60, [("age",)]), (5, [])])
def test_a_client_that_sends_text_for_a_number_is_an_incident_and_a_few_slips_are_none(
    tmp_path: Path, wrong: int, features: list[tuple[str, ...]]
) -> None:
    registry, raw = tmp_path / "models" / "registry", raw_columns(SAMPLE_SCHEMA, random_rows(400))
    reference = encode_reference(build_reference(SAMPLE_SCHEMA, raw))
    promote(registry, "1", sample_bundle(registry / "1", reference=reference))
    rows = random_rows(300, seed=7)
    for row in rows[:wrong]:
        row["age"] = str(row["age"])
    with running(tmp_path, *GUNICORN) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        statuses = [exchange(connection, "POST", "/predict", row)[0] for row in rows]
    assert statuses.count(422) == wrong
    with in_force(tmp_path), Store(load_settings().store_address) as opened:
        ingestion_of(load_settings(), opened).run_once()
        run_cycle(load_settings(), opened, utc_now())
        found = [one for one in Incidents(opened).unresolved() if "refused" in one.cause]
    assert [one.features for one in found] == features
    assert all("rule type" in one.cause and "(60 of 300," in one.cause for one in found)
