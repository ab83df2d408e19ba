"""The command line of the registered versions."""

from __future__ import annotations

from datetime import datetime

import click

from commands.shell import JSON_OPTION, moment_option, prepare_process, report


@click.group()
def models() -> None:
    """The registered versions: list, show, compare, promote, roll back, history."""


@models.command("list")
@JSON_OPTION
def models_list(as_json: bool) -> None:
    """All versions, newest first."""
    from commands.console import print_versions
    from commands.model_versions import list_versions

    prepare_process()
    report(as_json, list_versions(), print_versions)


@models.command("show")
@click.argument("version")
@JSON_OPTION
def models_show(version: str, as_json: bool) -> None:
    """One version: what it is, how it scored, what became of it."""
    from commands.console import print_version
    from commands.model_versions import show_version

    prepare_process()
    report(as_json, show_version(version), print_version)


@models.command("compare")
@click.argument("first")
@click.argument("second")
@JSON_OPTION
def models_compare(first: str, second: str, as_json: bool) -> None:
    """Two versions side by side."""
    from commands.console import print_comparison
    from commands.model_versions import compare_versions

    prepare_process()
    report(as_json, compare_versions(first, second), print_comparison)


@models.command("promote")
@click.argument("version")
@click.option("--why", default="", help="The reason, for the history.")
@click.option("--force", is_flag=True, help="Also when it is incompatible or not comparable; needs --why.")
@JSON_OPTION
def models_promote(version: str, why: str, force: bool, as_json: bool) -> None:
    """Put a version in service."""
    from commands.console import print_promotion
    from commands.model_versions import promote_version

    if force and not why.strip():
        raise click.UsageError("--force needs --why: the history records the reason")
    prepare_process()
    report(as_json, promote_version(version, why, force), print_promotion)


@models.command("rollback")
@click.option("--why", default="", help="The reason, for the history.")
@JSON_OPTION
def models_rollback(why: str, as_json: bool) -> None:
    """Put the version that served before back in service."""
    from commands.console import print_promotion
    from commands.model_versions import rollback_version

    prepare_process()
    report(as_json, rollback_version(why), print_promotion)


@models.command("history")
@click.option(
    "--at",
    metavar="TIME",
    callback=moment_option,
    help="Which version served then instead: 2026-11-24T12:00Z, or a date; UTC without a zone.",
)
@JSON_OPTION
def models_history(at: datetime | None, as_json: bool) -> None:
    """What was promoted when, by whom and why, newest first; or which version served at a time."""
    from commands.console import print_history, print_served_at
    from commands.model_versions import promotion_history, served_at

    prepare_process()
    if at is not None:
        report(as_json, served_at(at), print_served_at)
    else:
        report(as_json, promotion_history(), print_history)
