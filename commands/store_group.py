"""The command line of the store."""

from __future__ import annotations

import click

from commands.shell import JSON_OPTION, prepare_process, report

TARGET_VARIABLE = "MLOPS_STORE_TARGET"


@click.group()
def store() -> None:
    """The store of what happened: copy it to PostgreSQL."""


@store.command("copy")
@click.option(
    "--to",
    "target",
    metavar="URL",
    help=f"postgresql+psycopg://USER@HOST/DATABASE, without a password: that may be in PGPASSWORD or ~/.pgpass. "
    f"When left out, the URL is read from {TARGET_VARIABLE}, where it may hold one.",
)
@JSON_OPTION
def store_copy(target: str | None, as_json: bool) -> None:
    """Copy the SQLite store to an empty PostgreSQL database, and compare the two; changes no configuration."""
    from commands.store_copy import copy_to, print_copy

    prepare_process()
    tell = None if as_json else lambda sentence: click.echo(sentence, err=True)
    report(as_json, copy_to(target, tell), print_copy)
