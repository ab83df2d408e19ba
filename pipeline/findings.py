"""Findings: what the product has to say about a table, a level and a code for scripts, a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from pipeline.errors import InputError

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


def refuse_if_told(findings: Sequence[Finding], source: str) -> None:
    """Raises InputError with the messages of the findings that refuse the table."""
    messages = [finding.message for finding in findings if finding.level == "refuse"]
    if messages:
        more = f" (and {len(messages) - 3} more)" if len(messages) > 3 else ""
        raise InputError(f"{source}: refused by the quality gate: {'; '.join(messages[:3])}{more}")
