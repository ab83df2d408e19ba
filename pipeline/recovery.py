"""The repair of what a kill left half done: runs that nobody ends, staged bundles, promotions that were begun.

A run repairs before it begins; the scheduler at its start, and whenever it sees that something was left.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from datetime import timedelta

from config.clock import Clock
from config.settings import Settings
from config.state_lock import StateLockedError, state_lock
from models.mlflow_runs import RunLog
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store
from pipeline.deployment import Deployment

log = logging.getLogger(__name__)
#: A run of another host in a shared store is believed to be at work for this long; we cannot see its process.
LONGEST_RUN = timedelta(days=1)


@dataclass(frozen=True)
class Recovery:
    records: RunRecords
    runs: RunLog
    deployment: Deployment
    clock: Clock
    #: Whether hosts other than this one keep their runs in the same store.
    shared: bool = False

    @classmethod
    def of(cls, settings: Settings, store: Store, runs: RunLog, deployment: Deployment) -> Recovery:
        """At the deployment's clock; a store that is no file may be shared with other hosts."""
        shared = not settings.store_address.startswith("sqlite")
        return cls(RunRecords(store), runs, deployment, deployment.clock, shared)

    def needed(self) -> bool:
        """Whether something may have been left, told without asking MLflow; also true while a run is at work."""
        at_work = [run for run in self.records.running() if not self._may_be_elsewhere(run)]
        return bool(at_work) or self.deployment.has_leftovers()

    def repair(self) -> None:
        """Ends what nobody will end, and finishes or abandons what was begun. The caller holds the pipeline's lock.

        Raises:
            RegistryError: MLflow is needed for it and cannot be reached; the next repair goes on.
        """
        for run in self.records.interrupt_orphans(self._may_be_elsewhere, self.clock()):
            log.warning("run %s was interrupted: its process ended without a word", run.run_id)
        self.deployment.recover()
        for run_id in self.runs.unfinished():
            known = self.records.get(run_id)
            if known is not None and known.status != "running":
                self.runs.finish_interrupted(run_id)

    def repair_alone(self) -> None:
        """Repairs, unless a run is at work: that one did so when it began."""
        try:
            with state_lock("pipeline", "main.py, repairing what a kill left"):
                self.repair()
        except StateLockedError:
            return

    def _may_be_elsewhere(self, run: RunRecord) -> bool:
        return self.shared and run.host != socket.gethostname() and self.clock() - run.started_at < LONGEST_RUN
