"""The command line of the server's keys."""

from __future__ import annotations

import os
from typing import Any

import click

from commands.shell import JSON_OPTION, report

#: As in `api.keys`, which is not imported for the sake of `--help` alone.
SCOPE = click.Choice(["predict", "feedback", "read", "admin"])
SCOPES_OPTION = click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=SCOPE,
    help="What the key may do; may be given several times; predict when left out. admin may do everything.",
)


@click.group()
def keys() -> None:
    """The keys of the server: create, set, list, revoke; in force within a second."""


@keys.command("create")
@click.argument("name")
@SCOPES_OPTION
@JSON_OPTION
def keys_create(name: str, scopes: tuple[Any, ...], as_json: bool) -> None:
    """Make a key and show it, this once."""
    from commands.keys import create, print_created

    report(as_json, create(name, scopes), print_created)


@keys.command("set")
@click.argument("name")
@click.option("--from-env", "variable", required=True, help="The environment variable that holds the key.")
@SCOPES_OPTION
@JSON_OPTION
def keys_set(name: str, variable: str, scopes: tuple[Any, ...], as_json: bool) -> None:
    """Put a key that was made elsewhere in force under this name, in the place of the one it had; for deployments."""
    from commands.keys import print_set, set_from

    report(as_json, set_from(os.environ, variable, name, scopes), print_set)


@keys.command("list")
@JSON_OPTION
def keys_list(as_json: bool) -> None:
    """Names, scopes and last characters; never a key."""
    from commands.keys import listed, print_listed

    report(as_json, listed(), print_listed)


@keys.command("revoke")
@click.argument("name")
@JSON_OPTION
def keys_revoke(name: str, as_json: bool) -> None:
    """Refuse a key from now on."""
    from commands.keys import print_revoked, revoke

    report(as_json, revoke(name), print_revoked)
