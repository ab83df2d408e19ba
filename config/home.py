"""Where state lives: every relative path of the product is under the state root."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def state_home() -> Path:
    """The state root: `MLOPS_HOME`, or the project's root when that is unset."""
    configured = os.environ.get("MLOPS_HOME", "").strip()
    return Path(configured).expanduser().resolve() if configured else PROJECT_ROOT


def under_home(path: str | Path) -> Path:
    """A configured path: absolute ones stay, relative ones are under the state root."""
    return state_home() / Path(path).expanduser()


def sqlite_url_under_home(url: str) -> str:
    """Anchors the file of a relative `sqlite:///` URL at the state root; other URLs are returned as they are."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url.startswith(prefix + "/") or url == prefix + ":memory:":
        return url
    return prefix + str(under_home(url.removeprefix(prefix)))


def is_absent_sqlite(address: str) -> bool:
    """Whether this is the address of an SQLite file that nobody has made yet."""
    prefix = "sqlite:///"
    return address.startswith(prefix) and not Path(address.removeprefix(prefix).partition("?")[0]).exists()
