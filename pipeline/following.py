"""How following the registry goes, for those who show it: noted by the one thread that follows, read by any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from config.clock import Clock
from models.mlflow_connection import RegistryError
from pipeline.deployment import DeploymentError


class Following:
    """Nothing is known before the first attempt has ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.mlflow_reachable: bool | None = None
        self.last_success_at: datetime | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around bringing this host up to the registry; what is raised within goes on."""
        try:
            yield
        except RegistryError:
            self.mlflow_reachable = False
            raise
        except DeploymentError:  # it answered, and what it named cannot be served
            self.mlflow_reachable = True
            raise
        self.mlflow_reachable, self.last_success_at = True, self._clock()
