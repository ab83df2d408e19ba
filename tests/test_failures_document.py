"""docs/failures.md is what the tests do: every row names its test, and every test of a broken part has its row."""

from __future__ import annotations

import re
from pathlib import Path

from tests.prometheus import rules
from tests.whole_system import FILES

PROJECT = Path(__file__).resolve().parent.parent


def functions_of(pattern: str) -> set[str]:
    files = sorted(PROJECT.glob(f"tests/test_{pattern}.py"))
    return {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}


def test_the_table_and_the_tests_name_the_same_failures() -> None:
    text = (PROJECT / "docs/failures.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    named = [re.fullmatch(r"`(test_\w+)`", row.split("|")[-2].strip()) for row in rows]
    assert None not in named
    tests = [match[1] for match in named if match]
    assert len(set(tests)) == len(tests)
    assert set(tests) <= functions_of("*")
    assert {name for file in FILES for name in functions_of(file)} <= set(tests)
    assert {len(row.split("|")) for row in rows} == {9}


def test_the_table_names_the_alerts_that_the_tests_look_at() -> None:
    table = [line for line in (PROJECT / "docs/failures.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    tests = "".join((PROJECT / f"tests/test_{file}.py").read_text("utf-8") for file in FILES)
    named = {rule["alert"] for rule in rules("alert") if re.search(rf"\b{rule['alert']}\b", "".join(table))}
    assert set(re.findall(r'\bshows\(\s*"(\w+)"', tests)) <= named
    assert {alert for alert in named if not re.search(rf"\b{alert}\b", tests)} == set()
    assert len(named) >= 9
