"""Retraining on new data: files that appear in `data.incoming`, and outcomes that came back, join what was used before.

A file is archived under a name of its own after the run that used it has succeeded; one that fails leaves it in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from msgspec import Struct

from config.clock import Clock, utc_now
from config.home import under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from monitoring.alerts import Alerts
from monitoring.data_files import DataFile, DataFiles
from monitoring.labelled_reading import LabelledRows
from monitoring.run_records import Trigger
from monitoring.store import Store
from pipeline.champion import champion_in_service
from pipeline.errors import InputError
from pipeline.incoming_files import NewFile, arrived, free_name, move, sha256_of, stamp_of
from pipeline.log_jobs import ingestion_of, read_to_end
from pipeline.orchestrator import PipelineRun, RunOutcome
from pipeline.progress import Progress, Silent
from pipeline.retraining_policy import Reason, RetrainingPolicy
from pipeline.sample_data import is_sample, is_sample_content

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.feedback_rows import Feedback
    from pipeline.table_reading import Table

ARCHIVE = "data/processed"


class RetrainingOutcome(Struct, frozen=True, kw_only=True):
    status: Literal["nothing_new", "succeeded"]
    policy: str
    #: What started it; None when nothing was new.
    trigger: Trigger | None = None
    #: In a sentence: why it was trained, or what is still missing.
    why: str
    files: tuple[str, ...] = ()
    archived: tuple[str, ...] = ()
    #: Outcomes in the training table.
    labelled_rows: int = 0
    run: RunOutcome | None = None


def retrain_now(progress: Progress | None = None, clock: Clock = utc_now) -> RetrainingOutcome:
    """Retrains on what has arrived, or says that nothing has.

    Raises:
        InputError: a new file is no table, or lacks columns; it stays where it is.
        StateLockedError: another run is at work.
    """
    settings = load_settings()
    with state_lock("pipeline", "main.py retrain"), Store(settings.store_address) as store:
        read_to_end(ingestion_of(settings, store, clock))  # outcomes that have just come back count
        policy = RetrainingPolicy(settings, store)
        retraining = Retraining(settings, DataFiles(store), clock, _feedback(settings, store))
        new, labels = retraining.new_files(), policy.new_labels()
        occasion = _occasion(settings, policy, new, labels)
        if isinstance(occasion, str):
            return RetrainingOutcome(status="nothing_new", policy=settings.retraining.policy, why=occasion)
        with PipelineRun(
            retraining.settings_of_run, store, progress or Silent(), trigger=occasion.trigger, clock=clock
        ) as run:
            outcome = run.execute(lambda: retraining.table(new))
        archived = retraining.archive(new, outcome.run_id)
        _tell_incidents(Alerts.of(settings, store), occasion, outcome, clock())
        return RetrainingOutcome(
            status="succeeded",
            policy=settings.retraining.policy,
            trigger=occasion.trigger,
            why=occasion.why,
            files=tuple(file.path.name for file in new),
            archived=tuple(path.name for path in archived),
            labelled_rows=retraining.labelled_rows,
            run=outcome,
        )


def _occasion(settings: Settings, policy: RetrainingPolicy, new: list[NewFile], labels: int) -> Reason | str:
    """What starts a retraining; else what is missing, in a sentence."""
    enough = labels >= settings.retraining.minimum_labelled_rows
    champion = champion_in_service()
    cause = policy.cause(champion.version if champion else None) if new or enough else None
    if cause is not None:
        return cause
    if new:
        return Reason(trigger="new_data", why=f"new data has arrived: {', '.join(file.path.name for file in new)}")
    if enough and labels:
        return Reason(trigger="schedule", why=f"{labels:,} outcomes have come back since the last run")
    if is_live(settings.data.source):
        return Reason(trigger="schedule", why="the data may have changed behind its address")
    came = (
        f"of outcomes {labels:,} came back since the last run, and {settings.retraining.minimum_labelled_rows:,} make"
    )
    return f"nothing new: no file has arrived that was not used before; {came} a retraining worth it"


def _tell_incidents(alerts: Alerts, occasion: Reason, outcome: RunOutcome, now: datetime) -> None:
    """What was done, in the history of the incidents that led to it."""
    became = "it is in service" if outcome.promoted else f"it is not in service: {outcome.decision['reason']}"
    action = f"retrained: version {outcome.model_version}, {became}"
    for incident in occasion.incidents:
        alerts.record_action(incident, now, action, run_id=outcome.run_id)


def _feedback(settings: Settings, store: Store) -> Feedback | None:
    from pipeline.feedback_rows import Feedback

    champion = champion_in_service() if settings.retraining.use_feedback else None
    if champion is None or champion.schema.target != settings.target_column:
        return None
    rows = LabelledRows(store).newest(settings.retraining.feedback_rows)
    return Feedback(rows, champion.schema) if rows else None


def data_available(settings: Settings) -> bool:
    """Whether a first run has something to read."""
    return is_live(settings.data.source) or under_home(settings.data.source).exists()


def is_live(source: str) -> bool:
    """A database or a bucket, whose content changes behind the same address."""
    return "://" in source


class Retraining:
    """The files of one state root: what is new, what was used, and the table that the policy makes of them."""

    def __init__(self, settings: Settings, used: DataFiles, clock: Clock, feedback: Feedback | None = None) -> None:
        self.settings = settings
        self.feedback = feedback
        self.used = used
        self.clock = clock
        self.incoming = under_home(settings.data.incoming)
        self.archive_folder = under_home(ARCHIVE)
        self._rows: dict[str, int] = {}

    def new_files(self) -> list[NewFile]:
        """What has arrived and was never used, oldest first, one of each content.

        What was used already goes to the archive, so that it is not looked at again.
        """
        new: dict[str, NewFile] = {}
        for path in arrived(self.incoming):
            stamp = stamp_of(path)
            file = NewFile(path, sha256_of(path), stamp)
            if self._is_used(file.sha256):
                self._put_away(file)
            else:
                new.setdefault(file.sha256, file)
        return list(new.values())

    def table(self, new: list[NewFile]) -> Table:
        """The training table by the policy: append (all there ever was), window (the last rows), or replace.

        Raises:
            InputError: a file is no table, or lacks columns that the table so far has.
        """
        import pandas as pd

        from pipeline.table_reading import Table

        policy = self.settings.retraining.policy
        before = [] if policy == "replace" else self.used.all()
        with_base = policy != "replace" or not (new or self.feedback)
        frames = self._frames(before, new, with_base)
        whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True) if frames else None
        if self.feedback is not None:
            whole = self.feedback.joined(whole, self.settings.data_split.time_column, self.settings.data.source)
        assert whole is not None  # noqa: S101 - without files there is the base, or outcomes
        source = self._source(new, len(frames))
        parts = [*(file.sha256 for file in before), *(file.sha256 for file in new)]
        sample = all(map(is_sample_content, parts)) and (not with_base or is_sample(self._base))
        return Table(self._window(whole, source) if policy == "window" else whole, source, sample)

    @property
    def labelled_rows(self) -> int:
        """Outcomes that join the table."""
        return len(self.feedback.rows) if self.feedback else 0

    @property
    def settings_of_run(self) -> Settings:
        """Columns that the model in service leaves out are in no log: with outcomes in the table they stay out."""
        if self.feedback is None:
            return self.settings
        features = self.settings.features
        out = dict.fromkeys([*features.drop, *self.feedback.left_out(self.settings.data_split.time_column)])
        features = msgspec.structs.replace(features, drop=tuple(out))
        return msgspec.structs.replace(self.settings, features=features)

    def _source(self, new: list[NewFile], tables: int) -> str:
        names = ", ".join(str(file.path) for file in new) or self.settings.data.source
        parts = [f"policy {self.settings.retraining.policy}", f"{tables} tables"] if tables > 1 else []
        parts += [f"{self.labelled_rows:,} outcomes"] if self.feedback else []
        return f"{names} ({', '.join(parts)})" if parts else names

    def _frames(self, before: list[DataFile], new: list[NewFile], with_base: bool) -> list[pd.DataFrame]:
        frames = [self._read(None)] if with_base else []
        for record in before:
            frames.append(self._read(record.path, frames))
        for file in new:
            frame = self._read(str(file.path), frames)
            _require_same_columns(frames, frame, file.path.name)
            self._rows[file.sha256] = len(frame)
            frames.append(frame)
        return frames

    @property
    def _base(self) -> str:
        """The configured table: an address, or the file under the state root."""
        source = self.settings.data.source
        return source if is_live(source) else str(under_home(source))

    def archive(self, files: list[NewFile], run_id: str) -> list[Path]:
        """Moves used files to `data/processed/` under names that nothing else has, and records them.

        A file that has changed since it was read stays: what is in it now was not used.
        """
        archived = []
        for file in files:
            if file.unchanged:
                place = self._place(file)
                # Recorded before it is moved: after a kill between the two, the next look finds it used and moves it.
                self.used.add(str(place), file.sha256, self._rows[file.sha256], self.clock(), run_id)
                move(file.path, place)
                archived.append(place)
        return archived

    def _is_used(self, sha256: str) -> bool:
        """Whether this content was used before; the training file itself counts, where new data joins it."""
        if self.used.with_content(sha256) is not None:
            return True
        base = Path(self._base)
        return self.settings.retraining.policy != "replace" and base.is_file() and sha256_of(base) == sha256

    def _put_away(self, file: NewFile) -> None:
        """To where its record says that it is, when a kill came between record and move; else beside it."""
        record = self.used.with_content(file.sha256)
        lost = record is not None and not Path(record.path).exists()
        move(file.path, Path(record.path) if record is not None and lost else self._place(file))

    def _place(self, file: NewFile) -> Path:
        stamp = self.clock().strftime("%Y%m%dT%H%M%SZ")
        return free_name(self.archive_folder / f"{stamp}_{file.sha256[:8]}_{file.path.name}")

    def _read(self, source: str | None, before: Sequence[pd.DataFrame] = ()) -> pd.DataFrame:
        """What is text in the first table stays text, so that `007` is one value in all of them."""
        from pipeline.column_values import is_text
        from pipeline.table_reading import read_table

        texts = [name for name in before[0].columns if is_text(before[0][name])] if before else []
        return read_table(self.settings.data, source, {*texts, *self.settings.features.categorical}).frame

    def _window(self, frame: pd.DataFrame, source: str) -> pd.DataFrame:
        """The newest rows, by the time column, else by their order; rows without a time are the oldest."""
        from pipeline.data_split import time_values

        column = self.settings.data_split.time_column
        if column is not None and column in frame.columns:
            time = time_values(frame[column], source, column)
            frame = frame.take(np.argsort(np.where(np.isnan(time), -np.inf, time), kind="stable"))
        return frame.tail(self.settings.retraining.window_rows).reset_index(drop=True)


def _require_same_columns(before: list[pd.DataFrame], frame: pd.DataFrame, name: str) -> None:
    if not before:
        return
    absent = [str(column) for column in before[0].columns if column not in frame.columns]
    if absent:
        raise InputError(
            f"{name}: lacks {', '.join(map(repr, absent[:5]))}{' …' if len(absent) > 5 else ''}, which the table so "
            "far has; add the columns, or set retraining.policy to replace"
        )
