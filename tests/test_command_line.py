"""Exit codes, the one JSON document, and errors that are one sentence: for every command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from config.settings import load_settings
from config.state_lock import state_lock
from main import cli
from tests.command_line import failure, json_of, run_command
from tests.states import environment_of, new_state, planned, state
from tests.tables import small_table
from tests.trained import in_force

__all__ = ["state"]
#: Commands that do something with the state, each as it is typed.
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run",),
    "retrain": ("retrain",),
    "monitor": ("monitor",),
    "monitor --self-test": ("monitor", "--self-test", "--windows", "3"),
    "drift": ("drift", "--data", "table.csv"),
    "models list": ("models", "list"),
    "models show": ("models", "show", "1"),
    "models compare": ("models", "compare", "1", "2"),
    "models promote": ("models", "promote", "2"),
    "models rollback": ("models", "rollback"),
    "models history": ("models", "history"),
    "sync": ("sync",),
    "status": ("status",),
    "doctor": ("doctor",),
}
ALL = list(COMMANDS.values())
ASKING_MLFLOW = [COMMANDS[name] for name in COMMANDS if name.startswith("models") and name != "models history"]


@pytest.fixture
def untrained(tmp_path: Path, mlflow_template: Path) -> Iterator[Path]:
    home = new_state(tmp_path / "untrained", mlflow_template)
    with in_force(home) as patch:
        patch.chdir(home)
        yield home


def process(home: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT_ROOT / "main.py"), *arguments]
    return subprocess.run(command, env=environment_of(home), text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


# Done.


@pytest.mark.parametrize(
    "command",
    [COMMANDS[name] for name in COMMANDS if name not in ("run", "drift", "models promote", "models rollback")],
    ids=" ".join,
)
def test_a_command_that_is_done_exits_0_and_prints_one_json_document(state: Path, command: tuple[str, ...]) -> None:
    assert run_command(*command).exit_code == 0
    json_of(*command)


def test_run_answers_with_the_fields_of_the_design(state: Path) -> None:
    answer = json_of("run")
    assert set(answer) == {
        "status", "run_id", "model_version", "model_name", "promoted", "decision", "metrics", "cross_validation",
        "duration_seconds",
    }  # fmt: skip
    assert (answer["status"], answer["model_version"], answer["promoted"]) == ("succeeded", "3", False)
    assert {"test_accuracy", "train_accuracy", "test_precision", "test_recall", "test_f1"} <= set(answer["metrics"])


def test_paths_on_the_command_line_are_relative_to_the_caller(untrained: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    small_table(200).to_csv(tmp_path / "elsewhere" / "mine.csv", index=False)
    os.chdir(tmp_path / "elsewhere")
    assert json_of("run", "--data", "mine.csv", "--target", "target")["promoted"]


@pytest.mark.parametrize(("extra", "code"), [((), 0), (("--fail-on-drift",), 3)])
def test_drift_exits_3_only_when_asked_to(state: Path, tmp_path: Path, extra: tuple[str, ...], code: int) -> None:
    moved = small_table(600, seed=5)
    moved["size"] += 3
    moved.to_csv(tmp_path / "moved.csv", index=False)
    answer = json_of("drift", "--data", str(tmp_path / "moved.csv"), *extra, code=code)
    assert answer["overall_drift"] is True
    assert answer["feature_scores"]["size"]["drift_detected"] is True


def test_drift_of_quiet_data_exits_0_also_when_asked_to_fail(state: Path, tmp_path: Path) -> None:
    small_table(600, seed=6).to_csv(tmp_path / "quiet.csv", index=False)
    assert run_command("drift", "--data", str(tmp_path / "quiet.csv"), "--fail-on-drift").exit_code == 0


# init.


def test_init_writes_a_configuration_that_loads_and_is_in_force(tmp_path: Path) -> None:
    small_table(200).to_csv(tmp_path / "mine.csv", index=False)
    home = tmp_path / "new home"
    with in_force(home):
        answer = json_of("init", "--data", str(tmp_path / "mine.csv"), "--target", "target")
        assert answer == {"status": "written", "path": str(home / "pipeline_config.yaml")}
        settings = load_settings()
        assert (settings.data.source, settings.target_column) == (str(tmp_path / "mine.csv"), "target")
        assert "#" in (home / "pipeline_config.yaml").read_text()


def test_init_may_be_repeated_and_overwrites_nothing(tmp_path: Path) -> None:
    small_table(200).to_csv(tmp_path / "mine.csv", index=False)
    with in_force(tmp_path / "home"):
        init = ("init", "--data", str(tmp_path / "mine.csv"), "--target")
        assert run_command(*init, "target").exit_code == 0
        own = tmp_path / "home" / "pipeline_config.yaml"
        own.write_text(own.read_text() + "\n# mine\n")
        assert run_command(*init, "target").exit_code == 0
        assert "pipeline_config.yaml" in failure(*init, "colour", code=2)
        assert own.read_text().endswith("# mine\n")


def test_init_for_another_query_does_not_pass_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of a SQLite file is relative to the caller, as any path on the command line."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with closing(sqlite3.connect("mine.db")) as database:
        small_table(200).to_sql("rows", database, index=False)
    with in_force(tmp_path / "home"):
        init = ("init", "--data", "sqlite:///mine.db", "--target", "target", "--query")
        assert run_command(*init, "select * from rows").exit_code == 0
        assert load_settings().data.source == f"sqlite:///{tmp_path / 'here' / 'mine.db'}"
        assert run_command(*init, "select * from rows").exit_code == 0
        assert "is not overwritten" in failure(*init, "select * from rows where 1", code=2)


def test_init_of_a_table_at_a_long_path_writes_what_loads(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 200) / ("b" * 200)
    folder.mkdir(parents=True)
    small_table(200).to_csv(folder / "mine.csv", index=False)
    with in_force(tmp_path / "home"):
        assert run_command("init", "--data", str(folder / "mine.csv"), "--target", "target").exit_code == 0
        assert load_settings().data.source == str(folder / "mine.csv")


def test_init_of_a_table_without_that_column_names_what_there_is(tmp_path: Path) -> None:
    small_table(200).to_csv(tmp_path / "mine.csv", index=False)
    with in_force(tmp_path / "home"):
        assert "nothere" in failure("init", "--data", str(tmp_path / "mine.csv"), "--target", "nothere", code=2)
        assert not (tmp_path / "home" / "pipeline_config.yaml").exists()


# Errors.


def on_wrong_configuration(home: Path) -> None:
    (home / "pipeline_config.yaml").write_text("data_split: {test_size: 7}\n")


def on_corrupt_yaml(home: Path) -> None:
    (home / "pipeline_config.yaml").write_text("a: [\n")


@pytest.mark.parametrize("spoil", [on_wrong_configuration, on_corrupt_yaml])
@pytest.mark.parametrize("command", [command for command in ALL if command != ("doctor",)], ids=" ".join)
def test_a_wrong_configuration_exits_2_and_names_the_file(
    untrained: Path, command: tuple[str, ...], spoil: object
) -> None:
    spoil(untrained)  # type: ignore[operator]
    sentence = failure(*command, code=2)
    assert "pipeline_config.yaml" in sentence
    assert json_of(*command, code=2) == {"status": "failed", "error": sentence}


def test_a_configuration_that_is_not_there_is_named(state: Path) -> None:
    assert "nowhere.yaml: there is no such file" in failure("--config", "nowhere.yaml", "status", code=2)


@pytest.mark.parametrize("name", ["run", "drift"])
@pytest.mark.parametrize("content", [None, b"", b"\x00\x01\x02", b"target\n", b"a,b\n1,2\n"])
def test_a_table_that_is_none_exits_2(state: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    table = tmp_path / "wrong.csv"
    if content is not None:
        table.write_bytes(content)
    assert "wrong.csv" in failure(name, "--data", str(table), code=2)
    assert json_of(name, "--data", str(table), code=2)["status"] == "failed"
    assert planned() == "1"


def test_a_folder_instead_of_a_table_exits_2(state: Path, tmp_path: Path) -> None:
    assert str(tmp_path) in failure("run", "--data", str(tmp_path), code=2)


@pytest.mark.parametrize("command", [("monitor",), ("run",), ("retrain",), ("models", "history")], ids=" ".join)
def test_a_corrupt_store_is_named(state: Path, command: tuple[str, ...]) -> None:
    (state / "mlops.db").write_bytes(b"no database" * 500)
    assert "mlops.db" in failure(*command)


def test_a_corrupt_plan_is_a_sentence_and_sync_makes_it_anew(state: Path) -> None:
    (state / "models/registry/serving.json").write_text("{")
    assert "serving.json" in failure("monitor")
    assert "serving.json" in failure("drift", "--data", "table.csv")
    assert run_command("status").exit_code == 0
    assert run_command("sync").exit_code == 0
    assert planned() == "1"


@pytest.mark.parametrize("command", [*ASKING_MLFLOW, ("sync",)], ids=" ".join)
def test_an_mlflow_that_refuses_is_a_sentence_at_once(
    state: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLOPS_MLFLOW_URI", "http://127.0.0.1:1")
    began = time.monotonic()
    assert "MLflow at http://127.0.0.1:1 cannot be reached" in failure(*command)
    assert time.monotonic() - began < 2
    assert planned() == "1"


def test_a_run_needs_no_mlflow_to_say_that_the_table_is_wrong(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_MLFLOW_URI", "http://127.0.0.1:1")
    assert "nowhere.csv" in failure("run", "--data", "nowhere.csv", code=2)


@pytest.mark.parametrize("command", [("run",), ("retrain",), ("models", "promote", "2")], ids=" ".join)
def test_a_second_one_at_work_exits_1_and_names_the_holder(state: Path, command: tuple[str, ...]) -> None:
    with state_lock("pipeline", "main.py run"):
        assert f"`main.py run` (process {os.getpid()}) holds the pipeline lock" in failure(*command)


def test_a_home_that_cannot_be_made_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", "/proc/nowhere")
    for command in (("run",), ("monitor",), ("sync",)):
        assert "/proc/nowhere" in failure(*command)
    assert run_command("doctor").exit_code == 1
    assert run_command("status").exit_code == 0


def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "file"))
    assert str(tmp_path / "file") in failure("run")


@pytest.mark.parametrize(
    "arguments",
    ["nothing", "run --nothing", "drift", "models", "models show", "init --data x", "models promote 2 --force"],
)
def test_wrong_usage_exits_2(state: Path, arguments: str) -> None:
    assert run_command(*arguments.split()).exit_code == 2


def test_wrong_usage_is_one_json_document_too(state: Path) -> None:
    assert json_of("drift", code=2) == {"status": "failed", "error": "Missing option '--data'."}


def test_a_fault_of_the_product_shows_its_traceback_and_is_json_all_the_same(state: Path) -> None:
    code = """
