"""The server's metrics, over all workers, and their Prometheus text.

A request costs one or two short sections under a lock; names are looked up once, at set-up. Every label is bounded:
routes and fields are those that the server knows, codes are those of HTTP, and the rest is `other`.
"""

from __future__ import annotations

import atexit
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from api.faults import Fault, field_of, rule_name
from api.model_server import Reply
from api.reloading import ReloadStatus
from api.row_decoder import InvalidOutcomesError, InvalidRowsError
from api.shared_counters import OVERFLOW, Series, SharedCounters, remove_idle, shared_directory
from models.row_warnings import RowWarning
from models.schema import Schema

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
#: Upper ends in seconds, inclusive; one more takes what is slower.
BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_NANOSECONDS = 1e9
#: A client chooses the method and the path, never more codes than these.
_CODES = frozenset(range(100, 600))


class Definition(Struct, frozen=True):
    """`gauge` values of dead workers do not count; `merge` joins those of the others."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    merge: Callable[[Iterable[int]], int] = sum
    #: Counts are whole numbers; of a unit of which there are this many in one of the metric's.
    divisor: int = 1


REQUESTS = Definition("mlops_requests_total", "counter", "Requests answered.", ("route", "code"))
SECONDS = Definition("mlops_request_seconds", "histogram", "Time from a request to its reply.", ("route",))
IN_FLIGHT = Definition("mlops_requests_in_flight", "gauge", "Requests being answered now.")
ROWS = Definition("mlops_predictions_total", "counter", "Rows predicted.", ("model_version", "arm"))
ANSWERS = Definition(
    "mlops_prediction_requests_total", "counter", "Requests answered with predictions.", ("model_version", "arm")
)
WARNINGS = Definition(
    "mlops_warnings_total",
    "counter",
    "Values predicted upon with a warning.",
    ("model_version", "arm", "field", "code"),
)
REFUSALS = Definition("mlops_refused_values_total", "counter", "Faults in refused requests.", ("field", "rule"))
REFUSED = Definition("mlops_refused_requests_total", "counter", "Requests refused, by problem.", ("problem",))
FEEDBACK = Definition("mlops_feedback_total", "counter", "Outcomes taken in.")
LOG_FAILURES = Definition(
    "mlops_log_failures_total", "counter", "Requests whose log lines could not be written.", ("log", "outcome")
)
RELOADS = Definition("mlops_reloads_total", "counter", "Models put in service, by all workers.")
BAD_BUNDLES = Definition("mlops_refused_bundles_total", "counter", "Plans or bundles refused, by all workers.")
SERVING = Definition("mlops_serving_workers", "gauge", "Workers that serve a version.", ("model", "model_version"))
GENERATION = Definition("mlops_plan_generation", "gauge", "Generation of the serving plan in service.", merge=max)
LOADED = Definition("mlops_model_loaded_timestamp_seconds", "gauge", "When the model was put in service.", merge=max)
PROBLEMS = Definition("mlops_reload_problem_workers", "gauge", "Workers that could not follow the newest plan.")
CPU = Definition("process_cpu_seconds_total", "counter", "Processor time of the workers.", divisor=1_000_000)
MEMORY = Definition("process_resident_memory_bytes", "gauge", "Resident memory of the workers.")
LOST = Definition(OVERFLOW[0], "counter", "Counts of series for which there was no room.")

DEFINITIONS = (
    *(REQUESTS, SECONDS, IN_FLIGHT, ANSWERS, ROWS, WARNINGS, REFUSALS, REFUSED, FEEDBACK, LOG_FAILURES),
    *(SERVING, GENERATION, LOADED, PROBLEMS, RELOADS, BAD_BUNDLES, CPU, MEMORY, LOST),
)
_GAUGES = frozenset(definition.name for definition in DEFINITIONS if definition.kind == "gauge")


class Metrics:
    """Counts for one process, and reads those of all. Safe to share between threads."""

    def __init__(self) -> None:
        self.counters = SharedCounters()
        self._reloads = ReloadStatus()
        self._serving: tuple[str, str] | None = None
        self._answers: dict[str, PredictionMeter] = {}

    def attach(self, directory: Path | None = None) -> None:
        """Joins the other workers' metrics: once in each process, after the fork."""
        if self.counters.is_attached:
            return
        directory = directory or shared_directory()
        self.counters.attach(directory)
        self.counters.zero(_GAUGES)
        atexit.register(self._leave, directory)

    def route(self, route: str) -> RouteMeter:
        return RouteMeter(self.counters, route)

    def predictions(self, model_version: str, arm: str = "") -> PredictionMeter:
        return PredictionMeter(self.counters, model_version, arm)

    def answered(self, reply: Reply) -> None:
        """Counts the rows and warnings of an answer."""
        meter = self._answers.get(reply.model_version)
        if meter is None:
            meter = self._answers[reply.model_version] = self.predictions(reply.model_version)
        meter.add(len(reply.prediction), reply.warnings or ())

    def count(self, definition: Definition, *labels: str, times: int = 1) -> None:
        """Adds to a counter that no hot path uses."""
        self.counters.add(self.counters.slot(definition.name, *labels), times)

    def problem(self, name: str, error: Exception | None, schema: Schema | None) -> None:
        """Counts a request that was answered with a problem."""
        self.count(REFUSED, name)
        if isinstance(error, InvalidRowsError) and not isinstance(error, InvalidOutcomesError):
            self.refused(error.faults, schema.feature_names if schema else ())

    def log_failed(self, log: str, outcome: Literal["refused", "served"]) -> None:
        self.count(LOG_FAILURES, log, outcome)

    def refused(self, faults: Sequence[Fault], known: Collection[str]) -> None:
        """Counts the faults of a refused request by field and rule; a field that is none of `known` is `other`."""
        found = Counter((field_of(fault, known) or OTHER, rule_name(fault)) for fault in faults)
        for (field, rule), times in found.items():
            self.count(REFUSALS, field, rule, times=times)

    def reloaded(self, status: ReloadStatus, model: str, version: str | None) -> None:
        """Notes which model and plan this worker is on."""
        before, self._reloads = self._reloads, status
        self.count(RELOADS, times=status.loads - before.loads)
        self.count(BAD_BUNDLES, times=status.refused - before.refused)
        self._set(GENERATION, status.generation or 0)
        self._set(LOADED, int(status.loaded_at.timestamp()) if status.loaded_at else 0)
        self._set(PROBLEMS, int(status.problem is not None))
        serving = (model, version) if version is not None else None
        if self._serving is not None and self._serving != serving:
            self._set(SERVING, 0, *self._serving)
        if serving is not None:
            self._set(SERVING, 1, *serving)
        self._serving = serving

    def text(self) -> bytes:
        """All metrics of all workers as Prometheus reads them."""
        merged = _merged(self.counters)
        return "".join(_lines(definition, merged) for definition in DEFINITIONS).encode()

    def _leave(self, directory: Path | None) -> None:
        self.counters.release()
        remove_idle(directory)

    def _set(self, definition: Definition, value: int, *labels: str) -> None:
        self.counters.set(self.counters.slot(definition.name, *labels), value)


