"""Results as people see them: short tables and sentences on stdout, with what to do next where there is something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from commands.tables import figure, moment, say, show_table

if TYPE_CHECKING:
    from pathlib import Path

    from commands.doctor import Finding
    from commands.model_versions import Comparison, ServedAt, SyncOutcome, VersionDetail
    from commands.status import InService, Status
    from models.mlflow_registry import VersionInfo
    from monitoring.cycle import CycleOutcome
    from monitoring.drift_report import DriftReport
    from monitoring.incidents import Incident
    from monitoring.job_records import JobRecord
    from monitoring.log_lag import LogLag
    from monitoring.promotion_history import Promotion
    from monitoring.registry_contact import RegistryContact
    from monitoring.report_data import Report
    from monitoring.run_records import RunRecord
    from pipeline.orchestrator import RunOutcome
    from pipeline.retraining import RetrainingOutcome

#: Metrics that a run shows, in this order.
SHOWN_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "ece",
)


def print_run(outcome: RunOutcome) -> None:
    means = outcome.cross_validation["winner_metrics"]
    click.echo(f"\nversion {outcome.model_version} of {outcome.model_name}: {outcome.cross_validation['winner']}")
    rows = [
        (
            name,
            figure(means.get(name)),
            figure(outcome.metrics[f"train_{name}"]),
            figure(outcome.metrics[f"test_{name}"]),
        )
        for name in SHOWN_METRICS
    ]
    show_table(rows, ("", "cross-validation", "train", "  test"), right=(1, 2))
    for name, reason in outcome.left_aside.items():
        say(f"{name} was left aside: {reason}")
    verdict = "promoted" if outcome.promoted else "not promoted"
    say(f"{verdict}: {outcome.decision['reason']}")
    say(f"{outcome.duration_seconds:.1f} s; quality report in {outcome.quality_report}")


def print_retraining(outcome: RetrainingOutcome) -> None:
    if outcome.run is None:
        say(outcome.why)
        return
    print_run(outcome.run)
    say(f"retrained ({outcome.trigger}): {outcome.why}")
    if outcome.labelled_rows:
        say(f"{outcome.labelled_rows:,} outcomes that came back joined the table")
    if outcome.files:
        say(f"used {', '.join(outcome.files)} ({outcome.policy}); archived in data/processed/")


def print_drift(report: DriftReport) -> None:
    from monitoring.reports import drift_text

    click.echo(drift_text(report))


def print_report(report: Report, page: Path, has_picture: bool = True) -> None:
    from monitoring.performance_text import performance_text
    from pipeline.reporting import latest_drift_text

    page_line = f"{'With pictures' if has_picture else 'As a page'}: {page}"
    click.echo(f"{performance_text(report)}\n{latest_drift_text(report)}\n{page_line}")


def print_cycle(outcome: CycleOutcome) -> None:
    if outcome.drift is None:
        say(outcome.note)
    else:
        print_drift(outcome.drift)
    for remark in outcome.remarks:
        say(f"{remark[:1].upper()}{remark[1:]}.")
    _print_incidents(outcome.incidents)


def print_versions(versions: Sequence[VersionInfo]) -> None:
    if not versions:
        say("no versions yet; next: python main.py run")
        return
    rows = [
        (
            info.version,
            _stage(info),
            info.algorithm or "",
            figure(info.metrics.get("test_f1")),
            figure(info.metrics.get("test_roc_auc")),
            moment(info.created_at),
        )
        for info in versions
    ]
    show_table(rows, ("version", "stage", "algorithm", "test f1", "roc_auc", "made at"), right=(0, 3, 4))


def print_version(detail: VersionDetail) -> None:
    info = detail.version
    click.echo(f"version {info.version}: {info.algorithm or 'not made by this product'}, {_stage(info)}")
    bundle = f"sha256 {info.manifest_sha256}" if info.manifest_sha256 else "none: it cannot be served"
    rows = [
        ("made at", moment(info.created_at)),
        ("run", info.run_id or "–"),
        ("MLflow run", info.mlflow_run_id or "–"),
        ("bundle", bundle),
    ]
    show_table(rows)
    names = sorted({name.partition("_")[2] for name in info.metrics if name.startswith(("train_", "test_"))})
    figures = [[figure(info.metrics.get(f"{side}_{name}")) for side in ("train", "test")] for name in names]
    show_table([(name, *row) for name, row in zip(names, figures, strict=True)], ("", " train", "  test"), right=(1,))
    if detail.promotions:
        click.echo()
        print_history(detail.promotions)


def print_comparison(comparison: Comparison) -> None:
    one, two = comparison.first, comparison.second
    for info in (one, two):
        click.echo(f"version {info.version}: {info.algorithm or 'not made by this product'}, {_stage(info)}")
    rows = [
        (name, figure(before), figure(after), "–" if difference is None else f"{difference:+.4f}")
        for name, (before, after, difference) in comparison.metrics.items()
        if not name.startswith("train_")
    ]
    show_table(rows, ("metric", f"version {one.version}", f"version {two.version}", "difference"), right=(1, 2))
    say("each version's figures are those of its own test part")


def print_promotion(move: Promotion) -> None:
    before = f"version {move.from_version}" if move.from_version else "nothing"
    say(f"version {move.to_version} is in service, where {before} was: {move.why}")


def print_history(moves: Sequence[Promotion]) -> None:
    if not moves:
        say("nothing was promoted yet")
        return
    rows = [
        (
            moment(move.done_at) if move.done_at else move.status,
            move.from_version or "–",
            move.to_version,
            move.kind,
            move.who,
            move.why,
        )
        for move in moves
    ]
    show_table(rows, ("when", "from", "to", "kind", "by", "why"), right=(1, 2))


def print_served_at(found: ServedAt) -> None:
    what = "nothing was in service" if found.model_version is None else f"version {found.model_version} was in service"
    say(f"{what} at {found.at:%Y-%m-%d %H:%M:%S} UTC")


def print_sync(outcome: SyncOutcome) -> None:
    if outcome.plan is None or outcome.plan.champion is None:
        say("the registry has no champion yet; nothing is in service")
        return
    say(f"version {outcome.plan.champion.version} is in service, plan {(outcome.plan_digest or '')[:12]}")


def print_status(status: Status) -> None:
    rows = [
        ("in service", _in_service(status.in_service)),
        ("registry", _registry_line(status.registry)),
        ("scheduler", status.scheduler or "not running; python main.py starts it"),
    ]
    if status.pipeline:
        rows.append(("at work", status.pipeline))
    if status.last_run is not None:
        rows.append(("last run", _run_line(status.last_run)))
    rows += [(f"job {job.name}", _job_line(job)) for job in status.jobs]
    last = moment(status.last_prediction_at) if status.last_prediction_at else "none logged"
    rows.append(("last prediction", last))
    rows.append(("logs", _log_line(status.log)))
    if status.store_problem:
        rows.append(("store", status.store_problem))
    show_table(rows)
    _print_incidents(status.incidents)


def print_diagnosis(findings: Sequence[Finding]) -> None:
    colours = {"ok": "green", "warn": "yellow", "error": "red"}
    rows = []
    for finding in findings:
        rows.append((click.style(finding.level, fg=colours[finding.level]), finding.subject, finding.message))
        if finding.next:
            rows.append(("", "", f"→ {finding.next}"))
    show_table(rows)


def _print_incidents(incidents: Sequence[Incident]) -> None:
    for incident in incidents:
        seen = f", seen {incident.count} times" if incident.count > 1 else ""
        say(f"{incident.severity} {incident.kind} ({incident.status}{seen}): {incident.cause}")
        say(f"next: {incident.next}", indent="  ")


def _stage(info: VersionInfo) -> str:
    """The stage says `champion` and `challenger` already; other aliases are people's own."""
    own = [alias for alias in info.aliases if alias not in ("champion", "challenger")]
    return ", ".join([info.stage, *own])


