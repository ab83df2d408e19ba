"""The command line: `python main.py --help`. Imports lazily, so that help answers at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

from commands.alert_groups import alerts, incidents, monitors
from commands.key_group import keys
from commands.model_group import models
from commands.shell import FAILED, JSON_OPTION
from commands.shell import prepare_process as _prepare_process
from commands.shell import print_json as _print_json
from commands.shell import report as _report
from commands.store_group import store
from config.garbage import forgo_last_collection

DRIFT_FOUND = 3


class CommandLine(click.Group):
    """The one place where an error becomes a sentence and an exit code; nothing below prints errors or exits."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> NoReturn:
        from config.errors import ProductError
        from pipeline.shutdown import Interrupted

        args = sys.argv[1:] if args is None else list(args)
        as_json = "--json" in args
        try:
            code = super().main(args, *more, **options | {"standalone_mode": False})
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code, as_json, show=error.show)
        except click.Abort:
            _fail("interrupted", FAILED, as_json)
        except Interrupted as error:
            _fail(str(error), FAILED, as_json)
        except ProductError as error:
            _fail(str(error), error.exit_code, as_json)
        except OSError as error:
            _fail(_about(error), FAILED, as_json)
        except Exception as error:
            _fail(f"{type(error).__name__}: {error}", FAILED, as_json, show=traceback.print_exc)
        forgo_last_collection()
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int, as_json: bool, show: Callable[[], None] | None = None) -> NoReturn:
    if as_json:
        _print_json({"status": "failed", "error": message})
    if show is not None:
        show()
    else:
        click.echo(f"error: {message}", err=True)
    sys.exit(code)


def _about(error: OSError) -> str:
    """One sentence of what the operating system refused."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; `python main.py doctor` looks at the folders and the disk"


@click.group(cls=CommandLine, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(dir_okay=False), help="The configuration file (or MLOPS_CONFIG).")
@click.version_option(package_name=None, version="0.1.0", prog_name="mlops")
@click.pass_context
def cli(context: click.Context, config: str | None) -> None:
    """Keeps a tabular machine-learning model right in production.

    Without a command: a first run if nothing is registered and there is data, then the scheduler, until a signal.
    """
    if config:
        os.environ["MLOPS_CONFIG"] = config
    for name in ("MLOPS_CONFIG", "MLOPS_HOME"):  # relative to the caller, also for the processes that this one starts
        if os.environ.get(name, "").strip():
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    if context.invoked_subcommand is None:
        from pipeline.scheduler import STOP_SECONDS, run_scheduler

        _prepare_process("scheduler", level=None, grace=STOP_SECONDS)
        run_scheduler()


@cli.command()
def start() -> None:
    """Everything for one machine: server, scheduler and MLflow UI; Ctrl-C ends all."""
    from commands.local_services import STOP_SECONDS, run_all

    _prepare_process(grace=STOP_SECONDS + 1)
    run_all()


@cli.command()
@click.option("--data", required=True, help="A file, an fsspec address, or a database URL.")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--query", help="The SQL query, when --data is a database URL.")
@JSON_OPTION
def init(data: str, target: str, query: str | None, as_json: bool) -> None:
    """Look at a table and write a commented configuration for it; an existing one is never overwritten."""
    from commands.configuration import write_initial_configuration

    _prepare_process()
    path = write_initial_configuration(_from_caller(data), target, query)
    sentence = f"{path} is the configuration for this table; next: python main.py run"
    _report(as_json, {"status": "written", "path": str(path)}, lambda _: click.echo(sentence))


@cli.command("init-env")
@click.option("--rotate", metavar="NAME", help="Another value for one key of the API instead, such as API_KEY.")
@JSON_OPTION
def init_env(rotate: str | None, as_json: bool) -> None:
    """Make docker/.env, with a random value for every secret of the compose file; never over an existing one."""
    from commands import environment_file

    said = environment_file.init_env(rotate)
    _report(
        as_json,
        {"status": "rotated" if rotate else "written", "path": str(environment_file.ENVIRONMENT)},
        lambda _: click.echo(said),
    )


@cli.command()
@click.option("--data", help="Train on this table instead of the configured one.")
@click.option("--target", help="The column to predict, instead of the configured one.")
@JSON_OPTION
def run(data: str | None, target: str | None, as_json: bool) -> None:
    """One full pipeline run now: ingest, check, train, compare, register, and promote if it is better."""
    from commands.console import print_run
    from commands.progress_display import run_progress
    from pipeline.orchestrator import run_now

    _prepare_process()
    with run_progress(quiet=as_json) as progress:
        outcome = run_now(_from_caller(data) if data else None, target, progress=progress)
    _report(as_json, outcome, print_run)


@cli.command()
@JSON_OPTION
def retrain(as_json: bool) -> None:
    """Look for new data and retrain by the policy."""
    from commands.console import print_retraining
    from commands.progress_display import run_progress
    from pipeline.retraining import retrain_now

    _prepare_process()
    with run_progress(quiet=as_json) as progress:
        outcome = retrain_now(progress=progress)
    _report(as_json, outcome, print_retraining)


@cli.command()
@click.option("--self-test", is_flag=True, help="Measure false alarms and detection of the drift check instead.")
@click.option("--rows", type=click.IntRange(1, 100_000_000), help="Self-test: rows a window; else as in the live one.")
@click.option("--windows", type=click.IntRange(1, 100_000), help="Self-test: quiet windows to try; 300 when left out.")
@JSON_OPTION
def monitor(self_test: bool, rows: int | None, windows: int | None, as_json: bool) -> None:
    """One monitoring cycle now; or how often its drift check is right, tried on resampled windows."""
    from commands.console import print_cycle
    from commands.self_test_view import print_self_test
    from pipeline.monitoring_jobs import monitor_now
    from pipeline.self_test_job import self_test_now

    if not self_test and (rows or windows):
        raise click.UsageError("--rows and --windows belong to --self-test")
    _prepare_process()
    tell = None if as_json else _tell
    if self_test:
        _report(as_json, self_test_now(rows, windows, tell), print_self_test)
    else:
        _report(as_json, monitor_now(tell), print_cycle)


@cli.command()
@click.option("--data", required=True, help="The table to compare with what the champion was trained on.")
@click.option("--fail-on-drift", is_flag=True, help="Exit 3 when drift is found.")
@JSON_OPTION
def drift(data: str, fail_on_drift: bool, as_json: bool) -> None:
    """Drift of a file against the champion's reference."""
    from commands.console import print_drift
    from pipeline.drift_check import drift_of_file

    _prepare_process()
    report = drift_of_file(_from_caller(data))
    _report(as_json, report, print_drift)
    if fail_on_drift and report.overall_drift:
        raise click.exceptions.Exit(DRIFT_FOUND)


