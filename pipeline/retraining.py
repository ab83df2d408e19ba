"""Retraining on new data: files that appear in `data.incoming` join what was used before, as the policy says.

A file is archived under a name of its own after the run that used it has succeeded; one that fails leaves it in place.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec import Struct

from config.home import under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from monitoring.data_files import DataFile, DataFiles
from monitoring.store import Store
from pipeline.errors import InputError
from pipeline.orchestrator import PipelineRun, RunOutcome
from pipeline.progress import Progress, Silent
from pipeline.sample_data import is_sample, is_sample_content

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.table_reading import Table

ARCHIVE = "data/processed"
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")


class RetrainingOutcome(Struct, frozen=True, kw_only=True):
    status: Literal["nothing_new", "succeeded"]
    policy: str
    files: tuple[str, ...]
    archived: tuple[str, ...]
    run: RunOutcome | None


@dataclass(frozen=True)
class NewFile:
    path: Path
    sha256: str
    #: Size and modification time when its content was taken.
    stamp: tuple[int, int]

    @property
    def unchanged(self) -> bool:
        return self.path.exists() and _stamp(self.path) == self.stamp


def retrain_now(progress: Progress | None = None) -> RetrainingOutcome:
    """Retrains on what has arrived, or says that nothing has.

    Raises:
        InputError: a new file is no table, or lacks columns; it stays where it is.
        StateLockedError: another run is at work.
    """
    settings = load_settings()
    with state_lock("pipeline", "main.py retrain"), Store(settings.store_address) as store:
        retraining = Retraining(settings, DataFiles(store), lambda: datetime.now(UTC))
        new = retraining.new_files()
        if not new and not _is_live(settings.data.source):
            return RetrainingOutcome(
                status="nothing_new", policy=settings.retraining.policy, files=(), archived=(), run=None
            )
        with PipelineRun(settings, store, progress or Silent(), trigger="new_data" if new else "schedule") as run:
            outcome = run.execute(lambda: retraining.table(new))
        archived = retraining.archive(new, outcome.run_id)
        return RetrainingOutcome(
            status="succeeded",
            policy=settings.retraining.policy,
            files=tuple(file.path.name for file in new),
            archived=tuple(path.name for path in archived),
            run=outcome,
        )


def data_available(settings: Settings) -> bool:
    """Whether a first run has something to read."""
    return _is_live(settings.data.source) or under_home(settings.data.source).exists()


def _is_live(source: str) -> bool:
    """A database or a bucket, whose content changes behind the same address."""
    return "://" in source


class Retraining:
    """The files of one state root: what is new, what was used, and the table that the policy makes of them."""

    def __init__(self, settings: Settings, used: DataFiles, clock: Callable[[], datetime]) -> None:
        self.settings = settings
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
        for path in _arrived(self.incoming):
            stamp = _stamp(path)
            file = NewFile(path, _sha256(path), stamp)
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
        with_base = policy != "replace" or not new
        frames = self._frames(before, new, with_base)
        whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
        names = ", ".join(str(file.path) for file in new) or self.settings.data.source
        source = f"{names} (policy {policy}, {len(frames)} tables)" if len(frames) > 1 else names
        parts = [*(file.sha256 for file in before), *(file.sha256 for file in new)]
        sample = all(map(is_sample_content, parts)) and (not with_base or is_sample(self._base))
        return Table(self._window(whole, source) if policy == "window" else whole, source, sample)

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
        return source if _is_live(source) else str(under_home(source))

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
                _move(file.path, place)
                archived.append(place)
        return archived

    def _is_used(self, sha256: str) -> bool:
        """Whether this content was used before; the training file itself counts, where new data joins it."""
        if self.used.with_content(sha256) is not None:
            return True
        base = Path(self._base)
        return self.settings.retraining.policy != "replace" and base.is_file() and _sha256(base) == sha256

    def _put_away(self, file: NewFile) -> None:
        """To where its record says that it is, when a kill came between record and move; else beside it."""
        record = self.used.with_content(file.sha256)
        lost = record is not None and not Path(record.path).exists()
        _move(file.path, Path(record.path) if record is not None and lost else self._place(file))

    def _place(self, file: NewFile) -> Path:
        stamp = self.clock().strftime("%Y%m%dT%H%M%SZ")
        return _free_name(self.archive_folder / f"{stamp}_{file.sha256[:8]}_{file.path.name}")

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


def _arrived(folder: Path) -> list[Path]:
    files = [path for path in folder.glob("*") if path.is_file() and not path.name.startswith(".")]
    finished = [path for path in files if path.suffix.lower() not in _UNFINISHED]
    return sorted(finished, key=lambda path: (path.stat().st_mtime, path.name))


def _require_same_columns(before: list[pd.DataFrame], frame: pd.DataFrame, name: str) -> None:
    if not before:
        return
    absent = [str(column) for column in before[0].columns if column not in frame.columns]
    if absent:
        raise InputError(
            f"{name}: lacks {', '.join(map(repr, absent[:5]))}{' …' if len(absent) > 5 else ''}, which the table so "
            "far has; add the columns, or set retraining.policy to replace"
        )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _free_name(path: Path) -> Path:
    """The path itself, or with a number when there is a file of that name: an archive is never overwritten."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _move(source: Path, target: Path) -> None:
    """A rename; over a border of file systems a copy that appears whole, and then the removal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copy2(source, temporary)
        temporary.replace(target)
        source.unlink()
