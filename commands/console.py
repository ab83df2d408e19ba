"""What people see: short tables, one sentence a result, and a progress display on anything long. All of it on stderr or
stdout as plain text when that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from models.mlflow_registry import VersionInfo
from monitoring.promotion_history import Promotion
from pipeline.progress import Progress, Silent

if TYPE_CHECKING:
    from commands.doctor import Finding
    from commands.model_versions import Comparison, SyncOutcome, VersionDetail
    from commands.status import Status
    from monitoring.cycle import CycleOutcome
    from monitoring.drift_report import DriftReport
    from pipeline.model_training import CandidateResult
    from pipeline.orchestrator import RunOutcome
    from pipeline.retraining import RetrainingOutcome

#: A pipe has no width: what reads it should not meet lines broken at 80.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
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


@contextmanager
def run_progress(quiet: bool) -> Iterator[Progress]:
    """A live display on a terminal, a line for each step elsewhere, nothing when quiet."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with LiveProgress() as live:
            yield live
    else:
        yield LineProgress()


class LineProgress(Silent):
    """One line for each step and candidate, for logs and pipes."""

    def step(self, name: str, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def candidate_done(self, result: CandidateResult) -> None:
        print(f"  {_candidate_line(result)}", file=sys.stderr, flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)  # noqa: T201


class LiveProgress:
    """A spinner for the step at work and a bar for each candidate."""

    def __init__(self) -> None:
        self._bars = Bars(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._step: TaskID | None = None
        self._candidates: dict[str, TaskID] = {}

    def __enter__(self) -> LiveProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_step()
        self._bars.stop()

    def step(self, name: str, text: str) -> None:
        self._end_step()
        self._step = self._bars.add_task(text, total=1)

    def candidate_started(self, name: str, fits: int) -> None:
        self._candidates[name] = self._bars.add_task(f"  {name}", total=fits)

    def fold_done(self, name: str, fold: int, score: float | None, seconds: float) -> None:
        self._bars.advance(self._candidates[name])

    def candidate_done(self, result: CandidateResult) -> None:
        task = self._candidates[result.name]
        self._bars.update(task, description=f"  {_candidate_line(result)}", completed=self._bars.tasks[task].total)

    def note(self, text: str) -> None:
        self._bars.console.print(f"  {text}", highlight=False)

    def _end_step(self) -> None:
        if self._step is not None:
            self._bars.update(self._step, completed=1)
            self._step = None


def _candidate_line(result: CandidateResult) -> str:
    if result.status != "ok" or result.mean is None:
        return f"{result.name}: left aside, {result.reason}"
    sample = f", on a sample of {result.sampled_rows:,} rows" if result.sampled_rows else ""
    spread = f" ± {result.std:.4f}" if result.std is not None else ""
    return f"{result.name}: {result.metric} {result.mean:.4f}{spread}{sample}"


def print_run(outcome: RunOutcome) -> None:
    table = _table("", "cross-validation", "train", "test")
    means = outcome.cross_validation["winner_metrics"]
    for name in SHOWN_METRICS:
        table.add_row(
            name,
            _figure(means.get(name)),
            _figure(outcome.metrics[f"train_{name}"]),
            _figure(outcome.metrics[f"test_{name}"]),
        )
    winner = outcome.cross_validation["winner"]
    out.print(f"\n[bold]version {outcome.model_version}[/] of {outcome.model_name}: {winner}")
    out.print(table)
    for name, reason in outcome.left_aside.items():
        out.print(f"{name} was left aside: {reason}", markup=False)
    verdict = "promoted" if outcome.promoted else "not promoted"
    reason = (outcome.decision or {}).get("reason", "")
    out.print(f"[bold]{verdict}[/]: {reason}")
    out.print(f"{outcome.duration_seconds:.1f} s; quality report in {outcome.quality_report}", markup=False)


def print_retraining(outcome: RetrainingOutcome) -> None:
    if outcome.run is None:
        out.print("nothing new: no file has arrived that was not used before")
        return
    print_run(outcome.run)
    if outcome.files:
        out.print(f"used {', '.join(outcome.files)} ({outcome.policy}); archived in data/processed/", markup=False)


def print_drift(report: DriftReport) -> None:
    from monitoring.reports import drift_text

    out.print(drift_text(report), markup=False)


def print_cycle(outcome: CycleOutcome) -> None:
    if outcome.drift is None:
        out.print(outcome.note)
    else:
        print_drift(outcome.drift)
    for incident in outcome.incidents:
        out.print(f"{incident.severity} {incident.kind} ({incident.status}): {incident.cause}", markup=False)
        out.print(f"  next: {incident.next}", markup=False)


def print_versions(versions: Sequence[VersionInfo]) -> None:
    if not versions:
        out.print("no versions yet; next: python main.py run")
        return
    table = _table("version", "stage", "alias", "algorithm", "test f1", "test roc_auc", "made at")
    for info in versions:
        alias = ", ".join(info.aliases)
        figures = [_figure(info.metrics.get(name)) for name in ("test_f1", "test_roc_auc")]
        table.add_row(info.version, info.stage, alias, info.algorithm or "", *figures, _moment(info.created_at))
    out.print(table)


def print_version(detail: VersionDetail) -> None:
    info = detail.version
    out.print(f"[bold]version {info.version}[/]: {info.algorithm or 'not made by this product'}, {info.stage}")
    table = _table("", "")
    for name, value in (
        ("alias", ", ".join(info.aliases) or "none"),
        ("made at", _moment(info.created_at)),
        ("run", info.run_id or ""),
        ("MLflow run", info.mlflow_run_id or ""),
        ("bundle", info.manifest_sha256 or "none: it cannot be served"),
        *((name, _figure(value)) for name, value in sorted(info.metrics.items())),
    ):
        table.add_row(name, value)
    out.print(table)
    if detail.promotions:
        print_history(detail.promotions)


def print_comparison(comparison: Comparison) -> None:
    one, two = comparison.first, comparison.second
    out.print(f"{one.version}: {one.algorithm}, {one.stage}; {two.version}: {two.algorithm}, {two.stage}")
    table = _table("metric", one.version, two.version, "difference")
    for name, (before, after, difference) in comparison.metrics.items():
        table.add_row(name, _figure(before), _figure(after), "" if difference is None else f"{difference:+.4f}")
    out.print(table)
    out.print("each version's figures are those of its own test part")


def print_promotion(move: Promotion) -> None:
    out.print(
        f"version {move.to_version} is in service (before: {move.from_version or 'none'}): {move.why}", markup=False
    )


def print_history(moves: Sequence[Promotion]) -> None:
    if not moves:
        out.print("nothing was promoted yet")
        return
    table = _table("when", "from", "to", "kind", "by", "why")
    for move in moves:
        when = _moment(move.done_at) if move.done_at else move.status
        table.add_row(when, move.from_version or "", move.to_version, move.kind, move.who, Text(move.why))
    out.print(table)


def print_sync(outcome: SyncOutcome) -> None:
    if outcome.plan is None or outcome.plan.champion is None:
        out.print("the registry has no champion yet; nothing is in service")
        return
    out.print(f"version {outcome.plan.champion.version} is in service, plan {(outcome.plan_digest or '')[:12]}")


def print_status(status: Status) -> None:
    table = _table("", "")
    service = status.in_service
    if service is None:
        table.add_row("in service", "nothing yet; next: python main.py run")
    else:
        text = (
            f"version {service.model_version} of {service.model_name}: {service.algorithm}, made {service.trained_at}"
        )
        table.add_row("in service", Text(service.problem or text))
    table.add_row("scheduler", Text(status.scheduler or "not running; python main.py starts it"))
    if status.pipeline:
        table.add_row("at work", Text(status.pipeline))
    if status.last_run is not None:
        run = status.last_run
        table.add_row(
            "last run", Text(f"{run.status}, {_moment(run.started_at)}{f': {run.error}' if run.error else ''}")
        )
    for job in status.jobs:
        due = f", next {_moment(job.next_due_at)}" if job.next_due_at else ""
        table.add_row(job.name, f"{job.last_status or 'never'}, {_moment(job.last_finished_at)}{due}")
    last = _moment(status.last_prediction_at) if status.last_prediction_at else "none logged"
    table.add_row("last prediction", last)
    if status.store_problem:
        table.add_row("store", Text(status.store_problem))
    out.print(table)
    for incident in status.incidents:
        out.print(f"{incident.severity} {incident.kind} ({incident.status}): {incident.cause}", markup=False)
        out.print(f"  next: {incident.next}", markup=False)


def print_diagnosis(findings: Sequence[Finding]) -> None:
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "error": "[red]error[/]"}
    table = _table("", "", "")
    for finding in findings:
        table.add_row(marks[finding.level], finding.subject, Text(finding.message))
        if finding.next:
            table.add_row("", "", Text(f"→ {finding.next}"))
    out.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _figure(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"


def _moment(value: datetime | None) -> str:
    return "never" if value is None else f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
