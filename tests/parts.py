"""Processes of a test that are started, stopped, killed and held still, each with all that it starts."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.networks import Host

#: What `-o log_cli=true --log-cli-level=INFO` shows: how long each recovery took.
log = logging.getLogger(__name__)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
    """Polls until it holds; fails after the bound. Returns the seconds that it took."""
    start = time.monotonic()
    while True:
        with suppress(OSError, http.client.HTTPException):
            if condition():
                taken = time.monotonic() - start
                log.info("%.1f s until %s", taken, what)
                return taken
        assert time.monotonic() - start < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


class Holdable(ABC):
    """Whatever takes signals, with all that it has started."""

    @abstractmethod
    def signal(self, number: signal.Signals) -> None: ...

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """Within the block it accepts what the kernel accepts for it, and never answers."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@dataclass
class Part(Holdable):
    """A process with all that it starts; started again, it appends to the same output."""

    name: str
    host: Host
    command: tuple[str, ...]
    environment: dict[str, str]
    output: Path
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.output.touch()

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.host.command(*self.command), env=self.environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """To the process and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def stop(self, seconds: float = 30.0) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(seconds)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(30)

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_ended(self) -> bool:
        """With all that it has started; to be asked when it is known that the process itself has."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def words(self) -> str:
        return self.output.read_text(errors="replace")

    @contextmanager
    def complaints(self, most: int) -> Iterator[None]:
        """Within the block it says so many lines of a trouble at most, and computes for a fifth of the time at most."""
        said, computed, began = len(self.words()), self.cpu_seconds(), time.monotonic()
        yield
        new = [line for line in self.words()[said:].splitlines() if "ERROR" in line or "WARNING" in line]
        assert len(new) <= most, "\n".join(new)
        assert "Traceback" not in self.words()[said:]
        assert self.cpu_seconds() - computed <= 0.2 * (time.monotonic() - began) + 0.5

    def cpu_seconds(self) -> float:
        """Of the process alone, without what it has started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
