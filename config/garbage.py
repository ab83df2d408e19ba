"""Python's garbage collector and large libraries: what they make is no garbage, and to look at it takes time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports of large libraries: what is made in the block is never looked at by the collector.

    The imports of MLflow and scikit-learn take a sixth longer with it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def forgo_last_collection() -> None:
    """Before the interpreter ends, which looks through all that was imported: half a second after a run."""
    gc.freeze()
