"""Files that arrive for retraining: which there are, what is in them, and how they are put away.

A rename never overwrites, and a file is whole wherever it stands.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")


@dataclass(frozen=True)
class NewFile:
    path: Path
    sha256: str
    #: Size and modification time when its content was taken.
    stamp: tuple[int, int]

    @property
    def unchanged(self) -> bool:
        return self.path.exists() and stamp_of(self.path) == self.stamp


def arrived(folder: Path) -> list[Path]:
    files = [path for path in folder.glob("*") if path.is_file() and not path.name.startswith(".")]
    finished = [path for path in files if path.suffix.lower() not in _UNFINISHED]
    return sorted(finished, key=lambda path: (path.stat().st_mtime, path.name))


def stamp_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def free_name(path: Path) -> Path:
    """The path itself, or with a number when there is a file of that name: an archive is never overwritten."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def move(source: Path, target: Path) -> None:
    """A rename; over a border of file systems a copy that appears whole, and then the removal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copy2(source, temporary)
        temporary.replace(target)
        source.unlink()
