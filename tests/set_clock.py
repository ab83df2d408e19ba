"""A wall clock that jumps while a process runs, for any Python process that a test starts.

libfaketime does this for other programs; under it, with the monotonic clock left alone as it is on a real machine, the
waits of Python 3.11 take seconds too long or never end. So the process itself is told another time: its interpreter
loads `sitecustomize.py` below, which moves `time.time`, `time.time_ns` and `datetime.now`, and nothing else. The
monotonic clock, the times of files and the clocks of other programs stay as they are.
"""

from __future__ import annotations

from pathlib import Path

_HOOK = '''
import ctypes, datetime, gc, os, time

real_now, real_time, real_time_ns, monotonic = datetime.datetime.now, time.time, time.time_ns, time.monotonic
seen, offset = -1.0, 0


def ahead():
    """Seconds by which the clock is set forward; the file is looked at ten times a second."""
    global seen, offset
    if monotonic() - seen > 0.1:
        seen = monotonic()
        with open(os.environ["CLOCK_OF_THE_TEST"]) as file:
            offset = int(file.read())
    return offset


def now(cls, tz=None):
    return real_now(tz) + datetime.timedelta(seconds=ahead())


time.time = lambda: real_time() + ahead()
time.time_ns = lambda: real_time_ns() + ahead() * 1_000_000_000
gc.get_referents(datetime.datetime.__dict__)[0]["now"] = classmethod(now)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
'''


class SetClock:
    """The clock of the processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        self.set_ahead(0)

    def set_ahead(self, seconds: int) -> None:
        """Forward of the real time, or back; within a tenth of a second everybody is told."""
        temporary = self._folder / "new"
        temporary.write_text(str(seconds))
        temporary.replace(self._folder / "ahead")

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._folder), "CLOCK_OF_THE_TEST": str(self._folder / "ahead")}
