"""docker/smoke_check.py: the parts that can be tried without containers, against a real server."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from api.keys import create_key
from tests.bundles import serve_sample
from tests.test_server_process import GUNICORN, Server, running, wait_for

pytestmark = pytest.mark.integration
SCRIPT = Path(__file__).resolve().parent.parent / "docker" / "smoke_check.py"


@pytest.fixture(scope="module")
def smoke() -> ModuleType:
    specification = importlib.util.spec_from_file_location("smoke_check", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with keys and a model, and the key of people's programs."""
    home = tmp_path_factory.mktemp("state") / "home"
    key = create_key(home / "keys.json", "people", ["predict", "read"], datetime(2026, 1, 2, tzinfo=UTC)).key
    serve_sample(home / "models" / "registry")
    with running(home, *GUNICORN) as found:
        wait_for(lambda: found.get("/ready")[0] == 200, "the model is loaded")
        yield found, key


@pytest.fixture
def addresses(smoke: ModuleType, server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("API_KEY", server[1])
    monkeypatch.setenv("API_PORT", str(server[0].port))
    monkeypatch.setenv("MLFLOW_ADMIN_PASSWORD", "any")
    return smoke.Addresses()


def test_a_row_from_the_models_own_schema_is_answered(smoke: ModuleType, addresses: Any) -> None:
    row = smoke.sample_row(smoke.get(f"{addresses.api_url}/model_info", addresses.key))
    assert smoke.check_prediction(addresses, row) == "1"


def test_a_wrong_key_is_told(smoke: ModuleType, addresses: Any) -> None:
    addresses.key["Authorization"] = "Bearer nobodys"
    with pytest.raises(smoke.CheckError, match=r"/predict answered 401"):
        smoke.check_prediction(addresses, {})


def test_the_load_keeps_what_was_answered_and_what_was_not(
    smoke: ModuleType, addresses: Any, server: tuple[Server, str]
) -> None:
    row = smoke.sample_row(smoke.get(f"{addresses.api_url}/model_info", addresses.key))
    with smoke.Load(addresses, row) as load:
        load.wait_for_more()
    logged = "".join(path.read_text() for path in (server[0].home / "logs").glob("predictions_*.jsonl"))
    ids = re.findall(r'"prediction_id":"([^"]+)"', logged)
    assert len(load.answered) >= 100 and {ids.count(name) for name in load.answered} == {1}
    assert load.failures == []
    with smoke.Load(addresses, {}) as refused:
        wait_for(lambda: len(refused.failures) > 3, "refusals")
    assert refused.answered == [] and refused.failures[0].startswith("422")


def test_without_secrets_it_says_what_comes_first(
    smoke: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(smoke, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["smoke_check.py"])
    assert smoke.main() == 1
    assert "first: python3 docker/init_env.py" in capsys.readouterr().err


def test_a_system_that_is_not_up_is_a_failure_in_one_sentence(
    smoke: ModuleType, addresses: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_PORT", "1")
    monkeypatch.setattr("sys.argv", ["smoke_check.py", "--wait", "0"])
    assert smoke.main() == 1
    assert capsys.readouterr().err.startswith("FAILED: waited 0 s in vain for the first model")
