"""Whether something has happened that starts a retraining before its schedule: a new file, drift, a worse model."""

from __future__ import annotations

from datetime import datetime, timedelta

from config.home import under_home
from config.settings import Settings
from monitoring.store import Store
from pipeline.champion import champion_in_service
from pipeline.incoming_files import arrived, stamp_of
from pipeline.retraining_policy import RetrainingPolicy

#: Between two looks.
PAUSE = timedelta(minutes=1)
#: A file that was changed a shorter while ago may still be being written.
SETTLED = timedelta(seconds=30)
#: After a start, before drift or degradation may start another one, whatever the cool-down says.
LEAST_REST = timedelta(hours=1)


class RetrainingWatch:
    """Looks now and then. What was there at the last start is tried once; it is tried again when it has changed."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._triggers = settings.retraining.triggers
        self._incoming = under_home(settings.data.incoming)
        self._policy = RetrainingPolicy(settings, store)
        self._look_at: datetime | None = None
        self._rest_until: datetime | None = None
        self._tried: object = ()

    def is_due(self, now: datetime) -> bool:
        if self._look_at is not None and self._look_at - PAUSE <= now < self._look_at:  # else the clock was set back
            return False
        self._look_at = now + PAUSE
        return self._has_new_files(now) or self._has_cause(now)

    def begin(self, now: datetime) -> None:
        """To be called when a retraining starts, whatever started it."""
        self._tried = self._files()
        self._rest_until = now + LEAST_REST

    def _has_new_files(self, now: datetime) -> bool:
        if "new_data" not in self._triggers:
            return False
        files = self._files()
        settled = all(now.timestamp() - changed / 1e9 >= SETTLED.total_seconds() for _, _, changed in files)
        return bool(files) and settled and files != self._tried

    def _files(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time (ns) of what has arrived; nothing of it is read."""
        return tuple((path.name, *stamp_of(path)) for path in arrived(self._incoming))

    def _has_cause(self, now: datetime) -> bool:
        if self._rest_until is not None and self._rest_until - LEAST_REST <= now < self._rest_until:
            return False
        if not {"drift", "degradation"}.intersection(self._triggers):
            return False
        champion = champion_in_service()
        return self._policy.reason(champion.version if champion else None, now) is not None
