"""What must not grow with time or with size; `make soak` runs two hours of load and ten million rows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.monitoring import measure_ingestion
from tests.bundles import serve_sample
from tests.log_reading import logged_lines
from tests.test_server_process import GUNICORN, Traffic, running, wait_for
from tests.test_serving_figures import pss_megabytes

pytestmark = pytest.mark.integration


def test_each_row_of_a_long_log_is_read_once_in_memory_that_does_not_grow(soak: bool) -> None:
    sizes = [100_000, 10_000_000] if soak else [20_000, 60_000]
    few, many = (measure_ingestion([rows])[str(rows)]["ingestion"] for rows in sizes)
    assert [found["first_rows"] + found["rows"] for found in (few, many)] == sizes
    assert many["peak_megabytes"] <= 1.15 * few["peak_megabytes"]


def test_load_for_long_loses_nothing_and_takes_no_more_memory_than_at_first(tmp_path: Path, soak: bool) -> None:
    serve_sample(tmp_path / "models" / "registry")
    answered, memory = 0, []
    with running(tmp_path, *GUNICORN) as server:
        wait_for(lambda: len(server.workers()) == 2, "both workers")
        end = time.monotonic() + (2 * 3600 if soak else 5)
        while time.monotonic() < end:
            with Traffic(server, rows=10) as traffic:
                traffic.wait_for_replies(2000 if soak else 300)
            assert traffic.failures == []
            answered += len(traffic.ids)
            memory.append(pss_megabytes(server))
    logged = len(logged_lines(tmp_path / "logs"))
    assert logged == answered
    assert memory[-1] <= 1.1 * memory[len(memory) // 4] + 5.0
