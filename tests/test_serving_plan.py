"""The serving plan: replaced whole, read by anybody, compared between hosts by its digest."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import msgspec
import pytest

from models.serving_plan import PLAN, PlanError, PlannedBundle, ServingPlan, plan_lock, read_plan, write_plan

CHAMPION = PlannedBundle(version="3", manifest_sha256="ab12")


def plan_of(champion: PlannedBundle | None = CHAMPION, generation: int = 1) -> ServingPlan:
    return ServingPlan(registered_name="production_model", champion=champion, generation=generation)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    for plan in (plan_of(), plan_of(champion=None, generation=2)):
        write_plan(tmp_path, plan)
        assert read_plan(tmp_path) == plan
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]


def test_before_the_first_promotion_there_is_none(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    assert read_plan(tmp_path / "nowhere") is None


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'{"format_version": 1}', b"\xff"])
def test_a_plan_that_is_none_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PLAN).write_bytes(content)
    with pytest.raises(PlanError, match=rf"{PLAN} is not valid"):
        read_plan(tmp_path)


def test_a_plan_of_a_newer_release_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text(json.dumps({"format_version": 2, "something": "new"}))
    with pytest.raises(PlanError, match="has format 2, this release reads up to 1"):
        read_plan(tmp_path)


def test_keys_that_this_release_does_not_know_are_passed_over(tmp_path: Path) -> None:
    more = {**msgspec.to_builtins(plan_of()), "note": "by hand"}
    (tmp_path / PLAN).write_text(json.dumps(more))
    assert read_plan(tmp_path) == plan_of()


def test_hosts_that_serve_the_same_have_one_digest() -> None:
    assert plan_of(generation=1).digest == plan_of(generation=9).digest
    assert plan_of().digest != plan_of(PlannedBundle(version="3", manifest_sha256="cd34")).digest


def test_a_kill_before_the_rename_leaves_the_old_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    write_plan(tmp_path, plan_of())
    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_plan(tmp_path, plan_of(generation=2))
    assert read_plan(tmp_path) == plan_of()


def test_the_lock_holds_a_second_writer_back(tmp_path: Path) -> None:
    def second() -> None:
        with plan_lock(tmp_path):
            write_plan(tmp_path, plan_of(generation=2))

    writer = threading.Thread(target=second, daemon=True)
    with plan_lock(tmp_path):
        writer.start()
        writer.join(0.05)
        assert writer.is_alive()
        write_plan(tmp_path, plan_of())
    writer.join(5)
    assert read_plan(tmp_path) == plan_of(generation=2)
