"""The way to MLflow: quiet, impatient, and with one kind of error.

    RegistryError           MLflow cannot be reached, or refused what was asked

MLflow is imported at the first use (its import takes seconds) and is told its address before any client is made.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from config.errors import ProductError
from models.mlflow_database import is_made, make_database
from models.mlflow_errors import explained, first_line, is_mlflows, without_passwords

if TYPE_CHECKING:
    from mlflow import MlflowClient

P = ParamSpec("P")
R = TypeVar("R")

#: A tracking server that hangs is given up after (1 + retries) × timeout; MLflow's own defaults wait for minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Files go through the tracking server: by itself, MLflow's client fetches them from S3 at addresses that the server
    # has signed, which needs a way to S3 from every host, and hangs where there is none.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
#: Files are sent and fetched with more patience than this product's short questions: who sends waits until MLflow has
#: stored it all, and who fetches until MLflow has it all from its storage, before which it sends no byte.
TRANSFER_SECONDS = "120"
CONNECT_SECONDS = 3.0
SQLITE = "sqlite:///"
HEAVY_MODULES = ("mlflow", "mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "skops.io")


class RegistryError(ProductError):
    """MLflow cannot be reached, or refused; the message says which one, why, and what to do."""


def set_environment() -> None:
    """MLflow's own variables, unless the user has set them; to be called before mlflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def preload() -> threading.Thread:
    """Imports MLflow in the background, while something else works; to be called after pandas and scikit-learn are
    imported, so that no module is imported by two threads at once."""
    set_environment()
    thread = threading.Thread(target=lambda: [importlib.import_module(name) for name in HEAVY_MODULES], daemon=True)
    thread.start()
    return thread


class MlflowConnection:
    """One MLflow address. `client` connects at its first use and raises `RegistryError` when it cannot."""

    def __init__(self, address: str) -> None:
        self.address = address

    @cached_property
    def client(self) -> MlflowClient:
        set_environment()
        _check_reachable(self.address)
        import mlflow

        _quieten()
        if self.address.startswith(SQLITE):
            make_database(_sqlite_file(self.address))
        mlflow.set_tracking_uri(self.address)
        mlflow.set_registry_uri(self.address)
        return mlflow.MlflowClient(tracking_uri=self.address, registry_uri=self.address)

    @property
    def is_local(self) -> bool:
        """A database that this process opens itself, instead of a tracking server."""
        return not self.address.startswith(("http://", "https://"))

    @contextmanager
    def errors_explained(self, intent: str) -> Iterator[None]:
        """Turns what MLflow raises into a `RegistryError` that says what could not be done (`intent`)."""
        try:
            yield
        except RegistryError:
            raise
        except Exception as error:
            if not is_mlflows(error):
                raise
            reason, next_step = explained(error, is_server=not self.is_local)
            sentence = f"MLflow at {self.address} could not {intent}: {reason}; {next_step}"
            raise RegistryError(without_passwords(sentence)) from error


class Connected(Protocol):
    connection: MlflowConnection


C = TypeVar("C", bound=Connected)


def asks_mlflow(intent: str) -> Callable[[Callable[Concatenate[C, P], R]], Callable[Concatenate[C, P], R]]:
    """For methods that talk to MLflow: their failures become `RegistryError`."""

    def decorate(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
        @wraps(method)
        def explained(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self.connection.errors_explained(intent):
                return method(self, *args, **kwargs)

        return explained

    return decorate


@contextmanager
def patient_transfer() -> Iterator[None]:
    """Long HTTP timeouts while files travel (MLflow reads them from the environment at each request)."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    usual = os.environ.get(name)
    if usual != ENVIRONMENT[name]:  # the user's own
        yield
        return
    os.environ[name] = TRANSFER_SECONDS
    try:
        yield
    finally:
        os.environ[name] = usual


def is_absent(error: Exception) -> bool:
    """Whether MLflow says that there is no such thing, rather than that it failed."""
    return getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def is_taken(error: Exception) -> bool:
    """Whether another one has just made what was to be made."""
    return getattr(error, "error_code", None) in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


def _check_reachable(address: str) -> None:
    """A short look before MLflow's own: it retries a database that is away for an hour."""
    try:
        if address.startswith(SQLITE):
            _check_sqlite(_sqlite_file(address))
        elif address.startswith(("http://", "https://")):
            _check_server(address)
        elif (parts := urlsplit(address)).hostname:
            socket.create_connection((parts.hostname, parts.port or 5432), CONNECT_SECONDS).close()
    except (OSError, sqlite3.Error, ValueError) as error:
        sentence = f"MLflow at {address} cannot be reached: {first_line(error)}; check `mlflow_uri`"
        raise RegistryError(without_passwords(sentence)) from error


def _check_server(address: str) -> None:
    """Any answer but a server error will do: whether this is MLflow, MLflow's client finds out."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    url = parts._replace(netloc=host, path=f"{parts.path.rstrip('/')}/health").geturl()
    try:
        urlopen(url, timeout=CONNECT_SECONDS).close()  # noqa: S310 (the scheme is checked by the caller)
    except HTTPError as error:
        error.close()
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ValueError(f"it answers {error.code}") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLError):  # MLflow has certificate settings of its own
            return
        raise error.reason if isinstance(error.reason, OSError) else error from None


def _sqlite_file(address: str) -> Path:
    return Path(address.removeprefix(SQLITE).partition("?")[0])


def _check_sqlite(path: Path) -> None:
    if not is_made(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    connection = sqlite3.connect(path, timeout=CONNECT_SECONDS)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    finally:
        connection.close()


def _quieten() -> None:
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a warning each time that it tries again
