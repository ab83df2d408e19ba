"""Findings: what the product has to say about a table, a level and a code for scripts, a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

FindingLevel = Literal["ok", "warn", "refuse"]


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    level: FindingLevel
    code: str
    message: str
    column: str | None = None


def warn(code: str, message: str, column: str | None = None) -> Finding:
    return Finding(level="warn", code=code, message=message, column=column)


def refuse(code: str, message: str, column: str | None = None) -> Finding:
    return Finding(level="refuse", code=code, message=message, column=column)


def worst(findings: Sequence[Finding]) -> FindingLevel:
    levels = {finding.level for finding in findings}
    return "refuse" if "refuse" in levels else "warn" if "warn" in levels else "ok"
