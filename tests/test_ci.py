"""What CI runs: it installs what is missing, starts no server of a package, and calls the README's test command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PROGRAMS = ("make", "npm", "ip", "prometheus", "promtool", "prometheus-alertmanager", "amtool", "chromium", "initdb")
#: Stands in for a program: writes down how it was called, and whether services may be started then.
RECORDER = """#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
test ! -e /usr/sbin/policy-rc.d || cat /usr/sbin/policy-rc.d >> "$CALLS"
"""


def run(folder: Path, *programs: str) -> list[str]:
    """What `.ci/run` calls on a machine that has these programs; its /usr/sbin is one of its own."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name in (*programs, "make", "apt-get", "python3", "systemctl"):
        (stubs / name).write_text(RECORDER)
        (stubs / name).chmod(0o755)
    for name in ("bash", "dirname", "chmod", "rm", "cat"):
        (stubs / name).symlink_to(f"/usr/bin/{name}")
    alone = "mount -t tmpfs tmpfs /usr/sbin && mount -t tmpfs tmpfs /usr/lib/postgresql && exec env PATH=$STUBS .ci/run"
    environment = {"PATH": os.environ["PATH"], "STUBS": str(stubs), "CALLS": str(folder / "calls")}
    command = ["unshare", "--mount", "sh", "-c", alone]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [call for call in (folder / "calls").read_text().splitlines() if not call.startswith("python3")]


@pytest.fixture(autouse=True)
def with_mounts_of_ones_own() -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may have mounts of its own")


def test_a_machine_that_has_all_installs_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, *PROGRAMS) == ["make test"]


def test_what_is_missing_is_installed_and_no_server_of_it_starts(tmp_path: Path) -> None:
    calls = run(tmp_path, *(name for name in PROGRAMS if name not in ("promtool", "initdb")))
    install = "apt-get install -y -qq --no-install-recommends prometheus postgresql"
    policy = ["#!/bin/sh", "exit 101"]
    assert calls[:6] == ["apt-get update -qq", *policy, install, *policy]
    assert [call for call in calls if call.startswith("systemctl")] == [
        "systemctl disable --quiet prometheus",
        "systemctl disable --quiet postgresql",
    ]
    assert calls[-1] == "make test"
