"""A scheduler of a state root, with a clock of the test's and jobs that only leave their names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from config.settings import load_settings
from monitoring.incidents import Incident, Incidents
from monitoring.job_records import JobRecord, JobRecords
from monitoring.store import Store
from pipeline import scheduler as scheduler_module
from pipeline.scheduler import Scheduler


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 7, 15, 12, tzinfo=UTC)  # a Wednesday

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)


class Watched(Scheduler):
    """A scheduler whose jobs and children only leave their names."""

    def __init__(self, store: Store, clock: Clock, script: str = "pass") -> None:
        super().__init__(load_settings(), store, clock)
        self.done: list[str] = []
        self.script = script
        self.jobs = [
            scheduler_module.Job(job.name, job.times, lambda name=job.name: self.done.append(name))  # type: ignore[misc]
            for job in self.jobs
        ]

    def launch(self, command: str) -> subprocess.Popen[bytes]:
        self.done.append(command)
        return subprocess.Popen([sys.executable, "-S", "-c", self.script])

    def finish_child(self) -> None:
        assert self.child is not None
        self.child.wait(20)
        self.tick()
        assert self.child is None


@contextmanager
def scheduler(clock: Clock, script: str = "pass") -> Iterator[Watched]:
    with Store(load_settings().store_address) as store:
        watched = Watched(store, clock, script)
        try:
            yield watched
        finally:
            watched.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def jobs() -> dict[str, JobRecord]:
    with Store(load_settings().store_address) as store:
        return {job.name: job for job in JobRecords(store).all()}


def incidents() -> list[Incident]:
    with Store(load_settings().store_address) as store:
        return Incidents(store).unresolved()
