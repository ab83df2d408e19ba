"""What people see while they wait: a live display on a terminal, a line a step elsewhere; all of it on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pipeline.progress import Progress, Silent

if TYPE_CHECKING:
    from pipeline.model_training import CandidateResult


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
