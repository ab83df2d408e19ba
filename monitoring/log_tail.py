"""Whole lines of a log file from a place on, and whether the file is still the one that had been read up to there.

A place is an offset and a mark: a digest of the file's first bytes and of those just before the offset. It holds
through renames, restarts and copies to another disk, and fails when the file was cut, emptied or replaced.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

MARK_BYTES = 16
_HEAD_BYTES, _TAIL_BYTES = 512, 4096
_NEWLINE = 10


class Limits(Struct, frozen=True):
    """Bounds of one batch; a line longer than `line_bytes` is set aside unread."""

    rows: int = 20_000
    bytes: int = 8 * 2**20
    line_bytes: int = 64 * 2**20


class Chunk(Struct, frozen=True):
    """A stretch of a file that ends with a line; empty when there is no further whole line.

    `starts` and `ends` are the places of the lines that are not blank, counted from the beginning of `content`.
    """

    start: int
    content: bytes
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    #: Bytes of a line too long to be read, which is all that this chunk stands for.
    skipped: int = 0

    @property
    def stop(self) -> int:
        return self.start + len(self.content) + self.skipped

    def lines(self) -> list[bytes]:
        return [self.content[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]

    def places(self) -> list[int]:
        """The byte at which each line starts in the file."""
        return (self.starts + self.start).tolist()  # type: ignore[no-any-return]


def mark_at(descriptor: int, offset: int) -> bytes:
    """The mark of a place in an open file."""
    head = os.pread(descriptor, min(offset, _HEAD_BYTES), 0)
    length = min(offset, _TAIL_BYTES)
    return hashlib.blake2b(head + os.pread(descriptor, length, offset - length), digest_size=MARK_BYTES).digest()


def is_same_file(descriptor: int, offset: int, mark: bytes) -> bool:
    """Whether the open file begins with what had been read when `mark` was taken at `offset`."""
    return os.fstat(descriptor).st_size >= offset and (offset == 0 or mark_at(descriptor, offset) == mark)


def read_chunk(descriptor: int, offset: int, limits: Limits, *, final: bool = False) -> Chunk:
    """The next whole lines from `offset` on, within the limits.

    What has no newline yet waits, unless the file is `final`: then its remainder is a line too.
    """
    wanted = limits.bytes
    while True:
        content = os.pread(descriptor, wanted, offset)
        length = content.rfind(b"\n") + 1
        if length:
            return _split(offset, content[:length], limits.rows)
        if len(content) < wanted:
            return _split(offset, content, limits.rows) if final and content else _nothing(offset)
        if wanted >= limits.line_bytes:
            return _skip(descriptor, offset, limits)
        wanted = min(4 * wanted, limits.line_bytes)


def _nothing(offset: int, skipped: int = 0) -> Chunk:
    none = np.empty(0, dtype=np.intp)
    return Chunk(offset, b"", none, none, skipped)


def _split(offset: int, content: bytes, rows: int) -> Chunk:
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == _NEWLINE)
    if not content.endswith(b"\n"):
        ends = np.append(ends, len(content))
    starts = np.concatenate([[0], ends[:-1] + 1])
    full = ends > starts
    starts, ends = starts[full], ends[full]
    if len(starts) > rows:
        starts, ends = starts[:rows], ends[:rows]
        content = content[: ends[-1] + 1]
    return Chunk(offset, content, starts, ends)


def _skip(descriptor: int, offset: int, limits: Limits) -> Chunk:
    """Past the end of a line that is too long, without holding it; it waits for its newline like any other."""
    place = offset
    while content := os.pread(descriptor, limits.bytes, place):
        newline = content.find(b"\n")
        if newline >= 0:
            return _nothing(offset, place + newline + 1 - offset)
        place += len(content)
    return _nothing(offset)
