"""Whole numbers that all workers of one server add up: a block of shared memory for each worker, read by any of them.

A worker owns its block by a file lock, which the kernel drops with the process. The next worker takes the block of a
dead one over, values and all: so no count is lost by `kill -9`, no sum ever goes backwards, and no file is left to be
cleaned. The blocks lie in memory (`/dev/shm`) where there is such a folder, since the kernel may hold up whoever writes
to a mapped file on a disk; without any folder to write to, a worker counts for itself alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from config.home import state_home, under_home

#: A series: the metric's name, then its labels' values.
Series = tuple[str, ...]

MAGIC = 0x6D6C6F7073000001
_KEEPER = "held"
_HEADER = struct.Struct("<qqqq")  # magic, process, series, bytes of names
_VALUES = 64
SLOTS = 4096
_NAMES = _VALUES + 8 * SLOTS
SIZE = 256 * 1024
MOST_WORKERS = 512
#: What is counted when a block has no room for another series.
OVERFLOW: Series = ("mlops_series_overflow_total",)


class SharedCounters:
    """One worker's block. Private memory until `attach`; safe to share between threads.

    A slot is the position of a series in the block. It changes with `attach`, so `attach` comes before `slot`, or
    whoever keeps slots looks them up again when `epoch` has grown.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.epoch = 0
        self._process = 0  # the one that `attach` was for
        self._directory: Path | None = None
        self._descriptor = -1
        self._use(memoryview(bytearray(SIZE)))

    def attach(self, directory: Path | None) -> None:
        """Moves to a block of shared memory, once in each process, after the fork. What was counted before is left."""
        with self.lock:
            self._process = os.getpid()
            found = _claim(directory) if directory is not None else None
            if found is None:
                return
            self._directory = directory
            self._descriptor, block = found
            self._use(memoryview(block))
            self.epoch += 1

    def release(self) -> None:
        """Gives the block up to the next worker; what is counted from now on may be lost."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing would not do: the memory keeps the file open
            os.close(self._descriptor)
            self._descriptor, self._directory = -1, None

    @property
    def directory(self) -> Path | None:
        """Where the blocks of all workers lie; None for one that counts for itself alone."""
        return self._directory

    @property
    def is_attached(self) -> bool:
        """Whether `attach` was called in this process."""
        return self._process == os.getpid()

    def slot(self, *series: str) -> int:
        """The position of a series, made at its first use."""
        slot = self._slots.get(series)
        if slot is None:
            with self.lock:
                slot = self._slots.get(series)
                if slot is None:
                    slot = self._add(series)
        return slot

    def add(self, slot: int, count: int = 1) -> None:
        with self.lock:
            self.values[slot] += count

    def set(self, slot: int, value: int) -> None:
        with self.lock:
            self.values[slot] = value

    def zero(self, names: frozenset[str]) -> None:
        """Sets all series of these metrics to 0: what a dead worker has left in its gauges."""
        with self.lock:
            for series, slot in self._slots.items():
                if series[0] in names:
                    self.values[slot] = 0

    def blocks(self) -> Iterator[tuple[bool, dict[Series, int]]]:
        """Whether its worker lives, and the values, for each block: this worker's first."""
        with self.lock:
            yield True, {series: self.values[slot] for series, slot in self._slots.items()}
        if self._directory is None:
            return
        own = os.fstat(self._descriptor).st_ino
        for path in sorted(self._directory.glob("*.counters")):
            try:
                if path.stat().st_ino != own:
                    yield _read(path.read_bytes())
            except (OSError, ValueError, struct.error):  # gone, or half made
                continue

    def _use(self, memory: memoryview) -> None:
        self._memory = memory
        self.values = memory[_VALUES:_NAMES].cast("q")
        magic, _, count, used = _HEADER.unpack_from(memory)
        if magic != MAGIC:
            count = used = 0
            memory[_VALUES:_NAMES] = bytes(_NAMES - _VALUES)
        self._slots = _names(memory[_NAMES : _NAMES + used], count)
        self._used = used
        self._note()
        if OVERFLOW not in self._slots:
            self._add(OVERFLOW)

    def _add(self, series: Series) -> int:
        line = msgspec.json.encode(series) + b"\n"
        start = _NAMES + self._used
        if len(self._slots) >= SLOTS or start + len(line) > SIZE:
            return self._slots[OVERFLOW]
        self._memory[start : start + len(line)] = line
        self._used += len(line)
        slot = self._slots[series] = len(self._slots)
        self._note()  # last: a reader sees names that are whole
        return slot

    def _note(self) -> None:
        _HEADER.pack_into(self._memory, 0, MAGIC, os.getpid(), len(self._slots), self._used)


def shared_directory() -> Path | None:
    """The folder for blocks of this state root, made if need be; None when there is none that is ours alone."""
    digest = hashlib.sha256(str(state_home()).encode()).hexdigest()[:16]
    for path in (Path("/dev/shm") / f"mlops-{os.getuid()}-{digest}", under_home("run") / "counters"):  # noqa: S108
        try:
            path.mkdir(mode=0o700, parents=path.parent.name == "run", exist_ok=True)
            found = path.lstat()
        except OSError:
            continue
        # Anybody may make a folder in /dev/shm: one of another user's, or a link, is not trusted.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return path
    return None


def hold(directory: Path | None) -> int | None:
    """Keeps the blocks while no worker lives, until what this returns is closed: for the parent of the workers."""
    if directory is None:
        return None
    try:
        return _lock(directory / _KEEPER)
    except OSError:
        return None


def remove_idle(directory: Path | None) -> None:
    """Deletes the blocks that no process owns, unless they are held, and the folder when it is empty."""
    if directory is None or not directory.is_dir():
        return
    try:
        keeper = _lock(directory / _KEEPER)
        if keeper is None:
            return
        for path in (*directory.glob("*.counters"), directory / "rates", directory / "usage"):
            descriptor = _lock(path)
            if descriptor is not None:
                path.unlink()
                os.close(descriptor)
        if not any(directory.glob("*.counters")):
            (directory / _KEEPER).unlink()
            directory.rmdir()
        os.close(keeper)
    except OSError:  # another server of this state root still counts, or has just begun to
        return


def _claim(directory: Path) -> tuple[int, mmap.mmap] | None:
    """The first block that nobody owns; None when no memory is to be had."""
    for number in range(MOST_WORKERS):
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = _lock(directory / f"{number}.counters")
            if descriptor is None:
                continue
            _allocate(descriptor)
            return descriptor, mmap.mmap(descriptor, SIZE)
        except OSError:
            return None
    return None


def _allocate(descriptor: int) -> None:
    """Takes the space at once: on a full disk the first write to a page without it would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SIZE)
    else:
        os.pwrite(descriptor, b"\0" * (SIZE - os.fstat(descriptor).st_size), os.fstat(descriptor).st_size)


def _lock(path: Path) -> int | None:
    """Opens and locks a block; None when it has an owner."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:  # else it was deleted between opening and locking
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _read(block: bytes) -> tuple[bool, dict[Series, int]]:
    magic, process, count, used = _HEADER.unpack_from(block)
    if magic != MAGIC:
        return False, {}
    values = memoryview(block)[_VALUES:_NAMES].cast("q")
    slots = _names(memoryview(block)[_NAMES : _NAMES + used], count)
    return _lives(process), {series: values[slot] for series, slot in slots.items()}


def _names(lines: memoryview, count: int) -> dict[Series, int]:
    decoder = msgspec.json.Decoder(tuple[str, ...])
    return {decoder.decode(line): slot for slot, line in enumerate(bytes(lines).split(b"\n")[:count])}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
