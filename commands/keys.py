"""`keys`: creates, lists and revokes the keys of this state root's server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from api.keys import SCOPES, Key, KeysError, NewKey, Scope, create_key, keys_path, put_key, read_keys, revoke_key
from commands.tables import moment, say, show_table


class ListedKey(Struct, frozen=True, kw_only=True):
    """A key as people tell it from others; its digest is nobody's business."""

    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    last_characters: str


class Revoked(Struct, frozen=True, kw_only=True):
    status: str
    name: str


class KeySet(Struct, frozen=True, kw_only=True):
    status: Literal["changed", "unchanged"]
    name: str


def create(name: str, scopes: Sequence[Scope]) -> NewKey:
    return create_key(keys_path(), name, scopes or SCOPES[:1], datetime.now(UTC))


def set_from(environment: Mapping[str, str], variable: str, name: str, scopes: Sequence[Scope]) -> KeySet:
    """Takes the key from a variable: on a command line the whole machine would see it. Raises `KeysError`."""
    text = environment.get(variable, "")
    if not text:
        raise KeysError(f"the environment variable {variable} is empty or not set; it holds the key")
    changed = put_key(keys_path(), name, text, scopes or SCOPES[:1], datetime.now(UTC))
    return KeySet(status="changed" if changed else "unchanged", name=name)


def listed() -> list[ListedKey]:
    return [_listed(key) for key in read_keys(keys_path())]


def revoke(name: str) -> Revoked:
    return Revoked(status="revoked", name=revoke_key(keys_path(), name).name)


def print_created(created: NewKey) -> None:
    say(created.key)
    say(f"the key of {created.name}, for {', '.join(created.scopes)}; it is shown this once, and in force in a second")


def print_set(done: KeySet) -> None:
    say(f"the key of {done.name} is {'in force within a second' if done.status == 'changed' else 'as it was'}")


def print_listed(keys: Sequence[ListedKey]) -> None:
    if not keys:
        say("there are no keys: the server answers to this machine alone; next: python main.py keys create NAME")
        return
    rows = [(key.name, f"…{key.last_characters}", moment(key.created_at), ", ".join(key.scopes)) for key in keys]
    show_table(rows, ("name", "ends in", "created", "scopes"))


def print_revoked(revoked: Revoked) -> None:
    say(f"the key of {revoked.name} is refused within a second")


def _listed(key: Key) -> ListedKey:
    return ListedKey(name=key.name, scopes=key.scopes, created_at=key.created_at, last_characters=key.last_characters)
