"""Nothing is stored that no one reads: each column of the store is looked at by what knows its table."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from monitoring.tables import metadata
from tests.test_architecture import FOLDERS, PROJECT, module_name

TABLES = ("monitoring.tables", "monitoring.alert_tables")
#: What the product keeps for people who look into the store with SQL.
FOR_PEOPLE = {
    # remains of writes cut short; the incident of them sends people to this table
    *(f"log_fragments.{name}" for name in ("file", "byte", "length", "reason", "content", "seen_at")),
    # what a client said of an outcome beside the class, and how often; of whom a row of an experiment was
    *(f"labelled_rows.{name}" for name in ("value", "observed_at", "outcomes", "unit")),
    # rows that the log's contract marks as answered by a fallback
    "window_profiles.fallback_rows",
}


@dataclass(frozen=True)
class Module:
    name: str
    tables: frozenset[str]
    #: (module, name) of what it imports.
    imports: frozenset[tuple[str, str]]
    reads: frozenset[str]
    #: Fields of its classes, by class: in them it hands on what it has read.
    fields: dict[str, frozenset[str]]


@cache
def modules() -> tuple[Module, ...]:
    files = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]
    files = [path for path in files if "migrations" not in path.parts]
    read = (module(module_name(path), path.read_text("utf-8")) for path in files)
    return tuple(one for one in read if one.name not in TABLES)


def module(name: str, source: str) -> Module:
    nodes = list(ast.walk(ast.parse(source)))
    imported = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    makes_records = any(isinstance(node, ast.Name) and node.id == "to_record" for node in nodes)
    writes = {id(written) for node in nodes for written in written_by(node)}
    return Module(
        name=name,
        tables=frozenset(alias.name for node in imported if node.module in TABLES for alias in node.names),
        imports=frozenset((node.module or "", alias.name) for node in imported for alias in node.names),
        reads=frozenset(text for node in nodes if id(node) not in writes for text in read_by(node, makes_records)),
        fields={
            node.name: frozenset(name for part in node.body for name in field_of(part))
            for node in nodes
            if isinstance(node, ast.ClassDef)
        },
    )


def written_by(node: ast.AST) -> Iterator[ast.AST]:
    """Keys of what is written, and values that are only handed on under the name that they have already."""
    pairs: list[tuple[object, ast.expr]] = []
    if isinstance(node, ast.Dict):
        yield from (key for key in node.keys if key is not None)
        named = zip(node.keys, node.values, strict=True)
        pairs = [(key.value, value) for key, value in named if isinstance(key, ast.Constant)]
    elif isinstance(node, ast.keyword):
        pairs = [(node.arg, node.value)]
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
        pairs = [(node.target.attr, node.value)]
    for name, value in pairs:
        yield from (one for one in ast.walk(value) if isinstance(one, ast.Attribute) and one.attr == name)


def read_by(node: ast.AST, makes_records: bool) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield node.attr
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif makes_records:  # a record is handed on or printed whole
        yield from field_of(node)


def field_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def unread(table: str, columns: Iterable[str], known: tuple[Module, ...]) -> list[str]:
    """Columns that nobody who knows the table reads, nor anybody to whom a record of them is handed on."""
    own = [one for one in known if table in one.tables]
    imported = {name for one in known for name in one.imports}
    records = [(home.name, name, fields) for home in own for name, fields in home.fields.items()]
    handed_on = {field for home, name, fields in records if (home, name) in imported for field in fields}
    read = {text for one in own for text in one.reads} | {text for one in known for text in one.reads & handed_on}
    return [f"{table}.{column}" for column in columns if column not in read]


def test_fault_29_nothing_is_stored_that_nothing_reads() -> None:
    """Keys are compared by the database."""
    found = {
        column
        for table in metadata.tables.values()
        for column in unread(table.name, [one.name for one in table.columns if not one.primary_key], modules())
    }
    assert found == FOR_PEOPLE


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("connection.execute(insert(t).values(rows=line.rows))", ["t.rows"]),
        ("upsert(connection, t, {'rows': line.rows})", ["t.rows"]),
        ("total.rows += row.rows", ["t.rows"]),
        ("select(t.c.rows)", []),
        ("sums['rows'] = 1 + row['rows']", []),
        ("class T(Struct):\n    rows: int\nto_record(row, T)", []),
        ("class T(Struct):\n    rows: int\nT(rows=row.rows)", ["t.rows"]),
    ],
)
def test_a_column_that_is_only_written_or_handed_on_is_found(source: str, found: list[str]) -> None:
    home = module("home", f"from monitoring.tables import t\n{source}")
    assert unread("t", ["rows"], (home,)) == found


def test_a_column_is_read_where_the_record_of_it_is() -> None:
    home = module("home", "from monitoring.tables import t\nclass T(Struct):\n    rows: int\nT(rows=row.rows)")
    reader = module("reader", "print(record.rows)")
    assert unread("t", ["rows"], (home, reader)) == ["t.rows"]
    assert unread("t", ["rows"], (home, reader, module("between", "from home import T"))) == []
