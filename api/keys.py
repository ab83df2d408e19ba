"""The keys of the server: who may ask for what. `keys.json` under the state root holds their SHA-256, never a key.

    KeysError               keys.json cannot be read, or a name is taken, unknown or unfit

One plain file, so that keys work with every store down. It is replaced atomically, and every worker follows it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from config.errors import ProductError
from config.home import state_home

Scope = Literal["predict", "feedback", "read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEYS = "keys.json"
FORMAT = 1
PREFIX = "mlops_"
#: Longer texts are no keys, and are not hashed.
LONGEST_KEY = 256
#: One that somebody brings is no password: 32 characters of base64 are 192 bits.
SHORTEST_KEY = 32
#: Seconds between two looks at the file: a revoked key is refused within a second.
LOOK_SECONDS = 0.5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIT = re.compile(rf"[!-~]{{{SHORTEST_KEY},{LONGEST_KEY}}}")


class KeysError(ProductError):
    """The keys cannot be read or changed as asked."""


class Key(Struct, frozen=True, kw_only=True):
    """What is kept of a key. `last_characters` let people tell two of them apart."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    last_characters: str

    def allows(self, scope: Scope) -> bool:
        """`admin` may do everything."""
        return scope in self.scopes or "admin" in self.scopes


class NewKey(Struct, frozen=True, kw_only=True):
    """A key on the one occasion that it is shown."""

    name: str
    key: str
    scopes: tuple[Scope, ...]
    created_at: datetime


class KeyFile(Struct, frozen=True, kw_only=True):
    format_version: int = FORMAT
    keys: tuple[Key, ...] = ()


def keys_path() -> Path:
    return state_home() / KEYS


def has_keys() -> bool:
    """Whether any key is set; a file that cannot be read counts as one, so that nothing opens by a mistake."""
    try:
        return bool(read_keys(keys_path()))
    except KeysError:
        return True


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys, none when there is no file; raises `KeysError` for a file that is unreadable or of a newer format."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeysError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise KeysError(f"{path}: is no file of keys; delete it, and create the keys anew") from None
    if found.format_version != FORMAT:
        raise KeysError(f"{path}: is of format {found.format_version}, this version reads {FORMAT}; update the product")
    return found.keys


def create_key(path: Path, name: str, scopes: Sequence[Scope], now: datetime) -> NewKey:
    """Adds a key and returns it; nothing can show it again. Raises `KeysError`."""
    _require_name(name)
    with _locked(path) as keys:
        if any(key.name == name for key in keys):
            raise KeysError(f"there is a key named {name}; revoke it first, or take another name")
        text = PREFIX + secrets.token_urlsafe(32)
        kept = _kept(name, text, scopes, now)
        _write(path, (*keys, kept))
    return NewKey(name=name, key=text, scopes=kept.scopes, created_at=now)


def put_key(path: Path, name: str, text: str, scopes: Sequence[Scope], now: datetime) -> bool:
    """Gives the name this key, in the place of the one it had; whether anything changed. Raises `KeysError`."""
    _require_name(name)
    if not _FIT.fullmatch(text):
        raise KeysError(
            f"the key for {name} is unfit: {SHORTEST_KEY} to {LONGEST_KEY} visible ASCII characters, no spaces"
        )
    kept = _kept(name, text, scopes, now)
    with _locked(path) as keys:
        before = next((key for key in keys if key.name == name), None)
        if before is not None and (before.sha256, before.scopes) == (kept.sha256, kept.scopes):
            return False
        others = tuple(key for key in keys if key is not before)
        if (twin := next((key for key in others if key.sha256 == kept.sha256), None)) is not None:
            raise KeysError(f"this key is the one of {twin.name} already; take another for {name}")
        _write(path, (*others, kept))
    return True


def revoke_key(path: Path, name: str) -> Key:
    """Removes a key; raises `KeysError` when there is none of this name."""
    with _locked(path) as keys:
        found = next((key for key in keys if key.name == name), None)
        if found is None:
            known = ", ".join(key.name for key in keys) or "there are none"
            raise KeysError(f"there is no key named {name}; the keys: {known}")
        _write(path, tuple(key for key in keys if key is not found))
    return found


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """The keys in force in this process: looks at the file at most every `LOOK_SECONDS`.

    Once keys have been seen, a file that vanishes or cannot be read takes nothing back: those keys stay, since to
    answer anybody is worse than not to know of a revocation. Revoking the last key leaves a file without keys.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: tuple[Key, ...] = ()
        self._signature: tuple[int, ...] | None = None
        self._look_at = 0.0
        #: Why the newest file is not in force, or None.
        self.problem: str | None = None

    def keys(self) -> tuple[Key, ...]:
        if self._monotonic() >= self._look_at:
            with self._lock:
                self._look()
        return self._keys

    def find(self, text: str) -> Key | None:
        """The key that this text is. Compares with all of them, in the same time whichever matches."""
        digest, found = digest_of(text), None
        for key in self.keys():
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found

    def _look(self) -> None:
        self._look_at = self._monotonic() + LOOK_SECONDS
        signature = _signature(self._path)
        if signature == self._signature and self.problem is None:
            return
        if signature is None:
            self.problem = f"{KEYS} has vanished; the keys that were read stay in force" if self._keys else None
            return
        try:
            self._keys = read_keys(self._path)
        except KeysError:
            self.problem = f"{KEYS} cannot be read; " + (
                "the keys that were read stay in force" if self._keys else "nobody is answered"
            )
            return
        self._signature, self.problem = signature, None


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is no name for a key: up to 64 letters, digits, dots, dashes and underscores")


def _kept(name: str, text: str, scopes: Sequence[Scope], now: datetime) -> Key:
    ordered = tuple(scope for scope in SCOPES if scope in scopes)
    return Key(name=name, sha256=digest_of(text), scopes=ordered, created_at=now, last_characters=text[-4:])


@contextmanager
def _locked(path: Path) -> Iterator[tuple[Key, ...]]:
    """The keys, while no other command changes them: holds a lock on the folder, which leaves no file behind."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeysError(f"{path.parent}: cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield read_keys(path)
    finally:
        os.close(folder)


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(KeyFile(keys=keys)), indent=2))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
