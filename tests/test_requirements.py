"""What is to be installed can be, is pinned, and is what the source imports."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parent.parent
FOLDERS = ("config", "models", "monitoring", "pipeline", "api", "commands")
#: Named for what reaches them by name: a process, a URL, a file format, the version that other packages agree on.
NOT_IMPORTED = {
    *("gunicorn", "psycopg", "pyarrow", "openpyxl", "protobuf", "skops"),
    *("boto3", "flask-wtf"),  # by the MLflow server
}
COMPILED = ("requirements", "requirements-serving", "requirements-dev")


def named(file: str) -> dict[str, Requirement]:
    """What a file asks for, with what the files that it includes do."""
    found: dict[str, Requirement] = {}
    for line in (PROJECT / file).read_text(encoding="utf-8").splitlines():
        asked = line.partition("#")[0].strip()
        if asked.startswith("-r "):
            found |= named(asked.removeprefix("-r ").strip())
        elif asked and not asked.startswith("-"):
            found[canonicalize_name(Requirement(asked).name)] = Requirement(asked)
    return found


def pins(file: str) -> dict[str, Requirement]:
    text = (PROJECT / file).read_text(encoding="utf-8")
    found = [Requirement(line) for line in re.findall(r"^([a-zA-Z0-9][^\\\n]*?) *\\$", text, flags=re.MULTILINE)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pinned_version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "==", requirement
    return pin.version


@pytest.mark.parametrize("file", COMPILED)
def test_every_name_is_pinned_to_a_version_that_its_bounds_allow(file: str) -> None:
    compiled = pins(f"{file}.txt")
    for name, requirement in named(f"{file}.in").items():
        assert requirement.specifier.contains(pinned_version(compiled[name])), f"{name}: run `make requirements`"


@pytest.mark.parametrize("file", [f"{name}.txt" for name in COMPILED])
def test_what_is_installed_is_what_is_pinned(file: str) -> None:
    here = [pin for pin in pins(file).values() if pin.marker is None or pin.marker.evaluate()]
    assert {pin.name: pinned_version(pin) for pin in here} == {pin.name: version(pin.name) for pin in here}


@pytest.mark.parametrize("file", ["requirements-serving.txt", "requirements-dev.txt"])
def test_servers_and_tests_run_with_the_versions_that_the_product_runs_with(file: str) -> None:
    product, others = pins("requirements.txt"), pins(file)
    both = product.keys() & others.keys()
    assert {name: str(product[name].specifier) for name in both} == {name: str(others[name].specifier) for name in both}


def test_what_a_server_installs_is_part_of_what_a_trainer_does() -> None:
    assert pins("requirements-serving.txt").keys() <= pins("requirements.txt").keys()


def test_fault_31_nothing_of_the_standard_library_is_asked_for() -> None:
    """The sketch's requirements named `sqlite3`, which is no package."""
    asked = set(named("requirements.in")) | set(named("requirements-dev.in"))
    assert asked & {canonicalize_name(name) for name in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("file", [f"{name}.txt" for name in COMPILED])
def test_a_compiled_file_names_no_registry_and_no_machine(file: str) -> None:
    text = (PROJECT / file).read_text(encoding="utf-8")
    assert re.findall(r"https?://\S+|--(?:extra-)?index-url.*|--find-links.*|(?<=[\s=])/\w+/\S+", text) == []
    assert text.count("--hash=sha256:") >= len(pins(file))


def test_the_source_imports_what_is_asked_for_and_nothing_else() -> None:
    asked = set(named("requirements.in"))
    distributions = packages_distributions()
    providers = {name: {canonicalize_name(d) for d in distributions.get(name, ())} for name in imported_modules()}
    assert [name for name, found in providers.items() if not found & asked] == [], "imported, not in requirements.in"
    used = set().union(*providers.values()) | NOT_IMPORTED
    assert asked - used == set(), "in requirements.in, and imported nowhere"


def imported_modules() -> set[str]:
    """Top-level names of other people's packages that the product imports, lazily or not."""
    files = [path for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py")] + list(PROJECT.glob("*.py"))
    modules: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    ours = {*FOLDERS, *(path.stem for path in PROJECT.glob("*.py"))}
    return modules - ours - sys.stdlib_module_names - {"_typeshed"}  # type checkers bring it, nothing imports it


def test_mlflow_agrees_with_our_bound_of_gunicorn() -> None:
    wanted = [Requirement(text) for text in requires("mlflow") or []]
    (gunicorn,) = [requirement for requirement in wanted if requirement.name == "gunicorn"]
    assert gunicorn.specifier.contains(version("gunicorn"))
