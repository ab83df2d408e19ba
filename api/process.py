"""What a server's process sets for itself: what forks share, when garbage is looked for, what is kept of memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from functools import cache

#: Requests leave no cycles, so the collector finds nothing: the newest objects are looked at this seldom (in
#: allocations). Twice as often as this already took a twentieth off a request of a thousand rows.
COLLECTOR = (20_000, 20, 100)
#: glibc's names, and bytes: blocks of a large request are taken from the heap, and given back above so much free at its
#: end. Else each request of a thousand rows asks the kernel for 190 zeroed pages again, a tenth of its time (measured
#: with 32 MB kept, which is too much to keep; what 2 MB save was not measured apart).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KEPT_BYTES = 2 * 2**20


def prepare_parent() -> None:
    """Before a fork: takes all that is there out of the collector's sight, whose marks would else make each worker copy
    the pages that it shares. onnxruntime is not imported here: it makes a thread, which would not be in the workers."""
    gc.collect()
    gc.freeze()


def prepare_worker() -> None:
    """After the model is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)
    give_back_memory()
    _set(_ARENA_MAX, 2)  # else each thread keeps free memory of its own
    _set(_MMAP_THRESHOLD, KEPT_BYTES)
    _set(_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_memory() -> None:
    """Returns what is free to the kernel: reading a large model takes many times what the model then needs."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set(name: int, value: int) -> None:
    library = _glibc()
    if library is not None:
        library.mallopt(name, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    """None where the C library is another one."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        return library if library.malloc_trim and library.mallopt else None
    return None
