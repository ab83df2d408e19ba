"""What commands share: preparing the process, and printing a result for people or as one JSON document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

#: The exit code when a command could not do what it is for, or found something wrong.
FAILED = 1
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def prepare_process(name: str = "main", level: str | None = "WARNING", grace: float | None = None) -> None:
    """Signals and logging, for commands that work: SIGTERM ends them like Ctrl-C, after `grace` seconds by force."""
    from config.logs import configure_logging
    from config.settings import load_settings
    from pipeline.shutdown import GRACE_SECONDS, end_on_signals

    configure_logging(level or load_settings().logging.level, name)
    end_on_signals(grace or GRACE_SECONDS)


def moment_option(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """Callback of an option that takes a time: ISO 8601, in UTC without a zone; a date is its first moment."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no date or time of ISO 8601, such as 2026-11-24 or 2026-11-24T12:00Z"
        ) from None


def report(as_json: bool, value: Any, show: Callable[[Any], None]) -> None:
    if as_json:
        print_json(value)
    else:
        show(value)


def print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