import sys
sys.argv = ["main.py", "status", "--json"]
import commands.status, main
commands.status.read_plan = lambda _: 1 / 0
main.cli()
"""
    environment = environment_of(state) | {"PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"status": "failed", "error": "ZeroDivisionError: division by zero"}
    assert "Traceback" in done.stderr


def test_every_command_is_in_the_help_and_has_help_of_its_own() -> None:
    whole = run_command("--help").output
    for name, command in cli.commands.items():
        assert name in whole
        assert command.help, name
        assert run_command(name, "--help").exit_code == 0


# As processes.


@pytest.mark.integration
@pytest.mark.parametrize("command", [("models", "list"), ("status", "--json")], ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command_without_a_word(state: Path, command: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = process(state, *command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.integration
def test_a_full_disk_under_stdout_is_a_sentence(state: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = process(state, "status", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
@pytest.mark.parametrize(("arguments", "seconds"), [(("--help",), 0.3), (("status",), 1.0)], ids=["help", "status"])
def test_short_questions_are_answered_soon(state: Path, arguments: tuple[str, ...], seconds: float) -> None:
    """The limit is for an idle machine, so the time of the processor counts, and the best of some tries."""
    assert min(processor_seconds(state, *arguments) for _ in range(4)) < seconds


def processor_seconds(home: Path, *arguments: str) -> float:
    before = os.times()
    assert process(home, *arguments, capture_output=True).returncode == 0
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_status_imports_nothing_heavy(state: Path) -> None:
    code = """
import sys
sys.argv = ["main.py", "status"]
import main
try:
    main.cli()
finally:
    heavy = {"pandas", "mlflow", "sklearn", "rich", "alembic", "onnxruntime", "numpy"} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""
    environment = environment_of(state) | {"PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "heavy: []" in done.stderr
