"""The self-test of the drift check as people see it: a short table, and a sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from commands.tables import say, show_table

if TYPE_CHECKING:
    from monitoring.self_test import DetectionRate, Rate, SelfTest

_SOURCES = {
    "option": "as asked",
    "live window": "as many as the live window holds",
    "default": "the default, for the live window holds too few",
}


def print_self_test(result: SelfTest) -> None:
    click.echo(
        f"version {result.model_version}, {result.features} features; windows of {result.rows:,} rows "
        f"({_SOURCES[result.rows_from]}), {result.windows} of each kind"
    )
    rows = [("no drift: alarms", *_shown(result.false_alarms))]
    if result.prediction_false_alarms is not None:
        rows.append(("no drift in the model's answers: alarms", *_shown(result.prediction_false_alarms)))
    drifts = [*result.drifts.values(), *([result.prediction_shift] if result.prediction_shift else [])]
    rows += [(f"{drift.label}: found", *_shown(drift.found)) for drift in drifts]
    show_table(rows, ("", "share", "95 % interval", "windows"), right=(1, 2))
    for drift in drifts:
        _print_missed(drift)
    if result.windows < result.windows_asked:
        say(f"{result.windows} of {result.windows_asked} windows were tried in the {result.seconds:.0f} s there are.")
    say(result.advice)


def _print_missed(drift: DetectionRate) -> None:
    if drift.missed_in:
        say(f"{drift.label}: missed in {', '.join(drift.missed_in)}")


def _shown(rate: Rate) -> tuple[str, str, str]:
    return f"{rate.share:.1%}", f"{rate.low:.1%} to {rate.high:.1%}", f"{rate.count} of {rate.of}"
