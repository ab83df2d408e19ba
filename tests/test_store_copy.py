"""`store copy` brings an SQLite store to PostgreSQL whole, or leaves the target empty and says why."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from config.home import PROJECT_ROOT
from config.state_lock import state_lock
from monitoring import store_copy
from monitoring.drift_checks import DriftChecks
from monitoring.store import Store
from monitoring.store_copy import copy_store
from monitoring.tables import metadata, predictions
from tests.command_line import failure, json_of, run_command
from tests.filled_stores import ROWS, Contents, contents, fill
from tests.logged import NOON
from tests.states import environment_of

PASSWORD = "pa55word"


@pytest.fixture
def source(home: Path, migrated_sqlite: Path) -> Iterator[Store]:
    """The store of a state root: every table has rows, and numbers that begin after a gap."""
    shutil.copy(migrated_sqlite, home / "mlops.db")
    with Store(f"sqlite:///{home / 'mlops.db'}") as store:
        with store.writing() as connection:
            fill(connection)
            connection.execute(text("DELETE FROM drift_checks WHERE id = 1"))
            connection.execute(text("UPDATE drift_checks SET id = 70 WHERE id = 2"))
        yield store


def held(store: Store) -> Contents:
    with store.reading() as connection:
        return contents(connection, metadata)


def rows_in(url: str) -> int:
    with Store(url) as store:
        return sum(len(rows) for rows in held(store).values())


def with_password(url: str) -> str:
    return url.replace("tester@", f"tester:{PASSWORD}@")


def test_the_copy_holds_every_value_of_every_table(source: Store, postgres_url: str) -> None:
    outcome = json_of("store", "copy", "--to", postgres_url)
    expected = held(source)
    with Store(postgres_url) as copy:
        assert held(copy) == expected
    assert (outcome["status"], outcome["rows"]) == ("copied", ROWS * len(metadata.tables) - 1)
    assert {one["table"]: one["rows"] for one in outcome["tables"]} == {
        name: len(rows) for name, rows in expected.items()
    }
    assert "MLOPS_STORE__URL" in outcome["next"]


def test_what_is_added_later_is_numbered_after_what_was_copied(source: Store, postgres_url: str) -> None:
    with Store(postgres_url) as target:
        copy_store(source, target)
        with target.writing() as connection:
            DriftChecks(target).add("9", NOON, 1, {})
            assert connection.execute(text("SELECT max(id) FROM drift_checks WHERE model_version = '9'")).scalar() == 71


def test_people_see_the_rows_of_each_table_and_the_next_step(source: Store, postgres_url: str) -> None:
    shown = run_command("store", "copy", "--to", postgres_url)
    assert shown.exit_code == 0, shown.output
    assert f"{ROWS:>12}  labelled_rows" in shown.stdout
    assert "next: set store.url (or MLOPS_STORE__URL) to postgresql+psycopg://tester@127.0.0.1" in shown.stdout


def test_a_copy_may_take_longer_than_any_other_statement(
    source: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.store.STATEMENT_SECONDS", 1)
    monkeypatch.setattr("monitoring.store_copy._TELL_SECONDS", 0.0)
    pauses = iter([1.5])
    with Store(postgres_url) as target:
        copied = copy_store(source, target, lambda _: time.sleep(next(pauses, 0.0)))
    assert copied.rows == ROWS * len(metadata.tables) - 1


#: For longer than a connection may be silent PostgreSQL lives and reads nothing of what is sent to it.
STALLED = """
CREATE FUNCTION stall() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$ LANGUAGE plpgsql;
CREATE TRIGGER stall BEFORE INSERT ON labelled_rows FOR EACH STATEMENT EXECUTE FUNCTION stall()
"""


def test_a_server_that_reads_nothing_for_a_while_ends_no_copy(
    source: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.store.SILENCE_SECONDS", 1)
    with source.writing() as connection:  # more than the buffers between the two hold
        connection.execute(text("UPDATE labelled_rows SET input_data = hex(zeroblob(8000000))"))
    with Store(postgres_url) as target, target.writing() as connection:
        connection.execute(text(STALLED))
    assert json_of("store", "copy", "--to", postgres_url)["rows"] == ROWS * len(metadata.tables) - 1


@pytest.mark.parametrize("lock", ["scheduler", "pipeline"])
def test_nothing_is_copied_while_somebody_is_at_work(source: Store, postgres_url: str, lock: object) -> None:
    with state_lock(lock, "main.py"):  # type: ignore[arg-type]
        assert "`main.py` (process " in failure("store", "copy", "--to", postgres_url)
    assert rows_in(postgres_url) == 0


def test_nobody_writes_to_the_source_meanwhile(
    source: Store, home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, refused = store_copy._compare, []

    def try_to_write(*arguments: object) -> None:
        other = sqlite3.connect(home / "mlops.db", timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM jobs")
        refused.append(True)
        compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_copy, "_compare", try_to_write)
    with Store(postgres_url) as target:
        copy_store(source, target)
    assert refused


def test_a_target_with_rows_is_refused_and_left_alone(source: Store, postgres_url: str) -> None:
    with Store(postgres_url) as target:
        DriftChecks(target).add("1", NOON, 1, {})
    assert "is not empty: its table drift_checks holds rows" in failure("store", "copy", "--to", postgres_url)
    assert rows_in(postgres_url) == 1


def test_a_database_of_another_program_is_refused_and_left_alone(source: Store, postgres_url: str) -> None:
    target = Store(postgres_url)
    with target as made, made.writing() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))
        connection.execute(text("CREATE TABLE metrics (key TEXT)"))
    assert "holds tables of something else, such as metrics" in failure("store", "copy", "--to", postgres_url)
    assert target.table_names() == {"metrics"}


def test_a_row_that_postgresql_refuses_leaves_the_target_empty(source: Store, postgres_url: str) -> None:
    with source.writing() as connection:
        connection.execute(text("UPDATE window_profiles SET model_version = :long"), {"long": "v" * 65})
    before = held(source)
    sentence = failure("store", "copy", "--to", postgres_url)
    assert "the table window_profiles cannot be copied: value too long" in sentence
    assert "the target is left empty" in sentence
    assert rows_in(postgres_url) == 0
    assert held(source) == before


@pytest.mark.parametrize(
    ("change", "found"), [("NEW.source := 0; RETURN NEW", "other contents"), ("RETURN NULL", "0 rows")]
)
def test_a_copy_that_is_not_what_was_read_is_found_out(
    source: Store, postgres_url: str, change: str, found: str
) -> None:
    with Store(postgres_url) as target, target.writing() as connection:
        connection.exec_driver_sql(f"CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {change}; END'")
        connection.exec_driver_sql(
            "CREATE TRIGGER spoil BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
    assert f"the copy of the table outcomes has {found} where 4 rows" in failure("store", "copy", "--to", postgres_url)
    assert rows_in(postgres_url) == 0


#: Copies, and is killed by itself when all is written and half is compared.
KILLED = """
import os, signal, sys
from monitoring import store_copy
from monitoring.store import Store
real = store_copy._compare
def compare(table, *more):
    if table.name == "outcomes":
        os.kill(os.getpid(), signal.SIGKILL)
    real(table, *more)