@cli.command()
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="How far back it looks.")
@click.option("--model", "version", help="A model version; all are reported when left out.")
@JSON_OPTION
def report(days: int, version: str | None, as_json: bool) -> None:
    """Performance and drift of the last days, for people; also left under reports/, with a page and a picture."""
    from commands.console import print_report
    from pipeline.reporting import report_now

    _prepare_process()
    found, written = report_now(days, version, None if as_json else _tell)
    _report(as_json, found, lambda _: print_report(found, written.page, written.undrawn is None))
    if written.undrawn is not None:
        click.echo(f"error: {written.undrawn}; everything else is written", err=True)
        raise click.exceptions.Exit(FAILED)


@cli.command()
def serve() -> None:
    """The server alone (gunicorn with config/gunicorn.conf.py)."""
    from commands.local_services import exec_server

    exec_server()


@cli.command()
@click.option("--watch", is_flag=True, help="Go on until a signal, looking every deployment.sync_interval seconds.")
@JSON_OPTION
def sync(watch: bool, as_json: bool) -> None:
    """Bring this host's serving plan and bundles up to the registry; with --watch its logs into the store, too."""
    from commands.console import print_sync
    from commands.model_versions import sync_now, watch_registry

    _prepare_process()
    if watch:
        watch_registry()
    else:
        _report(as_json, sync_now(), print_sync)


@cli.command()
@JSON_OPTION
def status(as_json: bool) -> None:
    """What is in service, last and next jobs, open alerts."""
    from commands.console import print_status
    from commands.status import current_status

    _report(as_json, current_status(), print_status)


@cli.command()
@JSON_OPTION
def doctor(as_json: bool) -> None:
    """Check the installation, the paths and the stores, and say what to do."""
    from commands.console import print_diagnosis
    from commands.doctor import diagnose

    findings = diagnose()
    _report(as_json, findings, print_diagnosis)
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(FAILED)


for group in (models, incidents, alerts, monitors, store, keys):
    cli.add_command(group)


def _from_caller(address: str) -> str:
    """A path on the command line is relative to the caller, also that of a SQLite file; other addresses stay."""
    sqlite = "sqlite:///"
    prefix = sqlite if address.startswith(sqlite) else ""
    if ("://" in address and not prefix) or address in (sqlite, f"{sqlite}:memory:"):
        return address
    return prefix + str(Path(address.removeprefix(prefix)).expanduser().resolve())


def _tell(text: str) -> None:
    """What goes on while people wait."""
    click.echo(text, err=True)


if __name__ == "__main__":
    cli()