class RouteMeter:
    """Requests of one route by code, and their times."""

    def __init__(self, counters: SharedCounters, route: str) -> None:
        self._counters = counters
        self._route = route
        self._bind()

    def end(self, status: int, seconds: float) -> None:
        """Counts one request: `seconds` from its start to its reply."""
        counters = self._counters
        if self._epoch != counters.epoch:
            self._bind()
        code = self._codes.get(status) or self._code(status)
        bucket = self._buckets[bisect_left(BUCKETS, seconds)]
        with counters.lock:
            values = counters.values
            values[code] += 1
            values[bucket] += 1
            values[self._sum] += int(seconds * _NANOSECONDS)

    def _bind(self) -> None:
        self._codes: dict[int, int] = {}
        slot = self._counters.slot
        self._buckets = [slot(SECONDS.name, self._route, str(index)) for index in range(len(BUCKETS) + 1)]
        self._sum = slot(SECONDS.name, self._route, "sum")
        self._epoch = self._counters.epoch

    def _code(self, status: int) -> int:
        shown = str(status) if status in _CODES else OTHER
        return self._codes.setdefault(status, self._counters.slot(REQUESTS.name, self._route, shown))


class PredictionMeter:
    """Rows and warnings of one model version and arm."""

    def __init__(self, counters: SharedCounters, model_version: str, arm: str) -> None:
        self._counters = counters
        self._labels = (model_version, arm)
        self._bind()

    def add(self, rows: int, warnings: Sequence[RowWarning] = ()) -> None:
        """Counts one answered request."""
        counters = self._counters
        if self._epoch != counters.epoch:
            self._bind()
        with counters.lock:
            values = counters.values
            values[self._answers] += 1
            values[self._rows] += rows
        if warnings:
            for (field, code), times in Counter((warning.field, warning.code) for warning in warnings).items():
                self.warn(field, code, times)

    def warn(self, field: str, code: str, times: int = 1) -> None:
        slot = self._warnings.get((field, code))
        if slot is None:
            slot = self._warnings[field, code] = self._counters.slot(WARNINGS.name, *self._labels, field, code)
        self._counters.add(slot, times)

    def _bind(self) -> None:
        self._warnings: dict[tuple[str, str], int] = {}
        self._rows = self._counters.slot(ROWS.name, *self._labels)
        self._answers = self._counters.slot(ANSWERS.name, *self._labels)
        self._epoch = self._counters.epoch


