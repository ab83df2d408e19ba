"""The prediction log as the settings want it: fields hashed or dropped, and a full disk refused or counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from api.metrics import Metrics
from api.model_server import PredictionWriter
from config.settings import Settings
from monitoring.log_policy import FieldPolicy
from monitoring.prediction_log import LogError, PredictionLine

logger = logging.getLogger(__name__)


class Outage:
    """Tells the server's log when a log begins to fail and when it is written again, not of each request between."""

    def __init__(self, metrics: Metrics, log: str, outcome: Literal["refused", "served"]) -> None:
        self._metrics = metrics
        self._log = log
        self._outcome = outcome
        self._lock = threading.Lock()
        self._count = 0

    def failed(self, error: LogError) -> None:
        self._metrics.log_failed(self._log, self._outcome)
        with self._lock:
            self._count += 1
            first = self._count == 1
        if first:
            logger.error("%s; requests are %s until it is mended", error, self._outcome)

    def over(self) -> None:
        """After a success; costs nothing when nothing has failed."""
        if self._count:
            with self._lock:
                count, self._count = self._count, 0
            if count:
                logger.info("the %s log is written again; %d requests were %s", self._log, count, self._outcome)


class GuardedLog:
    """A prediction log under `logging.fields` and `logging.when_full`. Safe to share between threads."""

    def __init__(self, log: PredictionWriter, settings: Settings, metrics: Metrics) -> None:
        """Raises `PolicyError` when a field is to be hashed and there is no key."""
        self._log = log
        self._policy = FieldPolicy.of(settings)
        self._serves = settings.logging.when_full == "serve"
        self._outage = Outage(metrics, "predictions", "served" if self._serves else "refused")

    def append(self, lines: Sequence[PredictionLine]) -> None:
        """Writes the lines of one request; raises `LogError` when it must not be answered."""
        if self._policy is not None:
            lines = [_under(self._policy, line) for line in lines]
        try:
            self._log.append(lines)
        except LogError as error:
            self._outage.failed(error)
            if not self._serves:
                raise
        else:
            self._outage.over()


def _under(policy: FieldPolicy, line: PredictionLine) -> PredictionLine:
    row = line.input_data
    if isinstance(row, Struct):
        row = msgspec.to_builtins(row)
    return msgspec.structs.replace(line, input_data=policy.apply(row))
