"""Reads JSON: an array of objects, or one object a line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from pipeline.errors import InputError
from pipeline.text_files import text_encoding

#: Lines that are decoded before they become columns: bounds the memory that dictionaries take.
LINES = 20_000


def read_json(path: Path, address: str, encoding: str | None) -> pd.DataFrame:
    """Columns in order of first appearance; a field that an object lacks is missing."""
    found = text_encoding(path, address, encoding)
    if found not in ("utf-8", "utf-8-sig") or not _starts_with_array(path, found):
        return _concatenate(_line_frames(path, address, found))
    rows = _decode(path.read_text(encoding=found).encode(), address, "the file")
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{address}: is no table; expected an array of objects, one a row")
    return pd.DataFrame(rows)


def _starts_with_array(path: Path, encoding: str) -> bool:
    with path.open(encoding=encoding) as stream:
        while character := stream.read(1):
            if not character.isspace():
                return character == "["
    return False


def _line_frames(path: Path, address: str, encoding: str) -> Iterator[pd.DataFrame]:
    with path.open(encoding=encoding, newline="\n") as stream:
        numbered = ((number, line) for number, line in enumerate(stream, start=1) if line.strip())
        while chunk := list(itertools.islice(numbered, LINES)):
            yield pd.DataFrame([_row(number, line, address) for number, line in chunk])


def _row(number: int, line: str, address: str) -> dict[str, Any]:
    row = _decode(line.encode("utf-8", "surrogatepass"), address, f"line {number}")
    if not isinstance(row, dict):
        raise InputError(f"{address}: line {number} is no JSON object; expected one object a line")
    return row


def _decode(content: bytes, address: str, where: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{address}: {where} is not valid JSON ({' '.join(str(error).split())}); mend it") from None


def _concatenate(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    parts = list(frames)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