def _in_service(service: InService | None) -> str:
    if service is None:
        return "nothing yet; next: python main.py run"
    if service.problem:
        return service.problem
    return f"version {service.model_version} of {service.model_name}: {service.algorithm}, made {_when(service)}"


def _when(service: InService) -> str:
    return moment(datetime.fromisoformat(service.trained_at)) if service.trained_at else "some time ago"


def _registry_line(contact: RegistryContact | None) -> str:
    if contact is None:
        return "nobody has followed it here yet; python main.py sync does"
    followed = f"followed {moment(contact.at)}" if contact.at else "never followed"
    return f"{followed}; since then: {contact.problem}" if contact.problem else followed


def _run_line(run: RunRecord) -> str:
    error = f": {run.error}" if run.error else ""
    version = f", version {run.model_version}" if run.model_version else ""
    return f"{run.status}, {moment(run.started_at)}{version}{error}"


def _log_line(lag: LogLag) -> str:
    read = f"last read {moment(lag.last_read_at)}" if lag.last_read_at else "never read"
    if not lag.unread_files:
        return f"all in the store, {read}" if lag.last_read_at else "none"
    waiting = f"{lag.unread_bytes:,} bytes in {lag.unread_files} files wait to be read"
    return f"{waiting}, the oldest since {moment(lag.oldest_unread_at)}; {read}"


def _job_line(job: JobRecord) -> str:
    due = f", next {moment(job.next_due_at)}" if job.next_due_at else ""
    if job.last_status is None:
        return f"never{due}"
    return f"{job.last_status}, {moment(job.last_finished_at or job.last_started_at)}{due}"
