"""What a run tells while it works; the command line draws it, tests and the scheduler's child listen or do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipeline.model_training import CandidateResult


class Progress(Protocol):
    """Told from the thread that runs the pipeline."""

    def step(self, name: str, text: str) -> None:
        """A step begins; `text` says for people what it does."""

    def candidate_started(self, name: str, fits: int) -> None:
        """A candidate begins; it takes this many fits, the final one included."""

    def fold_done(self, name: str, fold: int, score: float | None, seconds: float) -> None:
        """One fold of a candidate is fitted and scored."""

    def candidate_done(self, result: CandidateResult) -> None:
        """A candidate has ended, well or not."""

    def note(self, text: str) -> None:
        """One line that people should see."""


class Silent:
    """Tells nobody."""

    def step(self, name: str, text: str) -> None: ...
    def candidate_started(self, name: str, fits: int) -> None: ...
    def fold_done(self, name: str, fold: int, score: float | None, seconds: float) -> None: ...
    def candidate_done(self, result: CandidateResult) -> None: ...
    def note(self, text: str) -> None: ...
