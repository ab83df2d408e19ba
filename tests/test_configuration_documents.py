"""The configuration that ships and its page say what the settings' types say, and something reads every key."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest
import yaml

from config.documentation import PAGE, SHIPPED, help_texts, settings, updated_page, with_ranges
from config.settings import Settings, load_settings

PROJECT = SHIPPED.parent.parent
PATHS = [setting.path for setting in settings()]


def shown_keys(node: object, prefix: str = "") -> dict[str, object]:
    """Dotted path of each leaf of a configuration file; `{}` is a leaf."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    parts = [shown_keys(value, f"{prefix}.{key}".lstrip(".")) for key, value in node.items()]
    return {path: value for part in parts for path, value in part.items()}


def test_the_shipped_file_shows_every_key_in_order_and_no_other() -> None:
    assert list(shown_keys(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))) == PATHS


def test_the_shipped_file_shows_the_defaults() -> None:
    assert load_settings(SHIPPED, {}) == Settings()
    shown = shown_keys(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))
    assert shown == {s.path: msgspec.json.decode(msgspec.json.encode(s.default)) for s in settings()}


def test_every_key_and_section_is_explained_in_a_sentence() -> None:
    explained = help_texts(SHIPPED.read_text(encoding="utf-8"))
    sections = {path.rpartition(".")[0] for path in PATHS} - {""}
    assert set(explained) == set(PATHS) | sections
    assert [path for path, text in explained.items() if not text.endswith(".")] == []


def test_the_allowed_values_beside_each_key_are_those_of_the_type() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert with_ranges(text) == text, "run `python -m config.documentation`"


def test_the_page_lists_every_setting_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated_page(page, SHIPPED.read_text(encoding="utf-8")) == page, "run `python -m config.documentation`"
    assert [setting.variable for setting in settings() if f"`{setting.variable}`" not in page] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data_split.test_size", "0.05 to 0.9"),
        ("data_quality.drift_threshold", "over 0, under 1"),
        ("monitoring.drift_detection_frequency", "over 0, at most 8760"),
        ("training.search_iterations", "at least 1"),
        ("data.delimiter", "one character, or null"),
        ("retraining.policy", "one of append, replace, window"),
        ("retraining.schedule", "daily or a day of the week, and HH:MM"),
    ],
)
def test_a_range_reads_as_a_phrase(path: str, expected: str) -> None:
    assert next(setting for setting in settings() if setting.path == path).range == expected


def test_fault_20_something_outside_the_settings_reads_every_key() -> None:
    """The sketch's `max_prediction_batch_size` stood in the file, and nothing read it."""
    reads = [read for path in source_files() for read in attributes_read(path)]
    unread = [path for path in PATHS if not any(path_is_read(path, read) for read in reads)]
    assert unread == [], "no code reads these settings"


def source_files() -> list[Path]:
    folders = ("config", "models", "monitoring", "pipeline", "api", "commands")
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    own = {PROJECT / "config" / "settings.py", PROJECT / "config" / "documentation.py"}
    # Two addresses are read through properties of the settings that anchor them at the state root.
    return [path for path in [*files, PROJECT / "main.py"] if path not in own and path.is_file()]


def attributes_read(path: Path) -> list[tuple[str, str]]:
    """Each attribute that a file reads, with the whole text of the file's names, to see which section it speaks of."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return [(attribute, " ".join(sorted(names))) for attribute in names]


ANCHORED = {"mlflow_uri": "mlflow_address", "store.url": "store_address"}


def path_is_read(path: str, read: tuple[str, str]) -> bool:
    """Whether a file reads `.key` and also names the key's section or its type."""
    attribute, names = read
    if path in ANCHORED:
        return attribute == ANCHORED[path]
    section, _, key = path.rpartition(".")
    if attribute != key:
        return False
    if not section:
        return True
    type_name = type(section_of(path)).__name__
    return bool({section.rpartition(".")[2], type_name} & set(names.split()))


def section_of(path: str) -> object:
    node: object = Settings()
    for part in path.split(".")[:-1]:
        node = getattr(node, part)
    return node
