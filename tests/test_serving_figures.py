"""What the server must hold beside its times, on the benchmark's models: memory, and answers while models change.

Times are in `benchmarks/serving.py`; these figures do not depend on how busy the machine is.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from api.model_server import load_model
from benchmarks.serving_setup import promote, set_up
from models.serving_plan import read_plan
from tests.test_server_process import GUNICORN, Server, Traffic, running, wait_for

pytestmark = pytest.mark.integration

_PSS = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)


class Homes(Struct, frozen=True):
    """A state root a model, under `folder`, each with versions 1 and 2; and rows to send."""

    folder: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    folder = tmp_path_factory.mktemp("figures")
    return Homes(folder, set_up(folder))


def pss_megabytes(server: Server) -> float:
    """Proportional memory of the whole tree of processes."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (server.process.pid, *server.workers())]
    return sum(int(kilobytes) for text in rollups for kilobytes in _PSS.findall(text)) / 1024


@pytest.mark.parametrize(("model", "most"), [("random_forest", 250), ("logistic_regression", 130)])
def test_two_workers_take_no_more_memory_after_load_than_promised(homes: Homes, model: str, most: float) -> None:
    promote(homes.folder / model, "1", 1)
    with running(homes.folder / model, *GUNICORN) as server, ExitStack() as load:
        wait_for(lambda: len(server.workers()) == 2, "both workers")
        loads = [load.enter_context(Traffic(server, 4, rows, homes.rows[0])) for rows in (1, 100, 1000)]
        for traffic in loads:
            traffic.wait_for_replies(100)
        load.close()
        assert [traffic.failures for traffic in loads] == [[], [], []]
        assert pss_megabytes(server) < most


def test_models_swapped_every_second_fail_no_request_and_answer_as_one_of_the_two(homes: Homes, soak: bool) -> None:
    """The forests, whose load takes longest; for a minute in the soak."""
    home, row = homes.folder / "random_forest", homes.rows[0]
    expected = {version: answer_of(home, version, row) for version in "12"}
    promote(home, "1", 1)
    with running(home, *GUNICORN) as server, Traffic(server, row=row) as traffic:
        wait_for(lambda: server.versions() == {"1"}, "version 1")
        for generation in range(2, 62 if soak else 8):
            promote(home, "12"[generation % 2], generation)
            time.sleep(1.0)  # the pace, which is the subject
        wait_for(lambda: server.versions() == {"12"[generation % 2]}, "the last one is in service")
        traffic.wait_for_replies(20)
    assert traffic.failures == []
    answers = {(reply["model_version"], tuple(reply["probability"][0])) for reply in traffic.replies}
    assert answers == set(expected.items())


def answer_of(home: Path, version: str, row: dict[str, Any]) -> tuple[float, ...]:
    """What one version answers, asked without a server."""
    promote(home, version, 1)
    plan = read_plan(home / "models" / "registry")
    assert plan is not None and plan.champion is not None
    model = load_model(home / "models" / "registry", plan.champion, 10)
    return tuple(model.score(model.decoder.validate([row])).probability[0])
