"""Retraining on new data: files that appear in `data.incoming` join what was used before, as the policy says.

A file is archived under a name of its own after the run that used it has succeeded; one that fails leaves it in place.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from config.home import under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from monitoring.data_files import DataFiles
from monitoring.store import Store
from pipeline.errors import InputError
from pipeline.orchestrator import PipelineRun, RunOutcome
from pipeline.progress import Progress, Silent

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
        self._rows: dict[Path, int] = {}

    def new_files(self) -> list[NewFile]:
        """What has arrived and was never used, oldest first. A file that was used already goes to the archive."""
        files = [NewFile(path, _sha256(path)) for path in _arrived(self.incoming)]
        new: list[NewFile] = []
        for file in files:
            record = self.used.with_content(file.sha256)
            if record is None:
                new.append(file)
            else:
                _move(file.path, _free_name(Path(record.path)))
        return new

    def table(self, new: list[NewFile]) -> Table:
        """The training table by the policy: append (all there ever was), window (the last rows), or replace."""
        import pandas as pd

        from pipeline.table_reading import Table

        policy = self.settings.retraining.policy
        frames = [] if policy == "replace" and new else [self._read(None)]
        if policy != "replace":
            frames += [self._read(record.path) for record in self.used.all()]
        for file in new:
            frame = self._read(str(file.path))
            _require_same_columns(frames, frame, file.path.name)
            self._rows[file.path] = len(frame)
            frames.append(frame)
        whole = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
        names = ", ".join(file.path.name for file in new) or self.settings.data.source
        source = f"{names} (policy {policy}, {len(frames)} tables)" if len(frames) > 1 else names
        return Table(self._window(whole) if policy == "window" else whole, source)

    def archive(self, files: list[NewFile], run_id: str) -> list[Path]:
        """Moves used files to `data/processed/` under names that nothing else has, and records them."""
        archived = []
        for file in files:
            stamp = self.clock().strftime("%Y%m%dT%H%M%SZ")
            place = _free_name(self.archive_folder / f"{stamp}_{file.sha256[:8]}_{file.path.name}")
            # Recorded before it is moved: after a kill between the two, the next look finds it used and moves it.
            self.used.add(str(place), file.sha256, self._rows[file.path], self.clock(), run_id)
            _move(file.path, place)
            archived.append(place)
        return archived

    def _read(self, source: str | None) -> pd.DataFrame:
        from pipeline.data_processing import read_data

        return read_data(self.settings, source).frame

    def _window(self, frame: pd.DataFrame) -> pd.DataFrame:
        time_column = self.settings.data_split.time_column
        if time_column is not None and time_column in frame.columns:
            frame = frame.sort_values(time_column, kind="stable")
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