store_copy._compare = compare
with Store(sys.argv[1]) as source:
    store_copy.copy_store(source, Store(sys.argv[2]))
"""


def test_a_kill_leaves_the_target_empty_and_the_next_copy_is_whole(
    source: Store, home: Path, postgres_url: str
) -> None:
    command = [sys.executable, "-c", KILLED, source.address, postgres_url]
    killed = subprocess.run(command, cwd=PROJECT_ROOT, env=environment_of(home), check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert rows_in(postgres_url) == 0
    assert json_of("store", "copy", "--to", postgres_url)["status"] == "copied"


def test_a_password_is_taken_from_the_environment_and_never_shown(
    source: Store, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_STORE_TARGET", with_password(postgres_url))
    shown = run_command("store", "copy")
    assert shown.exit_code == 0, shown.output
    again = run_command("store", "copy", "--json")  # refused: it is not empty
    assert again.exit_code == 1
    assert PASSWORD not in shown.output + again.output


@pytest.mark.parametrize("as_query", [False, True])
def test_a_password_in_an_argument_is_refused_without_it(source: Store, postgres_url: str, as_query: bool) -> None:
    address = f"{postgres_url}?password={PASSWORD}" if as_query else with_password(postgres_url)
    sentence = failure("store", "copy", "--to", address, code=2)
    assert "set MLOPS_STORE_TARGET to the URL instead" in sentence
    assert PASSWORD not in sentence


@pytest.mark.parametrize(
    ("target", "code", "reason"),
    [
        ("", 2, "give --to URL"),
        ("nonsense", 2, "is no database URL"),
        ("postgresql://u@h:54x/d", 2, "is no database URL"),
        ("sqlite:///other.db", 2, "names sqlite"),
        ("postgresql://u@127.0.0.1:1/d", 1, "cannot be used: connection"),
    ],
)
def test_what_is_no_target_is_said_in_a_sentence(source: Store, target: str, code: int, reason: str) -> None:
    assert reason in failure("store", "copy", "--to", target, code=code)


def test_without_an_sqlite_store_there_is_nothing_to_copy(
    home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nothing to copy" in failure("store", "copy", "--to", postgres_url)
    assert list(home.iterdir()) == []
    monkeypatch.setenv("MLOPS_STORE__URL", postgres_url)
    assert "on PostgreSQL already" in failure("store", "copy", "--to", postgres_url)


#: Copies, and prints by how many bytes the process has grown meanwhile.
MEASURED = """
import re, sys
from pathlib import Path
from monitoring.store import Store
from monitoring.store_copy import copy_store
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
with Store(sys.argv[1]) as source, Store(sys.argv[2]) as target:
    before = peak()
    copied = copy_store(source, target)
    print(copied.rows, peak() - before, copied.seconds)
"""


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, migrated_sqlite: Path, postgres_url: str, soak: bool
) -> None:
    """Ten million rows under `make soak`."""
    rows, path = 10_000_000 if soak else 60_000, tmp_path / "large.db"
    shutil.copy(migrated_sqlite, path)
    with Store(f"sqlite:///{path}") as source, source.writing() as connection:
        for start in range(0, rows, 10_000):
            connection.execute(insert(predictions), [prediction(number) for number in range(start, start + 10_000)])
    command = [sys.executable, "-c", MEASURED, f"sqlite:///{path}", postgres_url]
    done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    copied, grown, _ = done.stdout.split()
    assert (int(copied), int(grown) < 40_000_000) == (rows, True), done.stdout


def prediction(number: int) -> dict[str, object]:
    return {
        "id": number.to_bytes(16), "source": 1, "file": 1, "byte": 400 * number, "model_version": "1", "experiment": "",
        "arm": "", "predicted": '"yes"', "score": number / 1e7, "moment": number, "estimate_millionths": None,
    }  # fmt: skip
