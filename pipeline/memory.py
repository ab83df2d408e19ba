"""Giving memory back: neither Arrow's allocator, nor C's after many threads, returns what was freed by itself."""

from __future__ import annotations

import ctypes
import sys

#: Of GNU's C library: `M_MMAP_THRESHOLD` of malloc.h.
_MMAP_THRESHOLD = -3
LARGE_BLOCK = 4 * 2**20


def return_large_blocks() -> None:
    """From now on what is freed of at least 4 MB goes back to the system at once.

    By default the bound grows with what was freed, to 32 MB, and columns of large tables leave holes.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, LARGE_BLOCK)


def release_memory() -> None:
    """Returns to the system what nothing holds any more; training needs it."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
