"""Window profiles as compact blobs, for the store, and the sum of many blobs at once.

Each blob names the reference that it belongs to and carries a checksum; `ProfileError` is what a torn or foreign one
raises.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.binning import Counts, Numbers
from monitoring.window_profile import IDENTITY_BYTES, Layout, ProfileError, WindowProfile

_MAGIC = b"WP2"
#: Rows, scored rows, bytes a whole number, checksum of the body.
_HEAD = struct.Struct("<QQBI")
#: By their bytes.
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<i8")}
_DOUBLE = np.dtype("<f8")
_BODY = len(_MAGIC) + IDENTITY_BYTES + _HEAD.size


def encode_profile(window: WindowProfile) -> bytes:
    """A compact blob: whole numbers in the narrowest unsigned type that holds them all, sums and dates as doubles."""
    whole = np.concatenate([window.counts, window.missing, window.infinite])
    width = next(size for size in _TYPES if size == 8 or int(whole.max(initial=0)) < 256**size)
    numbers = np.concatenate([window.sums, window.earliest, -window.latest])
    body = whole.astype(_TYPES[width]).tobytes() + numbers.astype(_DOUBLE).tobytes()
    return _MAGIC + window.identity + _HEAD.pack(window.rows, window.scored_rows, width, zlib.crc32(body)) + body


def decode_profile(content: bytes, layout: Layout) -> WindowProfile:
    """Raises `ProfileError` when the blob is torn or belongs to another reference than the layout's."""
    return merge_encoded([content], layout)


def merge_encoded(contents: Iterable[bytes], layout: Layout) -> WindowProfile:
    """The profile of the rows of all blobs together, an empty one for none; raises `ProfileError`.

    Nothing is copied but the sum: a week is 168 blobs.
    """
    features, parts = len(layout.reference.features), len(layout.parts)
    rows = scored_rows = 0
    whole: Counts = np.zeros(layout.cells + 2 * features, dtype=np.int64)
    # Latest dates stand with their sign turned, so that one minimum answers for both.
    numbers: Numbers = np.concatenate([np.zeros(parts), np.full(2 * features, np.inf)])
    sums, dates = numbers[:parts], numbers[parts:]
    prefix = _MAGIC + layout.identity
    for content in contents:
        of_one, scored_of_one, width = _checked(content, prefix, len(whole), 8 * len(numbers))
        rows, scored_rows = rows + of_one, scored_rows + scored_of_one
        whole += np.frombuffer(content, _TYPES[width], len(whole), _BODY)
        added = np.frombuffer(content, _DOUBLE, offset=_BODY + len(whole) * width)
        sums += added[:parts]
        np.minimum(dates, added[parts:], out=dates)
    return WindowProfile(
        identity=layout.identity,
        rows=rows,
        scored_rows=scored_rows,
        counts=whole[: layout.cells],
        missing=whole[layout.cells : layout.cells + features],
        infinite=whole[layout.cells + features :],
        sums=sums,
        earliest=dates[:features],
        latest=-dates[features:],
    )


def _checked(content: bytes, prefix: bytes, cells: int, number_bytes: int) -> tuple[int, int, int]:
    """Rows, scored rows and width of a blob that is whole and of the layout that `prefix` names."""
    if not content.startswith(prefix) or len(content) < _BODY:
        raise ProfileError("the stored profile belongs to another reference, or is none")
    rows, scored_rows, width, checksum = _HEAD.unpack_from(content, len(prefix))
    whole = len(content) == _BODY + width * cells + number_bytes
    if not whole or zlib.crc32(memoryview(content)[_BODY:]) != checksum:
        raise ProfileError("the stored profile is torn: its checksum differs")
    return rows, scored_rows, width
