"""What `start` waits for: a model of the configured table in service, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from config.home import is_absent_sqlite, under_home
from config.settings import Settings, registry_directory
from config.state_lock import lock_holder
from models.bundle import BundleError, Manifest, read_manifest
from models.serving_plan import PlanError, read_plan
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store, StoreError
from pipeline.first_run import gives_way
from pipeline.health import readiness_problem
from pipeline.retraining import data_available

#: A scheduler that has begun no run by then has no reason to, or a problem that `status` tells.
PATIENCE = timedelta(minutes=1)


@dataclass(frozen=True)
class FirstModel:
    settings: Settings
    #: When `start` began: runs before it are no news.
    since: datetime

    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        serving = self._serving()
        if serving is not None and not gives_way(self.settings, serving):
            return readiness_problem(self.settings) is None
        if not data_available(self.settings):
            return True
        if lock_holder("pipeline") is not None:
            return False
        run = self._last_run()
        return datetime.now(UTC) - self.since > PATIENCE or (run is not None and run.status != "running")

    def problem(self) -> str | None:
        """Why nothing is in service, in one sentence; None when something is."""
        if readiness_problem(self.settings) is None:
            return None
        run = self._last_run()
        if run is not None and run.error:
            return f"the first run has ended as {run.status}: {run.error}; then: python main.py run"
        if not data_available(self.settings):
            source = under_home(self.settings.data.source)
            return f"{source} is not there; put a table there, or: python main.py init --data FILE --target COLUMN"
        return "python main.py status says more"

    def doing(self, last_words: str) -> str:
        """`last_words` are the scheduler's: its child tells the step at work there, among lines of its log."""
        if lock_holder("pipeline") is None or not last_words or last_words.startswith("20"):
            return "waiting for the first model"
        return f"the first model: {last_words.strip()}"

    def _serving(self) -> Manifest | None:
        try:
            plan = read_plan(registry_directory())
            if plan is None or plan.champion is None:
                return None
            return read_manifest(registry_directory() / plan.champion.version)[0]
        except (PlanError, BundleError):
            return None

    def _last_run(self) -> RunRecord | None:
        address = self.settings.store_address
        if is_absent_sqlite(address):
            return None
        try:
            with Store(address) as store:
                runs = RunRecords(store).latest(1)
        except StoreError:
            return None
        return runs[0] if runs and runs[0].started_at >= self.since else None
