"""Any value of ours as plain JSON: numpy scalars and arrays become numbers and lists, NaN and infinities null."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec


def encode(value: Any) -> bytes:
    """Compact JSON. Raises TypeError for a type that has no JSON form; text that is not valid Unicode is mended."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return msgspec.json.encode(_valid(msgspec.to_builtins(value, enc_hook=_plain)))


def encode_pretty(value: Any) -> bytes:
    """The same for people: indented, ending in a newline."""
    return msgspec.json.format(encode(value), indent=2) + b"\n"


def valid_text(text: str) -> str:
    """Text that every store takes: no lone surrogates, no NUL characters."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def _plain(value: Any) -> Any:
    """What msgspec asks about: types that it does not know, and keys that are no text or number."""
    if isinstance(value, bool) or value is None:  # a key
        return "null" if value is None else str(value).lower()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays, without importing numpy
        return value.tolist()
    if isinstance(value, datetime):  # pandas.Timestamp and NaT; msgspec takes exact datetimes only
        return value.isoformat() if value == value else None
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list) else value
