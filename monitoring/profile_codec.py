"""Window profiles as compact blobs, for the store, and the sum of many blobs at once.

Each blob names the reference that it belongs to and carries a checksum; `ProfileError` is what a torn or foreign one
raises.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

from models.binning import Counts, Numbers
from monitoring.window_profile import IDENTITY_BYTES, Layout, ProfileError, WindowProfile

_MAGIC = b"WP2"
#: Rows, scored rows, bytes a whole number, checksum of the body.
_HEAD = struct.Struct("<QQBI")
_WIDTHS = (1, 2, 4, 8)
_BODY = len(_MAGIC) + IDENTITY_BYTES + _HEAD.size


def encode_profile(window: WindowProfile) -> bytes:
    """A compact blob: whole numbers in the narrowest unsigned type that holds them all, sums and dates as doubles."""
    whole = np.concatenate([window.counts, window.missing, window.infinite])
    width = next(size for size in _WIDTHS if size == 8 or int(whole.max(initial=0)) < 256**size)
    numbers = np.concatenate([window.sums, window.earliest, -window.latest])
    body = whole.astype(f"<u{width}").tobytes() + numbers.astype("<f8").tobytes()
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
    whole: Counts = np.zeros(_whole_cells(layout), dtype=np.int64)
    sums: Numbers = np.zeros(parts)
    # Latest dates with their sign turned, so that one minimum answers for both.
    dates: Numbers = np.full(2 * features, np.inf)
    for content in contents:
        of_one, scored_of_one, width = _checked(content, layout)
        rows, scored_rows = rows + of_one, scored_rows + scored_of_one
        np.add(whole, np.frombuffer(content, f"<u{width}", len(whole), _BODY), out=whole, casting="unsafe")
        numbers = np.frombuffer(content, "<f8", offset=_BODY + len(whole) * width)
        sums += numbers[:parts]
        np.minimum(dates, numbers[parts:], out=dates)
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


def _checked(content: bytes, layout: Layout) -> tuple[int, int, int]:
    """Rows, scored rows and width of a blob that is whole and of this layout."""
    if content[: len(_MAGIC) + IDENTITY_BYTES] != _MAGIC + layout.identity or len(content) < _BODY:
        raise ProfileError("the stored profile belongs to another reference, or is none")
    rows, scored_rows, width, checksum = _HEAD.unpack_from(content, len(_MAGIC) + IDENTITY_BYTES)
    expected = _BODY + width * _whole_cells(layout) + 8 * (len(layout.parts) + 2 * len(layout.reference.features))
    if len(content) != expected or zlib.crc32(memoryview(content)[_BODY:]) != checksum:
        raise ProfileError("the stored profile is torn: its checksum differs")
    return rows, scored_rows, width


def _whole_cells(layout: Layout) -> int:
    return layout.cells + 2 * len(layout.reference.features)
