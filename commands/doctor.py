"""`doctor`: looks at everything the product stands on, and says of each thing whether it is right and what to do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from config.home import PROJECT_ROOT, is_absent_sqlite, state_home, under_home
from config.settings import (
    ConfigurationError,
    Settings,
    configuration_path,
    load_settings,
    logs_directory,
    registry_directory,
)
from config.state_lock import lock_holder
from models.serving_plan import PlanError, read_plan
from pipeline.health import server_address

LOW_DISK_BYTES = 1_000_000_000
SERVER_SECONDS = 2.0
#: The scheduler reads every few seconds; what waits for longer waits for somebody.
LAGGING_SECONDS = 600.0


class Finding(Struct, frozen=True, kw_only=True):
    subject: str
    level: Literal["ok", "warn", "error"]
    message: str
    #: What to do; empty when it is ok.
    next: str = ""


def diagnose() -> list[Finding]:
    """All findings, in the order in which things depend on each other. Makes an absent state root and store."""
    findings = [_python(), *_packages(), _home()]
    try:
        settings = load_settings()
    except ConfigurationError as error:
        problem = Finding(subject="configuration", level="error", message=str(error), next="mend the key it names")
        return [*findings, problem]
    findings.append(_ok("configuration", f"{configuration_path()} is valid"))
    for check in CHECKS:
        findings += check(settings)
    return findings


def _ok(subject: str, message: str) -> Finding:
    return Finding(subject=subject, level="ok", message=message)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return _ok("python", f"Python {version}")


def _packages() -> Iterator[Finding]:
    """Compares what is installed with what is pinned."""
    from packaging.requirements import Requirement

    wrong = []
    pins = PROJECT_ROOT / "requirements.txt"
    if not pins.is_file():
        yield Finding(subject="packages", level="warn", message=f"{pins} is not there", next="install from the sources")
        return
    lines = pins.read_text(encoding="utf-8").splitlines()
    for pin in (Requirement(line.removesuffix("\\")) for line in lines if line[:1].isalnum()):
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            found = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            found = "absent"
        if found not in pin.specifier:
            wrong.append(f"{pin.name} {found} (pinned {pin.specifier})")
    if wrong:
        yield Finding(
            subject="packages",
            level="warn",
            message=f"not as pinned: {', '.join(wrong[:8])}",
            next=f"{sys.executable} -m pip install -r requirements.txt",
        )
    else:
        yield _ok("packages", "as pinned in requirements.txt")


def _home() -> Finding:
    home = state_home()
    with suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    if home.is_dir() and os.access(home, os.W_OK):
        return _ok("state root", f"{home} can be written")
    return Finding(
        subject="state root",
        level="error",
        message=f"{home} cannot be written",
        next="make the folder, give this user the right to write there, or set MLOPS_HOME to another",
    )


def _disk(_settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(state_home())).free
    text = f"{free / 1e9:.1f} GB free under {state_home()}"
    if free < LOW_DISK_BYTES:
        yield Finding(subject="disk", level="warn", message=text, next="free some space: logs and models need it")
    else:
        yield _ok("disk", text)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _data(settings: Settings) -> Iterator[Finding]:
    source = settings.data.source
    if "://" in source or under_home(source).exists():
        yield _ok("data", f"{source}, target {settings.target_column}")
    else:
        yield Finding(
            subject="data",
            level="warn",
            message=f"{under_home(source)} is not there",
            next="python generate_sample_data.py, or python main.py init --data FILE --target COLUMN",
        )


def _store(settings: Settings) -> Iterator[Finding]:
    from monitoring.store import Store, StoreError

    try:
        with Store(settings.store_address) as store:
            yield _ok("store", store.address)
    except StoreError as error:
        yield Finding(subject="store", level="error", message=str(error), next="check store.url, or start the database")


def _registry(settings: Settings) -> Iterator[Finding]:
    from models.mlflow_errors import without_passwords
    from models.mlflow_registry import Registry, RegistryError

    if is_absent_sqlite(settings.mlflow_address):
        yield _ok("mlflow", f"{settings.mlflow_uri} is made by the first run")
        return
    try:
        champion = Registry(settings.mlflow_address, settings.registered_model_name).champion()
    except RegistryError as error:
        yield Finding(
            subject="mlflow", level="error", message=str(error), next="check mlflow_uri, or start the MLflow server"
        )
        return
    yield _ok("mlflow", f"{without_passwords(settings.mlflow_uri)}, champion {champion or 'none yet'}")
    serving = _planned_version()
    if champion is not None and serving is not None and champion != serving:
        yield Finding(
            subject="serving plan",
            level="warn",
            message=f"the champion is version {champion}, this host serves {serving}",
            next="python main.py sync, and python main.py to have it followed",
        )


def _planned_version() -> str | None:
    try:
        plan = read_plan(registry_directory())
    except PlanError:
        return None
    return plan.champion.version if plan and plan.champion else None


def _scheduler(_settings: Settings) -> Iterator[Finding]:
    holder = lock_holder("scheduler")
    if holder is None:
        yield Finding(subject="scheduler", level="warn", message="not running", next="python main.py")
    else:
        yield _ok("scheduler", holder)


def _serving(_settings: Settings) -> Iterator[Finding]:
    from models.bundle import BundleError, read_bundle
    from models.runtime import ModelRuntime

    try:
        plan = read_plan(registry_directory())
        if plan is None or plan.champion is None:
            yield Finding(
                subject="serving plan", level="warn", message="nothing is in service yet", next="python main.py run"
            )
            return
        bundle = read_bundle(registry_directory() / plan.champion.version, plan.champion.manifest_sha256)
        ModelRuntime(bundle).check()
    except (PlanError, BundleError) as error:
        yield Finding(subject="serving plan", level="error", message=str(error), next="python main.py sync")
        return
    yield _ok("serving plan", f"version {plan.champion.version} is whole and answers its stored rows")


def _server(settings: Settings) -> Iterator[Finding]:
    url = server_address(settings)
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=SERVER_SECONDS):  # noqa: S310 - our own address
            yield _ok("server", f"{url} is ready")
    except urllib.error.HTTPError as error:
        yield Finding(
            subject="server", level="warn", message=f"{url}/ready answers {error.code}", next=f"curl {url}/ready"
        )
    except OSError:
        occupied = _occupied(settings)
        yield Finding(
            subject="server",
            level="warn",
            message=f"{url} is in use by something else" if occupied else f"no server at {url}",
            next="set MLOPS_DEPLOYMENT__MODEL_SERVE_PORT to a free port" if occupied else "python main.py serve",
        )


def _logs(settings: Settings) -> Iterator[Finding]:
    from monitoring.log_lag import log_lag
    from monitoring.log_source import source_path
    from monitoring.store import Store, StoreError

    folder = logs_directory()
    if not folder.exists():
        yield _ok("logs", f"{folder} is made by the first prediction")
        return
    try:
        with Store(settings.store_address) as store:
            lag = log_lag(store, folder, source_path(), datetime.now(UTC))
    except StoreError as error:
        yield Finding(subject="logs", level="warn", message=f"they are not read: {error}", next="mend the store")
        return
    if lag.oldest_unread_seconds is None or lag.oldest_unread_seconds < LAGGING_SECONDS:
        yield _ok("logs", "read into the store" if lag.last_read_at else f"nothing to read in {folder}")
        return
    yield Finding(
        subject="logs",
        level="warn",
        message=f"{lag.unread_bytes:,} bytes wait to be read, the oldest for {lag.oldest_unread_seconds / 60:,.0f} min",
        next="keep python main.py running (or python main.py sync --watch where only a server is); "
        "python main.py monitor reads them now",
    )


def _withheld(settings: Settings) -> Iterator[Finding]:
    """Features that the field policy keeps from monitoring."""
    from models.bundle import SCHEMA, BundleError, read_manifest, read_verified
    from models.schema import Schema

    version = _planned_version()
    hidden = {name for name, action in settings.logging.fields.items() if action != "keep"}
    if not hidden or version is None:
        return
    place = registry_directory() / version
    try:
        schema = msgspec.json.decode(read_verified(place, read_manifest(place)[0], SCHEMA), type=Schema)
    except (BundleError, msgspec.MsgspecError):  # told above
        return
    if features := sorted(hidden.intersection(schema.feature_names)):
        yield Finding(
            subject="log fields",
            level="warn",
            message=f"hashed or dropped in the log, so no part of drift or of retraining from feedback: "
            f"{', '.join(features)}",
            next="set them to keep under logging.fields, unless this is meant",
        )


def _occupied(settings: Settings) -> bool:
    address = urllib.parse.urlsplit(server_address(settings))
    try:
        socket.create_connection((address.hostname, address.port), timeout=1).close()
    except OSError:
        return False
    return True


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    *(_disk, _data, _store, _registry, _serving, _server, _logs, _withheld, _scheduler),
)
