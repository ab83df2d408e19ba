"""One source's logs, file by file and batch by batch, into the store."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from monitoring.daily_files import Kind, LogFile, log_files
from monitoring.hour_tallies import tally_lines
from monitoring.known_models import KnownModels
from monitoring.labelled_rows import Joiner
from monitoring.log_lines import Batch, LoggedOutcome, LoggedPrediction, outcomes_of, predictions_of
from monitoring.log_places import LogPlaces, Place, PlaceTakenError, move
from monitoring.log_tail import Chunk, Limits, is_same_file, mark_at, read_chunk
from monitoring.prediction_index import (
    RepeatedLineError,
    add_outcomes,
    add_predictions,
    first_id,
    known_ids,
    moments_of,
    point_to,
)
from monitoring.store import Store
from monitoring.window_records import add_tallies

#: How often a batch is tried again whose lines another host was just reading too.
_ATTEMPTS = 3
#: Steps of the round over waiting outcomes that one call makes, so that outcomes of unknown ids cost no more than that.
_WAITING_STEPS = 20
#: So long after its day a file is written no more: a last line without its newline will never get one.
_SETTLED = timedelta(hours=24)


class LogReader:
    """Reads what is new of one source; only while it holds the source's lock."""

    def __init__(
        self,
        store: Store,
        source: int,
        logs: Path,
        models: KnownModels,
        clock: Callable[[], datetime],
        limits: Limits,
        remembered: Callable[[], datetime],
    ) -> None:
        self.source = source
        self.places = LogPlaces(store, source)
        self._store = store
        self._logs = logs
        self._models = models
        self._clock = clock
        self._limits = limits
        self._remembered = remembered
        self._joiner = Joiner(store, source, logs, models)
        self._known: dict[str, Place] = {}
        #: What a file looked like when it was found to be read to its end.
        self._done: dict[str, tuple[int, int, int, bool]] = {}
        self.counts = _no_counts()

    def refresh(self) -> None:
        """Places are read anew: another process may have had the lock in between."""
        self._known = self.places.all()

    def take_counts(self) -> dict[str, int]:
        counts, self.counts = self.counts, _no_counts()
        return counts

    def run(self, deadline: float | None, rows: int | None) -> bool:
        """Predictions and feedback by turns, oldest files first, so that neither waits for the other's backlog.

        Returns whether it came to the end of the files.
        """
        queues: dict[Kind, deque[LogFile]] = {"predictions": deque(), "feedback": deque()}
        for file in log_files(self._logs):
            queues[file.kind].append(file)
        while any(queues.values()):
            for queue in queues.values():
                if _is_over(deadline) or (rows is not None and self.counts["rows"] + self.counts["labels"] >= rows):
                    return False
                if queue and not self._take(queue[0]):
                    queue.popleft()
        for _ in range(_WAITING_STEPS):
            if _is_over(deadline):
                break
            joined, over = self._joiner.join_waiting()
            self.counts["joined"] += joined
            if over:
                break
        return True

    def lag(self) -> int:
        return sum(max(0, size - offset) for _, size, offset in self._extents())

    def unread(self) -> list[Path]:
        return [file.path for file, size, offset in self._extents() if size > offset]

    def _extents(self) -> list[tuple[LogFile, int, int]]:
        """Each file with its size and how much of it is read."""
        found = []
        for file in log_files(self._logs):
            place = self._known.get(file.name)
            try:
                found.append((file, file.path.stat().st_size, 0 if place is None else place.offset))
            except FileNotFoundError:
                continue
        return found

    def _take(self, file: LogFile) -> bool:
        """Reads one batch; False when there is nothing more for now."""
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return self._take_from(file, descriptor)
        except PlaceTakenError:
            self.refresh()
            return False
        finally:
            os.close(descriptor)

    def _take_from(self, file: LogFile, descriptor: int) -> bool:
        state, settled = os.fstat(descriptor), self._is_settled(file)
        looks = (state.st_ino, state.st_size, state.st_mtime_ns, settled)
        if self._done.get(file.name) == looks and file.name in self._known:
            return False
        place = self._place(file, descriptor)
        chunk = read_chunk(descriptor, place.offset, self._limits, final=settled)
        if chunk.stop == place.offset:
            self._done[file.name] = looks
            return False
        moved = msgspec.structs.replace(place, offset=chunk.stop, mark=mark_at(descriptor, chunk.stop))
        keep = self._predictions if file.kind == "predictions" else self._feedback
        self._known[file.name] = keep(place, moved, chunk)
        return True

    def _is_settled(self, file: LogFile) -> bool:
        return self._clock().astimezone(UTC).date() > file.day + _SETTLED

    def _place(self, file: LogFile, descriptor: int) -> Place:
        place = self._known.get(file.name)
        if place is None:
            place = self.places.begin(file.name)
        elif not is_same_file(descriptor, place.offset, place.mark):
            place = self.places.begin_again(place)
            self.counts["replaced"] += 1
        self._known[file.name] = place
        return place

    def _predictions(self, place: Place, moved: Place, chunk: Chunk) -> Place:
        batch = predictions_of(chunk)
        known: set[bytes] = set()
        if place.generation:
            known = known_ids(self._store, batch.ids)
        for _ in range(_ATTEMPTS):
            new, repeated = self._divide(place, batch, known)
            try:
                return self._keep_predictions(place, moved, new, repeated)
            except RepeatedLineError:
                known = known_ids(self._store, batch.ids)
        raise PlaceTakenError

    def _divide(
        self, place: Place, batch: Batch[LoggedPrediction], known: set[bytes]
    ) -> tuple[Batch[LoggedPrediction], list[tuple[bytes, int]]]:
        """The lines to count, and those that are known. In a file that was replaced, whatever is older than what the
        index remembers counts as known: better a few rows too few than a month twice."""
        oldest = first_id(self._remembered()) if place.generation else b""
        seen: set[bytes] = set()
        fresh = []
        for id_ in batch.ids:
            fresh.append(id_ not in known and id_ >= oldest and id_ not in seen)
            seen.add(id_)
        if all(fresh):
            return batch, []
        old = [not new for new in fresh]
        repeated = batch.keep(old)
        return batch.keep(fresh), list(zip(repeated.ids, repeated.places, strict=True))

    def _keep_predictions(
        self, place: Place, moved: Place, batch: Batch[LoggedPrediction], repeated: list[tuple[bytes, int]]
    ) -> Place:
        moments = moments_of(batch.lines)
        tallied = tally_lines(batch.lines, moments, self._models)
        moved = _counted(moved, len(batch.lines), len(batch.fragments), len(repeated))
        with self._store.writing() as connection:
            move(connection, place, moved)
            add_predictions(connection, self.source, place.id, batch, moments, tallied.estimates)
            add_tallies(connection, self.source, tallied.tallies, self._models)
            point_to(connection, self.source, place.id, repeated)
            self.places.set_aside(connection, place, batch.fragments, self._clock())
        self._count(rows=len(batch.lines), fragments=len(batch.fragments), repeated=len(repeated))
        return moved

    def _feedback(self, place: Place, moved: Place, chunk: Chunk) -> Place:
        batch: Batch[LoggedOutcome] = outcomes_of(chunk)
        moved = _counted(moved, len(batch.lines), len(batch.fragments), 0)
        with self._store.writing() as connection:
            move(connection, place, moved)
            add_outcomes(connection, self.source, batch, moments_of(batch.lines))
            self.places.set_aside(connection, place, batch.fragments, self._clock())
        self._count(labels=len(batch.lines), fragments=len(batch.fragments))
        self.counts["joined"] += self._joiner.join(sorted(set(batch.ids)))
        return moved

    def _count(self, **added: int) -> None:
        for name, value in added.items():
            self.counts[name] += value


def _no_counts() -> dict[str, int]:
    return dict.fromkeys(("rows", "labels", "joined", "fragments", "repeated", "replaced", "deleted"), 0)


def _counted(place: Place, lines: int, fragments: int, repeated: int) -> Place:
    return msgspec.structs.replace(
        place,
        lines=place.lines + lines,
        fragments=place.fragments + fragments,
        repeated=place.repeated + repeated,
    )


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline
