"""Migrations of the store: `versions/` holds a numbered file a revision; alembic is imported only when one is due."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest revision in `versions/`, known without importing alembic (a test compares).
HEAD = "0006"


def is_known(revision: str) -> bool:
    """Whether this release has that revision; one that it lacks was made by a newer release."""
    return any((Path(__file__).parent / "versions").glob(f"{revision}_*.py"))


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Runs in the caller's transaction."""
    from alembic import command

    command.upgrade(alembic_configuration(connection), revision)


def alembic_configuration(connection: Connection) -> Config:
    """For a command that runs in the transaction of this connection."""
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    return configuration
