"""The figures of monitoring as the scheduler and `sync --watch` show them to Prometheus.

`refresh` asks the store, in a thread that may wait for it; `text` answers a scrape from what was last known and from
this host's files, and never waits. Figures of all hosts are shown by the scheduler alone, so that none counts twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from msgspec import Struct
from prometheus_client import ProcessCollector

from config.clock import Clock
from config.home import state_home
from config.settings import Settings, logs_directory, registry_directory
from models.serving_plan import PlanError, read_plan
from monitoring.host_metrics import HOST_METRICS, disk_samples, log_samples, plan_samples
from monitoring.log_lag import ReadSoFar, read_so_far
from monitoring.log_source import source_path
from monitoring.metric_samples import Definition, Sample, metrics_text
from monitoring.quality_metrics import QUALITY_METRICS, PerformanceMetrics, drift_samples
from monitoring.registry_contact import RegistryContact, read_contact
from monitoring.store import Store
from monitoring.work_metrics import (
    WORK_METRICS,
    JobMetrics,
    age_samples,
    delivery_samples,
    incident_samples,
    run_samples,
)

log = logging.getLogger(__name__)
#: A question to the store that takes longer is called no answer.
HANGING_SECONDS = 5.0

STORE_REACHABLE = Definition(
    "mlops_store_reachable", "gauge", "host", "1 when the store answered the last time that it was asked, else 0."
)
FIGURES_AGE = Definition(
    "mlops_figures_age_seconds", "gauge", "host", "How old the figures are that the store was asked for."
)
FIGURES_SECONDS = Definition(
    "mlops_figures_duration_seconds", "gauge", "host", "How long it took to ask the store for them."
)
MLFLOW_REACHABLE = Definition(
    "mlops_mlflow_reachable", "gauge", "host",
    "1 when MLflow answered the last time that this host asked it for the version to serve, else 0.",
)  # fmt: skip
SYNCED = Definition(
    "mlops_sync_last_success_timestamp_seconds", "gauge", "host", "When this host was last brought up to the registry."
)
METRICS: tuple[Definition, ...] = (
    *(STORE_REACHABLE, FIGURES_AGE, FIGURES_SECONDS, MLFLOW_REACHABLE, SYNCED),
    *(*HOST_METRICS, *WORK_METRICS, *QUALITY_METRICS),
)


class _Figures(Struct, frozen=True):
    """What the store said, all at one time; `at` and `seconds` in seconds of the monotonic clock."""

    read: ReadSoFar
    samples: tuple[Sample, ...]
    at: float
    seconds: float


class ExportedMetrics:
    """One thread refreshes, any number of others ask for the text."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        jobs: Collection[str] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jobs` are the scheduler's; None where this is none."""
        self._settings = settings
        self._clock = clock
        self._seconds = seconds
        self._jobs = None if jobs is None else JobMetrics(jobs)
        self._performance = PerformanceMetrics(settings, registry_directory())
        self._process = ProcessCollector(registry=None)
        self._figures: _Figures | None = None
        self._asked_at: float | None = None
        self._answered: bool | None = None
        self._told: dict[str, str] = {}

    def refresh(self, store: Store) -> float:
        """Asks the store, opening it if need be, and returns how many seconds that took; what it raises is noted."""
        began = self._asked_at = self._seconds()
        try:
            store.open()
            read, samples = read_so_far(store, source_path()), tuple(self._store_samples(store))
            self._figures = _Figures(read, samples, self._seconds(), self._seconds() - began)
            self._answered = True
        except Exception:
            self._answered = False
            raise
        finally:
            self._asked_at = None
        return self._seconds() - began

    def text(self) -> bytes:
        """The text format of Prometheus; a subject that fails is left out, and the others are shown."""
        now, figures = self._clock(), self._figures
        read = None if figures is None else figures.read
        samples: list[Sample] = []
        for name, subject in (
            ("store", self._state_samples(figures)),
            ("logs", log_samples(read, logs_directory(), now)),
            ("plan", plan_samples(registry_directory())),
            ("disk", disk_samples(state_home())),
        ):
            samples += self._guarded(name, subject)
        samples += figures.samples if figures is not None else ()
        return metrics_text(samples, self._process.collect())

    def _state_samples(self, figures: _Figures | None) -> Iterator[Sample]:
        asked = self._asked_at
        hangs = asked is not None and self._seconds() - asked > HANGING_SECONDS
        yield from STORE_REACHABLE.of(False if hangs else self._answered)
        contact = read_contact() or RegistryContact()
        yield from MLFLOW_REACHABLE.of(contact.reachable)
        yield from SYNCED.of(contact.at)
        if figures is not None:
            yield from FIGURES_AGE.of(self._seconds() - figures.at)
            yield from FIGURES_SECONDS.of(figures.seconds)

    def _store_samples(self, store: Store) -> Iterator[Sample]:
        if self._jobs is None:
            return
        now, version = self._clock(), _in_service(registry_directory())
        yield from self._jobs.samples(store)
        yield from run_samples(store)
        yield from incident_samples(store)
        yield from delivery_samples(store, self._settings)
        yield from age_samples(store, self._settings, version)
        yield from drift_samples(store, version)
        yield from self._performance.samples(store, version, now)

    def _guarded(self, name: str, subject: Iterable[Sample]) -> list[Sample]:
        try:
            return list(subject)
        except Exception as error:
            if self._told.get(name) != str(error):
                log.warning("the metrics of the %s are not shown: %s", name, error)
            self._told[name] = str(error)
            return []


def _in_service(registry: Path) -> str | None:
    try:
        plan = read_plan(registry)
    except PlanError:
        return None
    return plan.champion.version if plan and plan.champion else None
