"""The command line: `python main.py --help`. Imports lazily, so that help answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
DONE, FAILED, USAGE, DRIFT_FOUND = 0, 1, 2, 3


class CommandLine(click.Group):
    """Turns every expected error into one sentence and an exit code; nothing below prints or exits."""

    def invoke(self, context: click.Context) -> Any:
        from config.settings import ConfigurationError
        from pipeline.shutdown import Interrupted

        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Interrupted as error:
            _fail(str(error), FAILED)
        except ConfigurationError as error:
            _fail(str(error), USAGE)
        except Exception as error:
            code = _exit_code(error)
            if code is None:
                raise
            _fail(str(error), code)


def _exit_code(error: Exception) -> int | None:
    """The exit code of an expected error, None for a fault of ours, which shows its traceback."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "InputError" in kinds:
        return USAGE
    expected = {"StateLockedError", "RegistryError", "StoreError", "TrainingError", "BundleError", "PlanError"}
    if kinds & (expected | {"DeploymentError", "ServiceError"}):
        return FAILED
    if isinstance(error, OSError):
        return FAILED
    return None


def _fail(message: str, code: int) -> None:
    if "--json" in sys.argv:
        _print_json({"status": "failed", "error": message})
    click.echo(f"error: {message}", err=True)
    raise click.exceptions.Exit(code)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


@click.group(cls=CommandLine, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(dir_okay=False), help="The configuration file (or MLOPS_CONFIG).")
@click.version_option(package_name=None, version="0.1.0", prog_name="mlops")
@click.pass_context
def cli(context: click.Context, config: str | None) -> None:
    """Keeps a tabular machine-learning model right in production.

    Without a command: a first run if nothing is registered and there is data, then the scheduler, until a signal.
    """
    if config:
        os.environ["MLOPS_CONFIG"] = str(Path(config).resolve())
    if context.invoked_subcommand is None:
        from pipeline.scheduler import run_scheduler

        _prepare_process("scheduler", level=None)
        run_scheduler()


@cli.command()
def start() -> None:
    """Everything for one machine: server, scheduler and MLflow UI; Ctrl-C ends all."""
    from commands.local_services import run_all

    _prepare_process()
    raise click.exceptions.Exit(run_all())


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
    _report(
        as_json,
        {"status": "written", "path": str(path)},
        f"{path} is the configuration for this table; next: python main.py run",
    )


@cli.command()
@click.option("--data", help="Train on this table instead of the configured one.")
@click.option("--target", help="The column to predict, instead of the configured one.")
@JSON_OPTION
def run(data: str | None, target: str | None, as_json: bool) -> None:
    """One full pipeline run now: ingest, check, train, compare, register, and promote if it is better."""
    from commands.console import print_run, run_progress
    from pipeline.orchestrator import run_now

    _prepare_process()
    with run_progress(quiet=as_json) as progress:
        outcome = run_now(_from_caller(data) if data else None, target, progress=progress)
    _report_with(as_json, outcome, print_run)


@cli.command()
@JSON_OPTION
def retrain(as_json: bool) -> None:
    """Look for new data and retrain by the policy."""
    from commands.console import print_retraining, run_progress
    from pipeline.retraining import retrain_now

    _prepare_process()
    with run_progress(quiet=as_json) as progress:
        outcome = retrain_now(progress=progress)
    _report_with(as_json, outcome, print_retraining)


@cli.command()
@JSON_OPTION
def monitor(as_json: bool) -> None:
    """One monitoring cycle now."""
    from commands.console import print_cycle
    from pipeline.monitoring_jobs import monitor_now

    _prepare_process()
    _report_with(as_json, monitor_now(), print_cycle)


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
    _report_with(as_json, report, print_drift)
    if fail_on_drift and report.overall_drift:
        raise click.exceptions.Exit(DRIFT_FOUND)


@cli.group()
def models() -> None:
    """The registered versions: list, show, compare, promote, roll back, history."""


@models.command("list")
@JSON_OPTION
def models_list(as_json: bool) -> None:
    """All versions, newest first."""
    from commands.console import print_versions
    from commands.model_versions import list_versions

    _prepare_process()
    _report_with(as_json, list_versions(), print_versions)


@models.command("show")
@click.argument("version")
@JSON_OPTION
def models_show(version: str, as_json: bool) -> None:
    """One version: what it is, how it scored, what became of it."""
    from commands.console import print_version
    from commands.model_versions import show_version

    _prepare_process()
    _report_with(as_json, show_version(version), print_version)


@models.command("compare")
@click.argument("first")
@click.argument("second")
@JSON_OPTION
def models_compare(first: str, second: str, as_json: bool) -> None:
    """Two versions side by side."""
    from commands.console import print_comparison
    from commands.model_versions import compare_versions

    _prepare_process()
    _report_with(as_json, compare_versions(first, second), print_comparison)


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
    _prepare_process()
    _report_with(as_json, promote_version(version, why, force), print_promotion)


@models.command("rollback")
@click.option("--why", default="", help="The reason, for the history.")
@JSON_OPTION
def models_rollback(why: str, as_json: bool) -> None:
    """Put the version that served before back in service."""
    from commands.console import print_promotion
    from commands.model_versions import rollback_version

    _prepare_process()
    _report_with(as_json, rollback_version(why), print_promotion)


@models.command("history")
@JSON_OPTION
def models_history(as_json: bool) -> None:
    """What was promoted when, by whom and why; newest first."""
    from commands.console import print_history
    from commands.model_versions import promotion_history

    _prepare_process()
    _report_with(as_json, promotion_history(), print_history)


@cli.command()
def serve() -> None:
    """The server alone (gunicorn with config/gunicorn.conf.py)."""
    from commands.local_services import exec_server

    exec_server()


@cli.command()
@click.option("--watch", is_flag=True, help="Go on until a signal, looking every deployment.sync_interval seconds.")
@JSON_OPTION
def sync(watch: bool, as_json: bool) -> None:
    """Bring this host's serving plan and bundles up to the registry."""
    from commands.console import print_sync
    from commands.model_versions import sync_now, watch_registry

    _prepare_process()
    if watch:
        watch_registry()
    else:
        _report_with(as_json, sync_now(), print_sync)


@cli.command()
@JSON_OPTION
def status(as_json: bool) -> None:
    """What is in service, last and next jobs, open alerts."""
    from commands.console import print_status
    from commands.status import current_status

    _report_with(as_json, current_status(), print_status)


@cli.command()
@JSON_OPTION
def doctor(as_json: bool) -> None:
    """Check the installation, the paths and the stores, and say what to do."""
    from commands.console import print_diagnosis
    from commands.doctor import diagnose

    findings = diagnose()
    _report_with(as_json, findings, print_diagnosis)
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(FAILED)


def _prepare_process(name: str = "main", level: str | None = "WARNING") -> None:
    """Signals and logging, for commands that work: SIGTERM ends them like Ctrl-C."""
    from config.logs import configure_logging
    from config.settings import load_settings
    from pipeline.shutdown import end_on_signals

    configure_logging(level or load_settings().logging.level, name)
    end_on_signals()


def _from_caller(address: str) -> str:
    """A path on the command line is relative to the caller; URLs and fsspec addresses stay as they are."""
    return address if "://" in address else str(Path(address).expanduser().resolve())


def _report(as_json: bool, value: Any, text: str) -> None:
    _report_with(as_json, value, lambda _: click.echo(text))


def _report_with(as_json: bool, value: Any, show: Callable[[Any], None]) -> None:
    if as_json:
        _print_json(value)
    else:
        show(value)


if __name__ == "__main__":
    cli()
