"""Tells the generated sample from somebody's own table: a model of the sample gives way to the first real one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from config.home import under_home

#: Stands beside the generated files and holds their digests.
MARKER = ".sample.json"


def mark_as_sample(path: Path) -> None:
    """Notes the digest of a generated file, in the folder that it is in."""
    marker = path.with_name(MARKER)
    known = _known(marker) | {path.name: _digest(path)}
    marker.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def is_sample(source: str) -> bool:
    """Whether the source is a generated file, as it was generated; also a copy of one of this state root."""
    path = Path(source)
    if "://" in source or not path.is_file():
        return False
    digest = _digest(path)
    return _known(path.with_name(MARKER)).get(path.name) == digest or is_sample_content(digest)


def is_sample_content(sha256: str) -> bool:
    """Whether a file of this content was generated under this state root's `data/`."""
    return any(sha256 in _known(marker).values() for marker in under_home("data").glob(f"*/{MARKER}"))


def _known(marker: Path) -> dict[str, str]:
    try:
        known = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