def _merged(counters: SharedCounters) -> dict[str, dict[Series, int]]:
    """Values by metric and labels, over all workers."""
    gathered: dict[str, dict[Series, list[int]]] = {definition.name: {} for definition in DEFINITIONS}
    for lives, values in counters.blocks():
        for (name, *labels), value in values.items():
            if name in gathered and (lives or name not in _GAUGES):
                gathered[name].setdefault(tuple(labels), []).append(value)
    merges = {definition.name: definition.merge for definition in DEFINITIONS}
    return {
        name: {labels: merges[name](values) for labels, values in sorted(series.items())}
        for name, series in gathered.items()
    }


def _lines(definition: Definition, merged: dict[str, dict[Series, int]]) -> str:
    series = merged[definition.name]
    head = f"# HELP {definition.name} {definition.help}\n# TYPE {definition.name} {definition.kind}\n"
    if definition.kind == "histogram":
        return head + "".join(_histogram(definition, route, series) for route in dict.fromkeys(k[0] for k in series))
    if definition is SERVING:  # a version that no worker serves any more
        series = {labels: value for labels, value in series.items() if value}
    if not definition.labels and not series:
        series = {(): 0}
    return head + "".join(
        f"{definition.name}{_label_text(definition, k)} {_in_unit(definition, v)}\n" for k, v in series.items()
    )


def _in_unit(definition: Definition, value: int) -> str:
    return str(value) if definition.divisor == 1 else f"{value / definition.divisor:.6f}"


def _histogram(definition: Definition, route: str, series: dict[Series, int]) -> str:
    lines, total, name = [], 0, definition.name
    for index, bound in enumerate((*BUCKETS, float("inf"))):
        total += series.get((route, str(index)), 0)
        shown = f"{bound:g}" if bound != float("inf") else "+Inf"
        lines.append(f'{name}_bucket{{route="{_escaped(route)}",le="{shown}"}} {total}\n')
    seconds = series.get((route, "sum"), 0) / _NANOSECONDS
    lines.append(f'{name}_sum{{route="{_escaped(route)}"}} {seconds:.9f}\n')
    lines.append(f'{name}_count{{route="{_escaped(route)}"}} {total}\n')
    return "".join(lines)


def _label_text(definition: Definition, values: Series) -> str:
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(definition.labels, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
