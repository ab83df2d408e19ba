"""A server of two workers with the sample in service, for tests of what clients may send it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.bundles import sample_row, serve_sample
from tests.raw_http import exchange_raw, request
from tests.test_server_process import GUNICORN, Server, running, wait_for

GOOD = json.dumps(sample_row()).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Whatever the tests of a file do to it, no traceback gets in its log."""
    home = tmp_path_factory.mktemp("hostile")
    serve_sample(home / "models" / "registry")
    with running(home, *GUNICORN) as server:
        wait_for(lambda: len(server.workers()) == 2, "both workers")
        yield server
        assert "Traceback" not in server.log()


def is_answered(server: Server) -> bool:
    return exchange_raw(server.port, request(GOOD)).status == 200
