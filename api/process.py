"""What a server's process sets for itself: what is shared by a fork, when garbage is looked for, what is kept of memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

#: Requests leave no cycles, so the collector finds nothing: the newest objects are looked at this seldom (in
#: allocations), which takes a twentieth off a request of a thousand rows.
COLLECTOR = (20_000, 20, 100)
#: glibc's names, and bytes: blocks of a large request are taken from the heap, and given back above so much free at its
#: end. Else each request of a thousand rows asks the kernel for zeroed pages again, which takes a tenth of its time.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
KEPT_BYTES = 16 * 2**20


def prepare_parent() -> None:
    """Before a fork: imports what every worker needs, and takes all that is there out of the collector's sight, whose
    marks would else make each worker copy the pages that it shares."""
    with suppress(ImportError):  # without it the server starts, and says at the first model what it lacks
        import onnxruntime  # noqa: F401
    gc.collect()
    gc.freeze()


def prepare_worker() -> None:
    """After the model is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


def keep_freed_memory() -> None:
    """Before the model is loaded; does nothing where the C library is not glibc."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_ARENA_MAX, 2)
