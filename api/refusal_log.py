"""Refused rows by field and rule, as lines in `logs/refusals_YYYYMMDD.jsonl`, for monitoring to read.

A worker counts what it refuses in its own memory, and writes a line for each model version once a minute, in the thread
that looks at the serving plan. Nothing here is on the way of a row that is answered. A worker that is killed takes its
last minute along.

A row counts under each of its features at fault, up to `MOST_FIELDS`: one that breaks more rules than that is another
thing altogether, and counts as `several`, so that an empty object is one cause and not as many as there are features.
Only a row whose known fields are all right counts for what it has besides. No name that only a client knows is kept.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from api.faults import Fault, field_of, rule_name
from monitoring.prediction_log import DailyLog, LogError
from monitoring.refusal_lines import LONGEST_FIELD, REFUSALS_LOG, SEVERAL, RefusalLine, RefusedField

WRITE_SECONDS = 60.0
#: Features under which one row counts.
MOST_FIELDS = 3
#: Pairs of field and rule in one line; the rarest of more count as `several`.
MOST_PAIRS = 64
#: Versions between two lines: more swaps of the model than that in a minute are not told apart.
MOST_VERSIONS = 8
_ROW = re.compile(r"\$\[(\d+)\]")
#: A field ('' for none that the model knows) and a rule.
Pair = tuple[str, str]

logger = logging.getLogger(__name__)


class RefusalMeter:
    """One worker's counts. Safe to share between threads."""

    def __init__(
        self, logs: Path, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = DailyLog(logs, REFUSALS_LOG)
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: defaultdict[str, _Counts] = defaultdict(_Counts)
        self._due = 0.0
        self._failing = False

    def note(self, version: str, faults: Sequence[Fault], known: Collection[str]) -> None:
        """Counts a refused request; `known` are the names of the model's features."""
        found = _rows_of(faults, known)
        with self._lock:
            if version in self._counts or len(self._counts) < MOST_VERSIONS:
                self._counts[version].add(found)

    def tick(self) -> None:
        """Writes what there is, once a minute."""
        now = self._monotonic()
        if now >= self._due:
            self._due = now + WRITE_SECONDS
            self.write()

    def write(self) -> None:
        """Writes what has been counted since the last time; what cannot be written goes with the next line."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(_Counts)
        if not counts:
            return
        now = self._clock()
        lines = [msgspec.json.encode(one.line(now, version)) for version, one in sorted(counts.items())]
        try:
            self._log.append(lines, now)
            self._failing = False
        except LogError as error:
            with self._lock:
                for version, one in counts.items():
                    self._counts[version].merge(one)
            if not self._failing:
                logger.warning("%s; refused rows are written when it is mended", error)
            self._failing = True

    def close(self) -> None:
        """The last line of this worker, when it ends in order."""
        with suppress(OSError, ValueError):
            self.write()
        self._log.close()


class _Counts:
    """Of one version; bounded, whatever clients send: the features of one model, and few rules."""

    def __init__(self) -> None:
        self.rows = 0
        self.requests = 0
        self.rows_of: Counter[Pair] = Counter()
        self.requests_of: Counter[Pair] = Counter()

    def add(self, rows: Sequence[frozenset[Pair]]) -> None:
        self.rows += len(rows)
        self.requests += 1
        for pairs in rows:
            self.rows_of.update(pairs)
        self.requests_of.update(frozenset().union(*rows))

    def merge(self, other: _Counts) -> None:
        self.rows += other.rows
        self.requests += other.requests
        self.rows_of.update(other.rows_of)
        self.requests_of.update(other.requests_of)

    def line(self, now: datetime, version: str) -> RefusalLine:
        ranked = sorted(self.rows_of, key=lambda pair: (-self.rows_of[pair], pair))
        kept = {pair: (self.rows_of[pair], self.requests_of[pair]) for pair in ranked[:MOST_PAIRS]}
        if rest := ranked[MOST_PAIRS:]:
            rows, requests = kept.get(SEVERAL, (0, 0))
            rows += sum(self.rows_of[pair] for pair in rest)
            kept[SEVERAL] = (rows, requests + sum(self.requests_of[pair] for pair in rest))
        return RefusalLine(
            timestamp=now,
            model_version=version,
            rows=self.rows,
            requests=self.requests,
            fields=[
                RefusedField(field=field, rule=rule, rows=rows, requests=requests)
                for (field, rule), (rows, requests) in kept.items()
            ],
        )


def _rows_of(faults: Sequence[Fault], known: Collection[str]) -> list[frozenset[Pair]]:
    """For each row with a fault what it counts under."""
    rows: defaultdict[str, set[Pair]] = defaultdict(set)
    for fault in faults:
        found = _ROW.match(fault.path)
        rows[found[1] if found else ""].add(((field_of(fault, known) or "")[:LONGEST_FIELD], rule_name(fault)))
    return [_counted(pairs) for pairs in rows.values()]


def _counted(pairs: set[Pair]) -> frozenset[Pair]:
    of_features = {pair for pair in pairs if pair[0]}
    if len({field for field, _ in of_features}) > MOST_FIELDS:
        return frozenset({SEVERAL})
    return frozenset(of_features or pairs)
