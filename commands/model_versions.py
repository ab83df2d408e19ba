"""What `models …` and `sync` do: over the registry, the history and this host's plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from msgspec import Struct

from commands.people import user_name
from config.clock import utc_now
from config.errors import ProductError
from config.home import is_absent_sqlite
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from models.mlflow_registry import Registry, RegistryError, VersionInfo
from models.serving_plan import ServingPlan
from monitoring.promotion_history import Promotion, PromotionHistory, PromotionKind
from monitoring.store import Store
from pipeline.deployment import Deployment, DeploymentError
from pipeline.log_jobs import reading_logs
from pipeline.metrics_exporter import exporting
from pipeline.model_comparison import fit_between
from pipeline.patience import Patience
from pipeline.shutdown import Interrupted

log = logging.getLogger(__name__)


class VersionDetail(Struct, frozen=True, kw_only=True):
    version: VersionInfo
    promotions: list[Promotion]


class Comparison(Struct, frozen=True, kw_only=True):
    first: VersionInfo
    second: VersionInfo
    #: Metric to (first, second, second - first); a figure that one lacks is None.
    metrics: dict[str, tuple[float | None, float | None, float | None]]


class ServedAt(Struct, frozen=True, kw_only=True):
    at: datetime
    #: None when nothing was in service yet.
    model_version: str | None


class SyncOutcome(Struct, frozen=True, kw_only=True):
    plan: ServingPlan | None
    plan_digest: str | None


def list_versions() -> list[VersionInfo]:
    return _registry(load_settings()).versions()


def show_version(version: str) -> VersionDetail:
    """Raises `DeploymentError` when there is no such version."""
    info = _required(_registry(load_settings()), version)
    moves = [move for move in promotion_history() if version in (move.from_version, move.to_version)]
    return VersionDetail(version=info, promotions=moves)


def compare_versions(first: str, second: str) -> Comparison:
    """Figures of two versions, each on its own test part; raises `DeploymentError` when one is not there."""
    registry = _registry(load_settings())
    one, two = _required(registry, first), _required(registry, second)
    names = sorted(set(one.metrics) | set(two.metrics))
    return Comparison(first=one, second=two, metrics={name: _pair(one, two, name) for name in names})


def promote_version(version: str, why: str, force: bool) -> Promotion:
    """Puts a version in service by a person's decision.

    Raises:
        DeploymentError: no such version, no good bundle, it is in service already, or it does not fit the clients of
            the one in service and `force` is not set.
    """
    with _alone("main.py models promote") as deployment:
        _required(deployment.registry, version)
        champion = deployment.registry.champion()
        if champion == version:
            raise DeploymentError(f"version {version} is in service already")
        if champion is not None and not force:
            _require_fit(deployment, champion, version)
        kind: PromotionKind = "promote" if champion is not None else "first"
        return deployment.promote(version, kind, who=user_name(), why=why or "promoted by hand")


def rollback_version(why: str) -> Promotion:
    """Puts the version that served before back in service; raises `DeploymentError` when there is none."""
    with _alone("main.py models rollback") as deployment:
        champion = deployment.registry.champion()
        if champion is None:
            raise DeploymentError("nothing is in service yet; next: python main.py run")
        target = deployment.history.rollback_target(champion)
        if target is None:
            raise DeploymentError("nothing served before the version in service; `models list` shows what there is")
        return deployment.promote(
            target, "rollback", who=user_name(), why=why or f"rolled back from version {champion}"
        )


@contextmanager
def _alone(command: str) -> Iterator[Deployment]:
    """The deployment of this host while nobody else is at work, with what a kill left repaired."""
    settings = load_settings()
    with state_lock("pipeline", command), Store(settings.store_address) as store:
        deployment = Deployment.of(settings, store)
        deployment.recover()
        yield deployment


def promotion_history() -> list[Promotion]:
    """Newest first; those that a kill interrupted or a recovery gave up stand in it too."""
    address = load_settings().store_address
    if is_absent_sqlite(address):
        return []
    with Store(address) as store:
        return PromotionHistory(store).latest(1000)


def served_at(at: datetime) -> ServedAt:
    """Which version served at a time."""
    address = load_settings().store_address
    if is_absent_sqlite(address):
        return ServedAt(at=at, model_version=None)
    with Store(address) as store:
        return ServedAt(at=at, model_version=PromotionHistory(store).serving_at(at))


def sync_now() -> SyncOutcome:
    plan = _follower(load_settings()).sync(verify=True)
    return SyncOutcome(plan=plan, plan_digest=plan.digest if plan else None)


def watch_registry() -> None:
    """Follows the registry until a signal, and reads this host's logs into the store; what stands in the way is told
    once and waited for, and a store that is away holds up only the reading."""
    settings, told = load_settings(), ""
    deployment, patience = _follower(settings), Patience(settings.deployment.sync_interval)
    with suppress(Interrupted), reading_logs(settings), exporting(settings, utc_now):
        while True:
            try:
                with patience.attempt(RegistryError):
                    deployment.sync()
                told = ""
            except (ProductError, OSError) as error:
                if str(error) != told:
                    log.error("%s", error)
                told = str(error)
            time.sleep(patience.left or settings.deployment.sync_interval)


def _follower(settings: Settings) -> Deployment:
    """A deployment that only follows: it writes no history, so the store may be down, or elsewhere."""
    return Deployment.of(settings, Store(settings.store_address))


def _require_fit(deployment: Deployment, champion: str, version: str) -> None:
    """Raises `DeploymentError` unless what clients send the champion can be answered by the version too."""
    candidate = deployment.bundle(version)
    try:
        served = deployment.bundle(champion)
    except DeploymentError:  # what cannot be served has no clients
        return
    verdict = fit_between(served.schema, candidate.schema)
    if verdict.fit != "comparable":
        raise DeploymentError(
            f"version {version} cannot stand in for version {champion}: {verdict.reason}; to promote it all the same: "
            f"python main.py models promote {version} --force --why '…'"
        )


def _required(registry: Registry, version: str) -> VersionInfo:
    info = registry.version(version)
    if info is None:
        known = ", ".join(item.version for item in registry.versions()[:20]) or "none yet"
        raise DeploymentError(f"there is no version {version} of {registry.registered_name}; there are {known}")
    return info


def _pair(one: VersionInfo, two: VersionInfo, name: str) -> tuple[float | None, float | None, float | None]:
    before, after = one.metrics.get(name), two.metrics.get(name)
    return before, after, None if before is None or after is None else after - before


def _registry(settings: Settings) -> Registry:
    return Registry(settings.mlflow_address, settings.registered_model_name)
