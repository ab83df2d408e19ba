"""`models …` and `sync`: what they do, what they refuse, and how it reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.settings import load_settings
from models.mlflow_registry import Registry
from monitoring.promotion_history import PromotionHistory
from monitoring.store import Store
from pipeline.orchestrator import run_now
from tests.command_line import failure, json_of, run_command
from tests.states import assert_whole, deployment_in_force, planned, state
from tests.tables import small_table
from tests.test_deployment import killed_run

__all__ = ["state"]


def test_list_shows_the_newest_first_and_which_is_in_production(state: Path) -> None:
    header, second, first = run_command("models", "list").stdout.splitlines()
    assert header.split()[:3] == ["version", "stage", "algorithm"]
    assert second.split()[:3] == ["2", "development", "logistic_regression"]
    assert first.split()[:3] == ["1", "production", "logistic_regression"]
    assert [version["version"] for version in json_of("models", "list")] == ["2", "1"]


def test_show_says_where_a_version_came_from_and_what_became_of_it(state: Path) -> None:
    shown = run_command("models", "show", "1").stdout
    assert "version 1: logistic_regression, production" in shown
    assert "nothing was in service" in shown
    detail = json_of("models", "show", "1")
    assert detail["version"]["manifest_sha256"]
    assert [move["to_version"] for move in detail["promotions"]] == ["1"]


@pytest.mark.parametrize("version", ["7", "abc", "1.0", "' or 1=1"])
@pytest.mark.parametrize("command", ["show", "promote"])
def test_a_version_that_is_not_there_is_named_with_those_that_are(state: Path, command: str, version: str) -> None:
    assert failure("models", command, version) == f"there is no version {version} of production_model; there are 2, 1"


def test_compare_puts_two_versions_side_by_side(state: Path) -> None:
    metrics = json_of("models", "compare", "1", "2")["metrics"]
    first, second, difference = metrics["test_accuracy"]
    assert difference == pytest.approx(second - first)
    assert "version 1  version 2" in run_command("models", "compare", "1", "2").stdout


def test_promote_and_rollback_move_everything_and_are_recorded_with_their_reason(state: Path) -> None:
    assert json_of("models", "promote", "2", "--why", "it is fairer")["status"] == "done"
    assert planned() == "2"
    assert_whole()
    assert json_of("models", "rollback")["to_version"] == "1"
    assert_whole()
    newest, before, _ = json_of("models", "history")
    assert (newest["kind"], newest["from_version"], newest["to_version"]) == ("rollback", "2", "1")
    assert (before["kind"], before["why"]) == ("promote", "it is fairer")


def test_history_answers_which_version_served_at_a_time(state: Path) -> None:
    first = datetime.fromisoformat(json_of("models", "history")[0]["done_at"])
    json_of("models", "promote", "2")
    before, between = (f"{first + timedelta(seconds=s):%Y-%m-%dT%H:%M:%S.%f}" for s in (-1, 0))
    assert json_of("models", "history", "--at", f"{before}Z")["model_version"] is None
    assert json_of("models", "history", "--at", between) == {"at": f"{between}Z", "model_version": "1"}
    assert json_of("models", "history", "--at", "2999-01-01")["model_version"] == "2"
    assert run_command("models", "history", "--at", "2999-01-01T02:00+02:00").stdout == (
        "version 2 was in service at 2999-01-01 00:00:00 UTC\n"
    )


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "12:00", "0001-01-01T00:00+14:00"])
def test_what_is_no_time_is_refused_in_a_sentence(home: Path, text: str) -> None:
    sentence = failure("models", "history", "--at", text, code=2)
    assert f"{text!r} is no date or time of ISO 8601" in sentence


def test_a_second_rollback_goes_no_further_than_there_is(state: Path) -> None:
    run_command("models", "promote", "2")
    run_command("models", "rollback")
    assert "nothing served before" in failure("models", "rollback")
    assert planned() == "1"


def test_what_is_in_service_already_is_not_promoted_again(state: Path) -> None:
    assert failure("models", "promote", "1") == "version 1 is in service already"
    assert len(json_of("models", "history")) == 1


def test_a_version_that_clients_of_the_champion_cannot_ask_needs_force_and_a_reason(state: Path) -> None:
    small_table(300, wanted=lambda generator, rows: generator.normal(size=rows)).to_csv(state / "table.csv")
    version = run_now(None, None).model_version
    assert "--force --why" in failure("models", "promote", version)
    assert planned() == "1"
    assert "needs --why" in run_command("models", "promote", version, "--force").stderr
    assert json_of("models", "promote", version, "--force", "--why", "all clients send it now")["status"] == "done"
    assert planned() == version


def test_a_champion_that_cannot_be_served_stands_in_no_ones_way(state: Path) -> None:
    with deployment_in_force() as deployment:
        client = deployment.registry.connection.client
        client.create_model_version(deployment.registry.registered_name, source="/nowhere")
        deployment.registry.set_champion("3")
    assert "version 3 has no bundle" in failure("sync")
    assert json_of("models", "promote", "2")["from_version"] == "3"
    assert planned() == "2"


def test_a_person_who_promotes_repairs_what_a_kill_left(state: Path) -> None:
    killed_run(Registry, "set_champion", "after")
    assert json_of("models", "promote", "2")["from_version"] == "3"
    with Store(load_settings().store_address) as store:
        assert PromotionHistory(store).pending() == []
    assert planned() == "2"


def test_sync_says_what_is_in_service_and_follows_an_alias_moved_in_mlflow(state: Path) -> None:
    assert run_command("sync").stdout.startswith("version 1 is in service, plan ")
    with deployment_in_force() as deployment:
        deployment.registry.connection.client.set_registered_model_alias("production_model", "champion", "2")
    answer = json_of("sync")
    assert answer["plan"]["champion"]["version"] == "2"
    assert len(answer["plan_digest"]) == 64
    assert len(json_of("models", "history")) == 1  # the scheduler records it, nobody else


def test_sync_on_a_host_that_has_nothing_brings_everything(state: Path, tmp_path: Path) -> None:
    """Another state root, the same MLflow, no store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_MLFLOW_URI", load_settings().mlflow_address)
        patch.setenv("MLOPS_HOME", str(tmp_path / "server"))
        assert run_command("sync").exit_code == 0
        assert planned() == "1"
        assert not (tmp_path / "server" / "mlops.db").exists()


def test_before_the_first_run_every_listing_says_what_to_do(tmp_path: Path, mlflow_template: Path) -> None:
    from tests.states import new_state
    from tests.trained import in_force

    with in_force(new_state(tmp_path / "empty", mlflow_template)):
        assert "python main.py run" in run_command("models", "list").stdout
        assert "nothing is in service" in run_command("sync").stdout
        assert run_command("models", "history").stdout == "nothing was promoted yet\n"
        assert json_of("models", "history", "--at", "2026-01-01")["model_version"] is None
        assert "there are none yet" in failure("models", "show", "1")
        assert "nothing is in service yet" in failure("models", "rollback")


def test_lines_fit_a_terminal_of_80_columns(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.tables._width_available", lambda: 80)
    run_command("models", "promote", "2", "--why", "a reason that is told at some length because it was discussed " * 3)
    for command in (("models", "list"), ("models", "show", "2"), ("models", "history"), ("status",)):
        lines = run_command(*command).stdout.splitlines()
        assert max(len(line) for line in lines if "sha256" not in line) <= 80, command
        assert "discussed" in " ".join(lines) or command not in (("models", "history"),)
