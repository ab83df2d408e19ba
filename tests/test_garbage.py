"""What is kept from Python's garbage collector, and that it works on afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from config.garbage import uncollected
from config.home import PROJECT_ROOT


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_the_collector_is_off_in_the_block_and_on_after_it_also_after_an_error() -> None:
    with pytest.raises(ImportError), uncollected():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()


def test_what_was_made_in_the_block_is_left_alone_and_what_comes_after_is_collected() -> None:
    with uncollected():
        kept = weakref.ref(Knot())
    later = weakref.ref(Knot())
    gc.collect()
    assert kept() is not None
    assert later() is None
    gc.unfreeze()
    gc.collect()
    assert kept() is None


def test_a_command_that_is_done_does_not_look_through_everything_once_more() -> None:
    script = "import atexit, gc, main; atexit.register(lambda: print(gc.get_freeze_count())); main.cli(['--help'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) > 10_000
