"""Who types the command."""

from __future__ import annotations

import getpass


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return "unknown"
