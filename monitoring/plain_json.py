"""Any value of ours as plain JSON: numpy scalars and arrays become numbers and lists, NaN and infinities null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np


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
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):  # msgspec takes exact floats only
        return float(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {_valid(key): _valid(item) for key, item in value.items()}
    return [_valid(item) for item in value] if isinstance(value, list) else value
