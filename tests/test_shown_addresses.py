"""The password in MLflow's address is shown nowhere, although MLflow's own words repeat the address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.settings import load_settings
from models.mlflow_connection import MlflowConnection, RegistryError
from models.mlflow_errors import first_line, without_passwords
from monitoring.incidents import Incidents
from monitoring.store import Store
from pipeline.scheduler import Scheduler
from tests.command_line import json_of
from tests.local_mlflow import failing_server
from tests.states import state

__all__ = ["state"]


@pytest.fixture
def failing(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address, with a password, of a tracking server in force that answers 503."""
    with failing_server() as port:
        address = f"http://alice:s3cretpw@127.0.0.1:{port}"
        monkeypatch.setenv("MLOPS_MLFLOW_URI", address)
        yield address


def test_a_server_that_fails_shows_its_password_in_no_log_file_status_or_incident(
    state: Path, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(load_settings().store_address) as store:
        work = Scheduler(load_settings(), store, lambda: datetime.now(UTC))
        work.troubles.tolerated = 0.0
        work._guarded("sync", work.follow)
        work.stop()
        told = [one.cause for one in Incidents(store).unresolved()]
    places = [caplog.text, (state / "run" / "registry.json").read_text(), json.dumps(json_of("status")), str(told)]
    for place in places:
        assert "alice:***@127.0.0.1" in place
        assert "s3cretpw" not in place


def test_a_sentence_that_names_the_address_again_hides_the_password_there_too(failing: str) -> None:
    connection = MlflowConnection(failing)
    with pytest.raises(RegistryError) as caught, connection.errors_explained("answer"):
        raise OSError(f"API request to {failing}/api failed")
    assert str(caught.value).count("alice:***@") == 2


def test_a_line_is_cut_after_its_passwords_are_hidden() -> None:
    assert "s3cret" not in first_line(OSError("x" * 270 + " http://alice:s3cretpw@a-host.example/"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://u:p@ss:word@h:5432/db", "postgresql+psycopg://u:***@h:5432/db"),
        ("http://u:p@h and https://:q@[::1]:5/a?b=c@d", "http://u:***@h and https://:***@[::1]:5/a?b=c@d"),
        ("http://h:80/a:b@c", "http://h:80/a:b@c"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_only_passwords_are_hidden(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
