"""Figures as Prometheus reads them: what a metric is, and samples of it as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(Struct, frozen=True):
    """`labels` are values in the order of the definition's names."""

    metric: Definition
    labels: tuple[str, ...]
    value: float


class Definition(Struct, frozen=True):
    """A metric. `place` says who shows it: each host its own, or the scheduler alone what the store holds of all."""

    name: str
    kind: Literal["counter", "gauge"]
    place: Literal["host", "scheduler"]
    help: str
    labels: tuple[str, ...] = ()

    def of(self, value: float | datetime | None, *labels: str) -> Iterator[Sample]:
        """A sample, moments as seconds since 1970; none for what is not known, which is never shown as a number."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, got {labels}")
        if value is not None:
            yield Sample(self, labels, value.timestamp() if isinstance(value, datetime) else float(value))


def metrics_text(samples: Iterable[Sample], more: Iterable[Metric] = ()) -> bytes:
    """The text format 0.0.4; `more` are metrics of other makers."""
    families: dict[str, Metric] = {}
    for sample in samples:
        metric = sample.metric
        family = families.setdefault(metric.name, _family(metric))
        family.add_sample(metric.name, dict(zip(metric.labels, sample.labels, strict=True)), sample.value)
    return generate_latest(_Collected([*families.values(), *more]))


def _family(metric: Definition) -> Metric:
    return Metric(metric.name.removesuffix("_total"), metric.help, metric.kind)


class _Collected:
    """Stands where prometheus_client has a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
