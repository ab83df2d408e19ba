"""Keeps the server on the model that the serving plan names: load, verify, answer the stored rows, swap, drop the old.

The last good model stays in service through a bad bundle, a missing or torn plan, and a plan of a newer format.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from api.model_server import ModelServer, ServedModel, load_model
from api.process import give_back_memory
from models.bundle import BundleError
from models.serving_plan import PLAN, PlanError, ServingPlan, read_plan

LOOK_SECONDS = 1.0
#: After a failure the same plan is tried again, at longer and longer intervals up to this one.
LONGEST_RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


class ReloadStatus(Struct, frozen=True, kw_only=True):
    """`generation` is that of the plan in service; `problem` says why the newest plan is not, or None."""

    generation: int | None = None
    problem: str | None = None
    loaded_at: datetime | None = None
    loads: int = 0
    refused: int = 0


class Reloader:
    """Looks at the plan once a second in a background thread, one load at a time.

    The thread is made by `ensure_running`, never before a fork: threads do not survive one.
    """

    def __init__(
        self,
        server: ModelServer,
        registry: Path,
        max_rows: int,
        *,
        interval: float = LOOK_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        prepare: Callable[[], None] = lambda: None,
        observe: Callable[[ReloadStatus, ServedModel | None], None] = lambda _status, _model: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """`prepare` is called once in each process, before its first look; `observe` after each look at a new plan;
        `tick` in the background after every look."""
        self._server = server
        self._registry = registry
        self._max_rows = max_rows
        self._interval = interval
        self._monotonic = monotonic
        self._prepare = prepare
        self._observe = observe
        self._tick = tick
        self._seen: tuple[int, ...] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self.status = ReloadStatus(problem="no model has been promoted yet")
        self._process = 0
        self._starting = threading.Lock()
        self._stop = threading.Event()

    def ensure_running(self) -> None:
        """Starts the thread in this process unless it runs; the first look is taken before this returns."""
        if self._process == os.getpid():
            return
        with self._starting:
            if self._process == os.getpid():
                return
            self._prepare()
            self.look()
            self._observe(self.status, self._server.served)  # also when there was nothing to see
            self._stop = threading.Event()
            threading.Thread(target=self._watch, args=(self._stop,), name="reload", daemon=True).start()
            self._process = os.getpid()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Follows the plan if it has changed since the last look, or if a failed one is due again."""
        signature = self._signature()
        if signature == self._seen and not self._is_due():
            return
        self._seen = signature  # taken before the read: a plan replaced in between is seen at the next look
        try:
            self._follow(read_plan(self._registry))
        except (PlanError, BundleError) as error:
            self._failed(str(error))
        except Exception:
            logger.exception("the model of the serving plan could not be loaded")
            self._failed("the model of the serving plan could not be loaded; the server's log says why")
        else:
            self._failures = 0
        self._observe(self.status, self._server.served)

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            try:
                self.look()
            except Exception:  # whatever it is, the next plan must still be seen
                logger.exception("the serving plan could not be looked at")
            try:
                self._tick()
            except Exception:
                logger.exception("what the server has counted could not be written")

    def _follow(self, plan: ServingPlan | None) -> None:
        if plan is None or plan.champion is None:
            self._note("there is no serving plan" if plan is None else "the serving plan names no model")
            return
        planned, served = plan.champion, self._server.served
        if served and (served.version, served.manifest_sha256) == (planned.version, planned.manifest_sha256):
            self.status = replace(self.status, generation=plan.generation, problem=None)
            return
        self._server.serve(load_model(self._registry, planned, self._max_rows))
        give_back_memory()
        logger.info("version %s is in service (plan %d)", planned.version, plan.generation)
        self.status = replace(
            self.status,
            generation=plan.generation,
            problem=None,
            loaded_at=self._server.now(),
            loads=self.status.loads + 1,
        )

    def _failed(self, problem: str) -> None:
        self._failures += 1
        self._retry_at = self._monotonic() + min(2.0 ** (self._failures - 1), LONGEST_RETRY_SECONDS)
        self._note(problem)
        self.status = replace(self.status, refused=self.status.refused + 1)

    def _note(self, problem: str) -> None:
        if problem != self.status.problem:
            logger.warning("the model in service stays: %s", problem)
        self.status = replace(self.status, problem=problem)

    def _is_due(self) -> bool:
        return self._failures > 0 and self._monotonic() >= self._retry_at

    def _signature(self) -> tuple[int, ...] | None:
        try:
            found = (self._registry / PLAN).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
