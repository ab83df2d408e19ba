"""A keyed hash of a row's content: the same for ever, on every machine, whatever the order of rows or columns.

Each column gives 64 bits a row: numbers by a splitmix64 finaliser over their IEEE-754 bits (Steele, Lea and Flood,
2014), levels by BLAKE2b. Columns are salted with their name, added modulo 2^64, and finalised once more with the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.encoding import FactorisedLevels, RawColumn

Hashes = NDArray[np.uint64]
_MISSING = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(columns: Mapping[str, RawColumn], key: int) -> Hashes:
    """Hash of each row of named raw columns, as unsigned 64-bit integers.

    Numeric arrays hash by value (`-0.0` is `0.0`, every NaN is the same), other sequences by the text of their levels.
    Raises ValueError when there are no columns.
    """
    if not columns:
        raise ValueError("a row needs at least one column to have a hash")
    with np.errstate(over="ignore"):
        total: Hashes = np.zeros(1, dtype=np.uint64)
        for name, values in columns.items():
            total = total + _mix(_column_hashes(values) ^ _salt(name))
        return _mix(total ^ _salt(f"key:{key}"))


def held_out(hashes: Hashes, test_size: float) -> NDArray[np.bool_]:
    """Whether each row is on the test side: its hash, read as a number in [0, 1), is below `test_size`."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53 < test_size


def _column_hashes(values: RawColumn) -> Hashes:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        numbers = np.where(np.isnan(values), 0.0, values.astype(np.float64) + 0.0)
        return np.where(np.isnan(values), _MISSING, numbers.view(np.uint64))
    if isinstance(values, FactorisedLevels):
        return _level_hashes(values.levels)[values.positions]
    return _level_hashes(list(values))


def _level_hashes(values: Sequence[object]) -> Hashes:
    known: dict[object, int] = {}
    for value in values:
        if value not in known:
            known[value] = int(_MISSING) if value is None else _digest(str(value))
    return np.fromiter((known[value] for value in values), dtype=np.uint64, count=len(values))


def _salt(name: str) -> np.uint64:
    return np.uint64(_digest(name))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mix(bits: Hashes) -> Hashes:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
