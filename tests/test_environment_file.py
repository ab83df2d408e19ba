"""docker/.env: made once, for its owner alone, with nothing in it that anybody could guess."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commands import environment_file
from commands.environment_file import EXAMPLE, ROTATED, EnvironmentFileError, init_env, write_environment
from tests.command_line import failure, json_of, run_command

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment_file, "ENVIRONMENT", tmp_path / ".env")
    return tmp_path / ".env"


def values(path: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([A-Z0-9_]+)=(.*)$", path.read_text()))


def test_every_secret_of_the_example_is_made_and_none_is_like_another(path: Path) -> None:
    names = write_environment(path)
    made = values(path)
    assert list(made) == names == list(values(EXAMPLE))
    assert len(set(made.values())) == len(names) >= 10
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", value) for value in made.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_example_holds_no_value_that_works() -> None:
    assert set(values(EXAMPLE).values()) == {""}


def test_two_files_share_no_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_environment(tmp_path / name)
    assert set(values(tmp_path / "one").values()) & set(values(tmp_path / "two").values()) == set()


def test_a_file_that_is_there_is_never_overwritten(path: Path) -> None:
    write_environment(path)
    before = path.read_text()
    assert "was left as it is" in failure("init-env", code=2)
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_of_many_at_once_one_makes_it(path: Path) -> None:
    def attempt(_: int) -> bool:
        command = [
            sys.executable,
            "-c",
            f"from commands.environment_file import *; write_environment(Path({str(path)!r}))",
        ]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60).returncode == 0

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]
    assert all(values(path).values())


def test_the_command_says_what_comes_next_and_no_secret(path: Path) -> None:
    said = run_command("init-env").stdout
    assert "docker compose -f docker/docker-compose.yml up -d" in said
    assert [value for value in values(path).values() if value in said] == []


@pytest.mark.parametrize("name", ROTATED)
def test_rotation_changes_one_key_and_nothing_else(path: Path, name: str) -> None:
    write_environment(path)
    before, text = values(path), path.read_text()
    assert json_of("init-env", "--rotate", name) == {"status": "rotated", "path": str(path)}
    changed = {key for key, value in values(path).items() if value != before[key]}
    assert changed == {name}
    assert path.read_text().replace(values(path)[name], before[name]) == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_password_that_a_database_keeps_is_not_rotated_here(path: Path) -> None:
    write_environment(path)
    assert "POSTGRES_PASSWORD is none of" in failure("init-env", "--rotate", "POSTGRES_PASSWORD", code=2)


def test_rotation_needs_the_file_and_one_line_of_the_key(path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match="there is no such file"):
        init_env("API_KEY", path)
    path.write_text("# nothing\n")
    with pytest.raises(EnvironmentFileError, match="expected one line API_KEY=…, found 0"):
        init_env("API_KEY", path)


def test_it_needs_nothing_but_python(tmp_path: Path) -> None:
    """On a machine with Docker and Python, and none of the product's packages."""
    for name in ("commands/__init__.py", "commands/environment_file.py", "config/__init__.py", "config/errors.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    shutil.copy(PROJECT / "config" / "home.py", tmp_path / "config" / "home.py")
    (tmp_path / "docker").mkdir()
    for name in ("init_env.py", ".env.example"):
        shutil.copy(PROJECT / "docker" / name, tmp_path / "docker" / name)
    command = [sys.executable, "-I", "-S", str(tmp_path / "docker" / "init_env.py")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(values(tmp_path / "docker" / ".env").values())
    again = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert again.returncode == 2 and again.stderr.startswith("error: ")
