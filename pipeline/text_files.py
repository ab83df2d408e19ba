"""How the bytes of a text file are to be read: its encoding, or the finding that it is no text at all."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError

CHUNK = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27})
#: A stray control character is a blemish; this share of them is no text.
MOST_CONTROLS = 0.02


def text_encoding(path: Path, address: str, configured: str | None) -> str:
    """The configured encoding, checked; else by byte order mark, else UTF-8, else Windows-1252, else Latin-1.

    Raises `InputError` for a binary file, an unknown encoding, or a file that is not text in the configured one.
    """
    if configured is not None:
        return _checked(path, address, configured)
    with path.open("rb") as stream:
        head = stream.read(CHUNK)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return _checked(path, address, encoding)
    wide = _wide_without_mark(head)
    if wide is not None:
        return _checked(path, address, wide)
    if b"\0" in head or len(head) - len(head.translate(None, _CONTROLS)) > MOST_CONTROLS * len(head):
        raise InputError(f"{address}: is a binary file, not a table; set data.format if it is Parquet or Excel")
    candidates = ("utf-8", "cp1252")
    return next((encoding for encoding in candidates if decodes(path, encoding)), "latin-1")


def decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _chunks(path):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _checked(path: Path, address: str, encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise InputError(f"{address}: data.encoding '{encoding}' is no known encoding; try utf-8 or cp1252") from None
    if not decodes(path, encoding):
        raise InputError(f"{address}: is not text in the encoding '{encoding}'; set data.encoding to the file's own")
    return encoding


def _wide_without_mark(head: bytes) -> str | None:
    """UTF-16 of mostly Latin text has a zero in every second byte."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.7 * pairs and even < 0.1 * pairs:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * pairs and odd < 0.1 * pairs else None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
