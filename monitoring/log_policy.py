"""What becomes of each field in the prediction log: kept, hashed with a key of this state root, or dropped.

    PolicyError             a field is to be hashed, and there is no key to do it with

The key is `log_hash.key` under the state root, or `MLOPS_LOG_HASH_KEY`, which several hosts may share so that a value
has one hash on all of them. Without the key a hash tells nothing, also where the possible values are few and known.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from config.home import state_home
from config.settings import ConfigurationError, Settings
from monitoring.first_use import read_or_make

KEY_FILE = "log_hash.key"
KEY_VARIABLE = "MLOPS_LOG_HASH_KEY"
HASH_PREFIX = "hash:"
#: Fewer bytes can be found by trying.
LEAST_KEY_BYTES = 16
_DIGEST_BYTES = 16
Action = Literal["keep", "hash", "drop"]


class PolicyError(ConfigurationError):
    """The configured policy cannot be kept to."""


class FieldPolicy:
    """Applies the policy to rows that are about to be logged. Immutable, and safe to share between threads."""

    def __init__(self, fields: Mapping[str, Action], key: bytes) -> None:
        self._dropped = frozenset(name for name, action in fields.items() if action == "drop")
        self._hashed = frozenset(name for name, action in fields.items() if action == "hash")
        self._key = key

    @classmethod
    def of(cls, settings: Settings) -> FieldPolicy | None:
        """The policy of the settings, None when every field is kept. Raises `PolicyError`."""
        fields = settings.logging.fields
        if all(action == "keep" for action in fields.values()):
            return None
        return cls(fields, hash_key() if "hash" in fields.values() else b"")

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row as it is logged; a hashed null stays null, since a gap tells nothing of a person."""
        return {
            name: self._hash(value) if name in self._hashed and value is not None else value
            for name, value in row.items()
            if name not in self._dropped
        }

    def _hash(self, value: Any) -> str:
        digest = hashlib.blake2b(msgspec.json.encode(value), key=self._key, digest_size=_DIGEST_BYTES)
        return HASH_PREFIX + digest.hexdigest()


def hash_key(path: Path | None = None) -> bytes:
    """The key, made at its first use; raises `PolicyError`."""
    given = os.environ.get(KEY_VARIABLE, "").encode()
    path = path or state_home() / KEY_FILE
    try:
        found = given or read_or_make(path, _new_key, mode=0o600).strip()
    except OSError as error:
        raise PolicyError(
            f"{path}: logging.fields asks for hashes, and the key cannot be used: {error.strerror}"
        ) from None
    if len(found) < LEAST_KEY_BYTES:
        source = KEY_VARIABLE if given else str(path)
        raise PolicyError(f"{source}: the key of hashed fields needs {LEAST_KEY_BYTES} bytes or more")
    return hashlib.sha256(found).digest()


def _new_key() -> str:
    return secrets.token_hex(32)
