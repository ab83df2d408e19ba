"""The Makefile and CI: what they promise to people who have just cloned."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
#: Stands in for the environment's interpreter and writes down how it was called.
RECORDER = '#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done >> calls\necho >> calls\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space in its path that has the Makefile, and an environment that only records."""
    folder = tmp_path / "my models"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / name, folder / name)
    recorder = folder / ".venv" / "bin" / "python"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def calls(folder: Path) -> list[list[str]]:
    lines = (folder / "calls").read_text().splitlines()
    (folder / "calls").unlink()
    return [line.split("|")[:-1] for line in lines]


def test_start_installs_once_then_makes_the_sample_and_starts(checkout: Path) -> None:
    assert make(checkout, "start").returncode == 0
    first = calls(checkout)
    assert [call for call in first if "install" in call] != []
    assert make(checkout, "start").returncode == 0
    assert calls(checkout) == [["generate_sample_data.py", "--if-needed"], ["main.py", "start"]]


def test_start_with_data_of_ones_own_passes_the_names_on_as_they_are(checkout: Path) -> None:
    make(checkout, "start", "DATA=x.csv", "TARGET=y")
    calls(checkout)
    data, target = 'it\'s "my" file $$1.csv', "Culmen Length (mm)"
    assert make(checkout, "start", f"DATA={data}", f"TARGET={target}").returncode == 0
    expected = ["main.py", "init", "--data", data.replace("$$", "$"), "--target", target]
    assert calls(checkout) == [expected, ["main.py", "start"]]


def test_start_with_data_and_no_target_says_what_is_missing(checkout: Path) -> None:
    result = make(checkout, "start", "DATA=x.csv")
    assert result.returncode != 0
    assert "needs TARGET=" in result.stderr


def test_a_failed_installation_is_tried_again(checkout: Path) -> None:
    broken = checkout / ".venv" / "bin" / "python"
    broken.write_text('#!/bin/sh\ncase "$*" in *--version) ;; *) echo "ERROR: no such package" >&2; exit 1;; esac\n')
    result = make(checkout, "start")
    assert result.returncode != 0
    assert "ERROR: no such package" in result.stderr
    assert not (checkout / ".venv" / "installed").exists()


def test_changed_requirements_are_installed(checkout: Path) -> None:
    make(checkout, "start")
    calls(checkout)
    later = (checkout / ".venv" / "installed").stat().st_mtime + 5
    os.utime(checkout / "requirements.txt", (later, later))
    make(checkout, "start")
    assert any("install" in call for call in calls(checkout))


def test_help_names_every_command_of_the_makefile() -> None:
    said = make(PROJECT, "help").stdout
    phony = next(line for line in (PROJECT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert [name for name in phony.split()[1:] if f"make {name} " not in said] == []


def test_ci_runs_the_readmes_test_command() -> None:
    assert (PROJECT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
    assert "make test" in (PROJECT / "README.md").read_text()
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)


def test_soak_runs_everything_that_the_suite_scales_down() -> None:
    others = [path for path in (PROJECT / "tests").glob("test_*.py") if path != Path(__file__)]
    files = [path for path in others if "soak: bool" in path.read_text()]
    assert len(files) >= 5
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "soak"]
    done = subprocess.run([*command, *map(str, files)], cwd=PROJECT, capture_output=True, text=True)
    assert [path.name for path in files if path.name not in done.stdout] == []


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
@pytest.mark.parametrize("body", ["def test(): pytest.skip('later')", "pytest.skip('all', allow_module_level=True)"])
def test_in_ci_a_skipped_test_is_a_failure(tmp_path: Path, ci: str, code: int, body: str) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\ndef test_other(): pass\n{body}\n")
    (tmp_path / "test_more.py").write_text("def test_more(): pass\n")
    shutil.copy(PROJECT / "tests" / "conftest.py", tmp_path / "conftest.py")
    arguments = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    result = subprocess.run(
        arguments,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert result.returncode == code, result.stdout
    assert ("in CI a skipped test is a failure" in result.stdout) == bool(code)
