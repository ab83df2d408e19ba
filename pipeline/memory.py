"""Giving memory back: a table is read through Arrow and copied into pandas, and neither allocator returns by itself."""

from __future__ import annotations

import ctypes
import sys


def release_memory() -> None:
    """Returns to the system what nothing holds any more; training needs it."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the C library of GNU only
    if trim is not None:
        trim(0)
