"""Nothing is computed that no one reads: what the product defines it names, and what the store keeps it looks at."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache

import pytest

from tests.test_architecture import FOLDERS, PROJECT

#: Parts of the product as well: what they alone use is used.
SCRIPTS = ("main.py", "generate_sample_data.py", "docker/init_env.py")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
#: Called by another program or library, which finds them by their names.
CALLED_BY_NAME = {
    # hooks of gunicorn's configuration
    *("on_starting", "when_ready", "post_worker_init", "on_exit"),
    # gunicorn: Logger, ThreadWorker and its parts, ChunkedReader
    *("setup", "handle_request", "_keepalive_after", "murder_pending", "murder_keepalived", "enqueue_req"),
    *("parse_chunk_size", "parse_trailers"),
    # logging.Handler
    *("emit", "handleError"),
    # socketserver and http.server
    *("process_request", "process_request_thread", "handle_error", "do_GET", "log_message"),
    # scikit-learn's transformers
    *("transform", "get_feature_names_out"),
    # SQLAlchemy's TypeDecorator
    *("process_bind_param", "process_result_value"),
}
#: A function with such a decorator is registered by it: click commands, Flask routes and hooks.
_REGISTERS = re.compile(r"\.(command|group|route|get|post|(before|after|teardown)(_app)?_request|errorhandler)\(?")
_NAMES = re.compile(r"[\w.:]+")


@dataclass
class Module:
    """What one file defines, and what it names where."""

    path: str
    definitions: list[tuple[Definition, bool]] = field(default_factory=list)
    #: (module, name) of what it imports; ruff sees to it that it is used.
    imports: set[tuple[str, str]] = field(default_factory=set)
    #: Lines by name, and by what is behind a dot.
    names: dict[str, list[int]] = field(default_factory=dict)
    attributes: dict[str, list[int]] = field(default_factory=dict)
    #: Words of texts that are nothing but names (an entry point, a `getattr`), and `what.is` behind a dot with it.
    texts: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def product() -> tuple[Module, ...]:
    files = [path for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py"))]
    files = [path for path in files if path.parent.name != "versions"]
    return tuple(
        read(str(path.relative_to(PROJECT)), path.read_text("utf-8"))
        for path in [*files, *(PROJECT / script for script in SCRIPTS)]
    )


def read(path: str, source: str) -> Module:
    module, nodes = Module(path), list(ast.walk(ast.parse(source)))
    silent = {id(node) for part in nodes if is_prose(part) for node in ast.walk(part)}
    methods = {id(child) for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    for node in nodes:
        if isinstance(node, Definition):
            module.definitions.append((node, id(node) in methods))
        elif isinstance(node, ast.ImportFrom):
            module.imports |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            module.names.setdefault(node.id, []).append(node.lineno)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            module.attributes.setdefault(node.attr, []).append(node.lineno)
            module.texts.add(f"{ast.unparse(node.value)}.{node.attr}")
        elif isinstance(node, ast.Constant) and id(node) not in silent and _NAMES.fullmatch(str(node.value)):
            module.texts |= {*re.split(r"[.:]", str(node.value))}
    return module


def is_prose(node: ast.AST) -> bool:
    """Docstrings, and the list of what a module hands on: naming there is no use."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def unread(modules: tuple[Module, ...]) -> list[str]:
    """Definitions that are named nowhere but in themselves."""
    return [
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules
        for node, is_method in module.definitions
        if not (is_called_from_outside(node) or is_named(node, is_method, module, modules))
    ]


def is_called_from_outside(node: Definition) -> bool:
    special = node.name.startswith("__") and node.name.endswith("__")
    registered = any(_REGISTERS.search(ast.unparse(decorator)) for decorator in node.decorator_list)
    return special or registered or node.name in CALLED_BY_NAME


def is_named(node: Definition, is_method: bool, home: Module, modules: tuple[Module, ...]) -> bool:
    """Of a method: behind a dot or in a text. Of anything else: in its module, by an import or in a text."""
    if any(node.name in module.texts for module in modules):
        return True
    own = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    if is_method:
        lines = ((module, line) for module in modules for line in module.attributes.get(node.name, []))
        return any(module is not home or line not in own for module, line in lines)
    if any(line not in own for line in home.names.get(node.name, [])):
        return True
    of_module = f"{home.name.rpartition('.')[2]}.{node.name}"
    return any((home.name, node.name) in module.imports or of_module in module.texts for module in modules)


def test_fault_29_nothing_is_defined_that_nothing_reads() -> None:
    assert unread(product()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def a(): pass", ["a"]),
        ("def a(): a()", ["a"]),
        ("class A: pass\n__all__ = ['A']", ["A"]),
        ("def a():\n    'See a.'", ["a"]),
        ("class A:\n    def b(self): pass\nb = A()\nprint(b)", ["b"]),
        ("class A:\n    def b(self): pass\nA().b()", []),
        ("def a(): pass\ngetattr(m, 'a')", []),
        ("@cli.command('a')\ndef a(): pass", []),
        ("def a(): pass\na = b.a", ["a"]),
        ("@cached\ndef a(): pass", ["a"]),
    ],
)
def test_what_is_named_nowhere_else_is_found(source: str, found: list[str]) -> None:
    assert [place.split()[-1] for place in unread((read("m.py", source),))] == found


def test_what_others_call_by_name_is_defined() -> None:
    defined = {node.name for module in product() for node, _ in module.definitions}
    assert defined >= CALLED_BY_NAME
