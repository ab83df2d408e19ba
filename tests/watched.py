"""What a Prometheus with the rules that ship sees of the whole system, which it scrapes every second.

An alert is said to hold as soon as the expression of its rule does: Prometheus itself evaluates the file every second.
Whether that lasts for the minutes that `for:` asks, and thresholds of minutes, are not waited for here: promtool tests
both, in made-up time (docker/prometheus/tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.metrics_exporter import REFRESH_SECONDS
from tests.parts import wait_for
from tests.prometheus import Running

#: Until the store has been asked again, was called away, and Prometheus has scraped and evaluated that.
SECONDS = 40.0
#: Of lines that wait, in seconds: more than it ever is while the store is asked how far they are read.
OLD = REFRESH_SECONDS + 2.0
LAG = 'mlops_log_unread_seconds{log="predictions"}'


@dataclass(frozen=True)
class Watched:
    prometheus: Running
    #: Of the parts, by job.
    ports: Mapping[str, int]

    def figures(self, expression: str) -> dict[str, float]:
        """By job; of a job that shows several, their sum."""
        samples = self.prometheus.query(f"sum by (job) ({expression})")
        return {one["metric"].get("job", ""): float(one["value"][1]) for one in samples}

    def alerted(self, alert: str) -> set[str]:
        """The jobs for whose instances the expression of its rule holds."""
        instances = {labels.get("instance") for labels in self.prometheus.active(alert)}
        return {job for job, port in self.ports.items() if f"127.0.0.1:{port}" in instances}

    def shows(self, alert: str, expression: str, **figures: float) -> None:
        """Waits until these jobs show these figures, and the alert holds for each of them."""
        self._await(alert, set(figures), expression, figures)

    def shows_no_longer(self, alert: str, expression: str, **figures: float) -> None:
        """Waits until these jobs show these figures, and the alert holds for none of them."""
        self._await(alert, set(), expression, figures)

    def lines_wait(self) -> bool:
        """Whether those of the servers wait, by what `sync` shows of them."""
        return self.figures(LAG)["sync"] > OLD

    def _await(self, alert: str, jobs: set[str], expression: str, figures: Mapping[str, float]) -> None:
        def found() -> tuple[dict[str, float | None], set[str]]:
            shown = self.figures(expression)
            return {job: shown.get(job) for job in figures}, self.alerted(alert) & figures.keys()

        try:
            wait_for(
                lambda: found() == (figures, jobs), f"{expression} is {figures}, {alert} holds for {jobs}", SECONDS
            )
        except AssertionError as error:
            error.add_note(f"found: {found()}")
            raise
