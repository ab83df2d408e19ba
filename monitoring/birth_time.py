"""When a file was made: the one time of it that no change of mode, owner or links moves, and that a copy does not keep.

Linux tells it by statx(2) alone, which Python does not offer.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

_AT_FDCWD, _STATX_BTIME = -100, 0x800
#: Of `struct statx`, which is 256 bytes long: its mask of what was found, and seconds and nanoseconds of the birth.
_MASK, _BIRTH = struct.Struct("=I"), struct.Struct("=qI")
_BIRTH_OFFSET = 80


def birth_time(path: Path) -> int:
    """Nanoseconds since 1970; 0 where the file system or the C library does not tell; raises `OSError` for no file."""
    found = path.stat()
    if (told := getattr(found, "st_birthtime_ns", None)) is not None:
        return int(told)
    try:
        statx = ctypes.CDLL(None).statx
    except (AttributeError, OSError):
        return 0
    answer = ctypes.create_string_buffer(256)
    if statx(_AT_FDCWD, bytes(path), 0, _STATX_BTIME, answer) != 0 or not _MASK.unpack_from(answer)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(answer, _BIRTH_OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds)
