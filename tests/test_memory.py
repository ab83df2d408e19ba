"""Memory that a table took goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.home import PROJECT_ROOT

SCRIPT = """
import numpy, psutil, pyarrow
from pipeline.memory import release_memory, return_large_blocks
return_large_blocks()
pyarrow.array([1.0]).cast(pyarrow.float32())  # loads what it needs
before = psutil.Process().memory_info().rss
columns = [numpy.ones(750_000) for _ in range(20)]  # 6 MB each, which malloc would keep after a few
arrow = pyarrow.array(numpy.ones(5_000_000)).cast(pyarrow.float32())
held = psutil.Process().memory_info().rss - before
del columns, arrow
release_memory()
print(held / 1e6, (psutil.Process().memory_info().rss - before) / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is nothing to call")
def test_what_is_freed_goes_back_to_the_system() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    held, left = map(float, ended.stdout.split())
    assert held > 100
    assert left < 25
