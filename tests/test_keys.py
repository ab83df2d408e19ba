"""Keys: made, listed and revoked, followed by every process, and never to be read from anything that is kept."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.keys import SCOPES, KeyRing, KeysError, create_key, has_keys, put_key, read_keys, revoke_key
from commands.key_group import SCOPE
from tests.command_line import failure, json_of, run_command

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PROJECT = Path(__file__).resolve().parent.parent


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "main.py"), "keys", *arguments],
        capture_output=True,
        text=True,
        env={"MLOPS_HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=False,
        timeout=60,
    )


def test_the_file_holds_digests_and_is_for_its_owner_alone(path: Path) -> None:
    created = create_key(path, "app", ["read", "predict"], NOON)
    assert created.key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = read_keys(path)
    assert (kept.name, kept.scopes, kept.created_at) == ("app", ("predict", "read"), NOON)
    assert created.key.endswith(kept.last_characters) and len(kept.last_characters) == 4


def test_a_key_is_long_and_no_two_are_alike(path: Path) -> None:
    made = [create_key(path, f"k{number}", ["read"], NOON).key for number in range(5)]
    assert len(set(made)) == 5
    assert min(map(len, made)) >= 43


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: create_key(path, f"k{number}", ["read"], NOON), range(16)))
    assert len(read_keys(path)) == 16
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, 'a"b', "é"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="no name"):
        create_key(path, name, ["read"], NOON)


def test_a_name_is_taken_once(path: Path) -> None:
    create_key(path, "app", ["read"], NOON)
    with pytest.raises(KeysError, match="there is a key named app"):
        create_key(path, "app", ["read"], NOON)


def test_an_unknown_name_is_told_with_the_known_ones(path: Path) -> None:
    create_key(path, "app", ["read"], NOON)
    with pytest.raises(KeysError, match="no key named other; the keys: app"):
        revoke_key(path, "other")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keys": [{"name": 1}]}', b"\xff"])
def test_a_file_that_is_no_file_of_keys_is_refused_and_not_overwritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(KeysError):
        create_key(path, "app", ["read"], NOON)
    assert path.read_bytes() == content


def test_a_newer_format_is_refused(path: Path) -> None:
    path.write_text('{"format_version": 2, "keys": []}')
    with pytest.raises(KeysError, match="format 2"):
        read_keys(path)


def test_a_ring_finds_the_key_and_nothing_else(path: Path, clock: Clock) -> None:
    made = {name: create_key(path, name, ["read"], NOON).key for name in ("one", "two")}
    ring = KeyRing(path, clock)
    assert [getattr(ring.find(key), "name", None) for key in made.values()] == ["one", "two"]
    for wrong in ("", made["one"][:-1], made["one"] + "x", made["one"].upper(), "mlops_", "\udcff", "é"):
        assert ring.find(wrong) is None


def test_a_ring_follows_the_file_within_a_second(path: Path, clock: Clock) -> None:
    ring = KeyRing(path, clock)
    assert ring.keys() == ()
    key = create_key(path, "app", ["read"], NOON).key
    clock.now += 1.0
    assert ring.find(key) is not None
    revoke_key(path, "app")
    clock.now += 1.0
    assert ring.find(key) is None
    assert (ring.keys(), ring.problem) == ((), None)


def test_a_ring_looks_at_the_file_a_few_times_a_second_at_most(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr("api.keys._signature", lambda _: looked.append(1))
    ring = KeyRing(path, clock)
    for _ in range(1000):
        ring.keys()
        clock.now += 0.001
    assert len(looked) <= 3


@pytest.mark.parametrize("accident", ["vanished", "torn", "unreadable"])
def test_keys_stay_in_force_when_their_file_breaks_and_it_heals(path: Path, clock: Clock, accident: str) -> None:
    """Nobody is let in because a disk failed."""
    key = create_key(path, "app", ["read"], NOON).key
    ring = KeyRing(path, clock)
    assert ring.find(key) is not None
    content = path.read_bytes()
    path.unlink()
    if accident == "torn":
        path.write_bytes(content[:40])
    elif accident == "unreadable":
        path.mkdir()
    clock.now += 1.0
    assert ring.find(key) is not None and ring.keys()
    assert ring.problem is not None and str(path.parent) not in ring.problem
    if accident == "unreadable":
        path.rmdir()
    path.write_bytes(content)
    clock.now += 1.0
    assert ring.find(key) is not None
    assert ring.problem is None


def test_a_file_that_cannot_be_read_counts_as_keys(home: Path) -> None:
    assert not has_keys()
    (home / "keys.json").write_text("torn")
    assert has_keys()


def test_the_command_line_creates_lists_and_revokes(tmp_path: Path) -> None:
    created = json.loads(command(tmp_path, "create", "app", "--scope", "predict", "--scope", "read", "--json").stdout)
    assert created["scopes"] == ["predict", "read"]
    listed = command(tmp_path, "list", "--json").stdout
    assert created["key"] not in listed and "sha256" not in listed
    assert json.loads(listed)[0]["last_characters"] == created["key"][-4:]
    assert command(tmp_path, "revoke", "app").returncode == 0
    assert json.loads(command(tmp_path, "list", "--json").stdout) == []


def test_the_command_line_tells_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    assert tuple(SCOPE.choices) == SCOPES
    unknown, wrong_scope = command(tmp_path, "revoke", "app"), command(tmp_path, "create", "app", "--scope", "root")
    assert (unknown.returncode, wrong_scope.returncode) == (1, 2)
    assert "no key named app" in unknown.stderr and "Traceback" not in unknown.stderr + wrong_scope.stderr
    assert "keys create" in command(tmp_path, "list").stdout


BROUGHT = "x" * 20 + "brought-from-elsewhere"


def test_a_key_that_was_made_elsewhere_takes_the_place_of_the_one_before(path: Path) -> None:
    other = create_key(path, "other", ["admin"], NOON)
    assert put_key(path, "app", BROUGHT, ["predict"], NOON)
    assert put_key(path, "app", BROUGHT[::-1], ["predict"], NOON)
    ring = KeyRing(path)
    assert ring.find(BROUGHT) is None
    found = ring.find(BROUGHT[::-1])
    assert found is not None and (found.name, found.scopes) == ("app", ("predict",))
    assert ring.find(other.key) is not None


def test_the_same_key_again_changes_nothing_and_other_scopes_do(path: Path) -> None:
    assert put_key(path, "app", BROUGHT, ["predict"], NOON)
    before = path.stat().st_ino
    assert not put_key(path, "app", BROUGHT, ["predict"], NOON)
    assert path.stat().st_ino == before
    assert put_key(path, "app", BROUGHT, ["predict", "read"], NOON)


@pytest.mark.parametrize("text", ["short", "a" * 31, "a" * 257, "spaces " * 6, "ü" * 40, "line\n" * 8])
def test_a_key_that_is_brought_must_be_long_and_plain(path: Path, text: str) -> None:
    with pytest.raises(KeysError, match="the key for app is unfit: 32 to 256 visible ASCII characters"):
        put_key(path, "app", text, ["predict"], NOON)


def test_one_text_is_the_key_of_one_name(path: Path) -> None:
    put_key(path, "app", BROUGHT, ["predict"], NOON)
    with pytest.raises(KeysError, match="is the one of app already"):
        put_key(path, "boss", BROUGHT, ["admin"], NOON)


def test_a_key_is_set_from_a_variable_and_shown_nowhere(tmp_path: Path) -> None:
    arguments = ("keys", "set", "app", "--from-env", "APP_KEY", "--scope", "read")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(tmp_path))
        assert "APP_KEY is empty or not set" in failure(*arguments)
        patch.setenv("APP_KEY", BROUGHT)
        assert json_of(*arguments) == {"status": "changed", "name": "app"}
        said = run_command(*arguments).stdout
    assert said == "the key of app is as it was\n"
    assert BROUGHT not in (tmp_path / "keys.json").read_text()
