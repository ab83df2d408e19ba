"""The command line of incidents, alerts and monitors."""

from __future__ import annotations

import click

from commands.shell import FAILED, JSON_OPTION, prepare_process, report

KIND = click.argument("kind")
VERSION_OPTION = click.option("--version", help="Of this model version alone; of any when left out.")


@click.group()
def incidents() -> None:
    """What is wrong and what was: list, show, acknowledge, resolve."""


@incidents.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are resolved, newest first.")
@JSON_OPTION
def incidents_list(everything: bool, as_json: bool) -> None:
    """Incidents that are open or acknowledged."""
    from commands.incidents import list_incidents, print_incidents

    report(as_json, list_incidents(everything), print_incidents)


@incidents.command("show")
@click.argument("incident_id", metavar="ID", type=int)
@JSON_OPTION
def incidents_show(incident_id: int, as_json: bool) -> None:
    """One incident: cause, evidence, history, and what became of its alerts."""
    from commands.incidents import print_detail, show_incident

    report(as_json, show_incident(incident_id), print_detail)


@incidents.command("acknowledge")
@click.argument("incident_id", metavar="ID", type=int)
@click.option("--who", help="Who works on it; the user of this process when left out.")
@click.option("--why", help="What is known or done, for the history.")
@JSON_OPTION
def incidents_acknowledge(incident_id: int, who: str | None, why: str | None, as_json: bool) -> None:
    """Say that somebody works on it: it is not told again, unless it grows worse."""
    from commands.incidents import acknowledge_incident, print_changed

    prepare_process()
    report(as_json, acknowledge_incident(incident_id, who, why), print_changed)


@incidents.command("resolve")
@click.argument("incident_id", metavar="ID", type=int)
@click.option("--who", help="Who says so; the user of this process when left out.")
@click.option("--why", help="What mended it, for the history.")
@JSON_OPTION
def incidents_resolve(incident_id: int, who: str | None, why: str | None, as_json: bool) -> None:
    """Say that it is over; a check that still finds it opens it again."""
    from commands.incidents import print_changed, resolve_incident

    prepare_process()
    report(as_json, resolve_incident(incident_id, who, why), print_changed)


@click.group()
def alerts() -> None:
    """The channels of `alerts.channels`: test them, send what waits."""


@alerts.command("test")
@click.option("--channel", help="Only this channel.")
@JSON_OPTION
def alerts_test(channel: str | None, as_json: bool) -> None:
    """Send a test message to each channel and say what happened; exits 1 when one did not take it."""
    from commands.alerts import print_trials, try_channels

    prepare_process()
    trials = try_channels(channel)
    report(as_json, trials, print_trials)
    if any(trial.error for trial in trials):
        raise click.exceptions.Exit(FAILED)


@alerts.command("send")
@JSON_OPTION
def alerts_send(as_json: bool) -> None:
    """Send what is due now, as the scheduler does every few seconds."""
    from commands.alerts import print_sent, send_due

    prepare_process()
    report(as_json, send_due(), print_sent)


@click.group()
def monitors() -> None:
    """What is watched, how closely, how often, and who is told: list, set, pause, resume, reset."""


@monitors.command("list")
@JSON_OPTION
def monitors_list(as_json: bool) -> None:
    """The monitors in force: as configured, but for what was set."""
    from commands.monitors import list_monitors, print_monitors

    report(as_json, list_monitors(), print_monitors)


@monitors.command("set")
@KIND
@VERSION_OPTION
@click.option("--threshold", "thresholds", multiple=True, metavar="NAME=VALUE", help="May be given several times.")
@click.option("--frequency", type=float, help="Hours between two looks.")
@click.option("--channels", help="Names of the channels that are told, with commas between; all tells all.")
@JSON_OPTION
def monitors_set(
    kind: str,
    version: str | None,
    thresholds: tuple[str, ...],
    frequency: float | None,
    channels: str | None,
    as_json: bool,
) -> None:
    """Change a monitor; what is not given stays as it is."""
    from commands.monitors import print_monitor, set_monitor

    prepare_process()
    report(as_json, set_monitor(kind, version, thresholds, frequency, channels), print_monitor)


@monitors.command("pause")
@KIND
@VERSION_OPTION
@JSON_OPTION
def monitors_pause(kind: str, version: str | None, as_json: bool) -> None:
    """Stop looking, and tell nobody."""
    from commands.monitors import print_monitor, switch_monitor

    prepare_process()
    report(as_json, switch_monitor(kind, version, "paused"), print_monitor)


@monitors.command("resume")
@KIND
@VERSION_OPTION
@JSON_OPTION
def monitors_resume(kind: str, version: str | None, as_json: bool) -> None:
    """Look again."""
    from commands.monitors import print_monitor, switch_monitor

    prepare_process()
    report(as_json, switch_monitor(kind, version, "active"), print_monitor)


@monitors.command("reset")
@KIND
@VERSION_OPTION
@JSON_OPTION
def monitors_reset(kind: str, version: str | None, as_json: bool) -> None:
    """As configured again."""
    from commands.monitors import print_monitor, reset_monitor

    prepare_process()
    report(as_json, reset_monitor(kind, version), print_monitor)
