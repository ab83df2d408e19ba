"""The prediction log as tests read it: every whole line of a folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from monitoring.prediction_log import PREDICTIONS, PredictionLine

_DECODER = msgspec.json.Decoder(PredictionLine)


def logged_lines(directory: Path) -> list[PredictionLine]:
    """The prediction lines of all files, oldest first; remains of writes cut short are left out."""
    return [line for line in _each_line(directory) if line is not None]


def fragments(directory: Path) -> int:
    """Lines that are no prediction line, the remains of writes cut short."""
    return _each_line(directory).count(None)


def _each_line(directory: Path) -> list[PredictionLine | None]:
    """None for a fragment. A last line without its newline may still be being written: it is neither."""
    contents = (path.read_bytes().split(b"\n")[:-1] for path in sorted(directory.glob(f"{PREDICTIONS}_*.jsonl")))
    return [_decoded(content) for of_file in contents for content in of_file if content]


def _decoded(content: bytes) -> PredictionLine | None:
    try:
        return _DECODER.decode(content)
    except ValueError:  # msgspec's errors, and bytes that are no UTF-8
        return None
