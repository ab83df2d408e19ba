"""Small daily logs whose hours are the sums of their lines: read again as a whole whenever they have changed.

An hour of such a log lies in one file, so its sum is written, not added: to read a file again changes nothing, and no
place in it needs to be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

Line = TypeVar("Line")


def whole_lines(content: bytes, kind: type[Line]) -> list[Line]:
    """The lines that are whole; others, the remains of writes cut short, are left out."""
    decoder, found = msgspec.json.Decoder(kind), []
    for line in content.split(b"\n"):
        try:
            if line:
                found.append(decoder.decode(line))
        except ValueError:
            continue
    return found


class ChangedFiles:
    """The files of one log. Keep it: a file that did not change is not read again."""

    def __init__(self, logs: Path, name: str) -> None:
        self._logs = logs
        self._name = name
        self._seen: dict[str, tuple[int, int]] = {}

    def read(self, take: Callable[[bytes], None]) -> int:
        """Gives `take` the content of each file that has changed since it was last taken; returns how many."""
        changed = 0
        for path in sorted(self._logs.glob(f"{self._name}_{'[0-9]' * 8}.jsonl")):
            try:
                found = path.stat()
                mark = (found.st_mtime_ns, found.st_size)
                if self._seen.get(path.name) == mark:
                    continue
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            take(content)
            self._seen[path.name] = mark
            changed += 1
        return changed
