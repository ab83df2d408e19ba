"""What each setting means, for people: the comments of `pipeline_config.yaml` joined with the types of the settings.

The meaning of a setting is written once, above its key in `pipeline_config.yaml`; type, range and default are written
once, in `config.settings`. `python -m config.documentation` brings both files up to date: the range beside each key of
the YAML, and the tables of `docs/configuration.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, inspect

from config.home import PROJECT_ROOT
from config.settings import Settings

SHIPPED = PROJECT_ROOT / "config" / "pipeline_config.yaml"
PAGE = PROJECT_ROOT / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[a-z_]+):(?P<value>(?: [^#\n]*[^#\s])?)(?:  +# .*)?$")


class Setting(Struct, frozen=True):
    """One leaf of the configuration; `path` is dotted, `default` a plain value, `range` a phrase in words."""

    path: str
    kind: str
    range: str
    default: Any

    @property
    def variable(self) -> str:
        return "MLOPS_" + self.path.upper().replace(".", "__")


def settings(cls: type[Struct] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every leaf, in the order of declaration."""
    described = inspect.type_info(cls)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - narrows the type
    for field in described.fields:
        path = prefix + field.name
        if isinstance(field.type, inspect.StructType):
            yield from settings(field.type.cls, path + ".")
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        yield Setting(path, _kind(field.type), _range(field.type), msgspec.to_builtins(default))


def help_texts(text: str) -> dict[str, str]:
    """The comment above each key and section of a configuration file, by dotted path."""
    return {path: comment for path, comment, _ in _keys(text)}


def with_ranges(text: str) -> str:
    """The configuration file with the allowed values written beside each key."""
    ranges = {setting.path: setting.range for setting in settings()}
    lines = text.split("\n")
    for path, _, number in _keys(text):
        if path in ranges and (found := _KEY.match(lines[number])):
            lines[number] = f"{found['indent']}{found['key']}:{found['value']}  # {ranges[path]}"
    return "\n".join(lines)


def tables(text: str) -> str:
    """The settings as Markdown: one table a section; `text` is the configuration file that holds the comments."""
    comments = help_texts(text)
    heading, parts = "", ["## The whole\n", _HEAD]
    for setting in settings():
        section = setting.path.rpartition(".")[0]
        if section != heading:
            heading = section
            parts.append(f"\n## `{section}`\n\n{comments.get(section, '')}\n")
            parts.append(_HEAD)
        parts.append(_row(setting, comments.get(setting.path, "")))
    return "\n".join(parts) + "\n"


def updated_page(page: str, text: str) -> str:
    """`docs/configuration.md` with what stands between its markers written anew."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + tables(text) + "\n" + END + rest.partition(END)[2]


_HEAD = "| setting | type | default | range | meaning | environment |\n|---|---|---|---|---|---|"


def _row(setting: Setting, meaning: str) -> str:
    default = msgspec.json.encode(setting.default).decode().replace(",", ", ")
    cells = (f"`{setting.path}`", setting.kind, f"`{default}`", setting.range, meaning, f"`{setting.variable}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _keys(text: str) -> Iterator[tuple[str, str, int]]:
    """Dotted path, comment above and line number of each key; a blank line ends a comment."""
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for number, line in enumerate(text.split("\n")):
        if line.lstrip().startswith("# "):
            comment.append(line.strip()[2:])
            continue
        if found := _KEY.match(line):
            indent = len(found["indent"])
            parents = [parent for parent in parents if parent[0] < indent] + [(indent, found["key"])]
            yield ".".join(key for _, key in parents), " ".join(comment), number
        comment = []


def _kind(described: inspect.Type) -> str:
    if isinstance(described, inspect.Metadata):
        return _kind(described.type)
    if isinstance(described, inspect.UnionType):
        return " or ".join(_kind(part) for part in _null_last(described))
    names: dict[type[inspect.Type], str] = {
        inspect.IntType: "whole number",
        inspect.FloatType: "number",
        inspect.BoolType: "true or false",
        inspect.StrType: "text",
        inspect.LiteralType: "choice",
        inspect.VarTupleType: "list",
        inspect.DictType: "mapping",
        inspect.NoneType: "null",
        inspect.StructType: "mapping",
    }
    return names[type(described)]


def _range(described: inspect.Type) -> str:
    """The values allowed, in words."""
    if isinstance(described, inspect.Metadata):
        return (described.extra_json_schema or {}).get("description") or _range(described.type)
    if isinstance(described, inspect.UnionType):
        return ", or ".join(_range(part) for part in _null_last(described))
    if isinstance(described, inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in described.values)
    if isinstance(described, (inspect.IntType, inspect.FloatType)):
        return _bounds(described)
    if isinstance(described, inspect.StrType):
        return _lengths(described)
    if isinstance(described, inspect.StructType):
        return f"mappings with the keys {', '.join(field.name for field in described.fields)}"
    if isinstance(described, inspect.VarTupleType):
        least = f" of at least {described.min_length} out" if described.min_length else ""
        return f"a list{least} of {_range(described.item_type).removeprefix('one of ')}"
    if isinstance(described, inspect.DictType):
        if isinstance(described.key_type, inspect.StrType):
            return f"to each name {_range(described.value_type)}"
        return f"keys out of {_range(described.key_type).removeprefix('one of ')}"
    return _kind(described)


def _null_last(described: inspect.UnionType) -> list[inspect.Type]:
    return sorted(described.types, key=lambda part: isinstance(part, inspect.NoneType))


def _bounds(described: inspect.IntType | inspect.FloatType) -> str:
    low, high = described.ge, described.le
    if low is not None and high is not None:
        return f"{low:.15g} to {high:.15g}"
    phrases = {"over {}": described.gt, "at least {}": low, "under {}": described.lt, "at most {}": high}
    given = [phrase.format(f"{bound:.15g}") for phrase, bound in phrases.items() if bound is not None]
    return ", ".join(given) or "any number"


def _lengths(described: inspect.StrType) -> str:
    if described.min_length == described.max_length == 1:
        return "one character"
    if described.max_length is not None:
        return f"text of {described.min_length or 0} to {described.max_length} characters"
    return "text"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def update() -> None:
    """Rewrites both files in place."""
    text = with_ranges(SHIPPED.read_text(encoding="utf-8"))
    _write(SHIPPED, text)
    _write(PAGE, updated_page(PAGE.read_text(encoding="utf-8"), text))


if __name__ == "__main__":
    update()
