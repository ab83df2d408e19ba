"""The history of promotions: what was put in service, when, by whom and why; only ever appended to.

An entry is written as an intent before the alias moves, and marked done after the serving plan is replaced, so that a
crash between the two is seen and repaired by the next start.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import func, insert, select, update

from monitoring.store import Store, to_record
from monitoring.tables import promotions

#: `follow` is a move of the alias that somebody made outside the product, in the MLflow UI.
PromotionKind = Literal["first", "promote", "rollback", "follow"]


class Promotion(Struct, frozen=True, kw_only=True):
    id: int
    from_version: str | None
    to_version: str
    kind: PromotionKind
    who: str
    why: str
    evidence: dict[str, Any] | None
    intended_at: datetime
    done_at: datetime | None
    status: Literal["intended", "done", "abandoned"]


class PromotionHistory:
    def __init__(self, store: Store) -> None:
        self._store = store

    def intend(
        self,
        from_version: str | None,
        to_version: str,
        kind: PromotionKind,
        at: datetime,
        *,
        who: str,
        why: str,
        evidence: dict[str, Any] | None = None,
    ) -> Promotion:
        values = {"from_version": from_version, "to_version": to_version, "kind": kind, "who": who, "why": why}
        statement = insert(promotions).values(**values, evidence=evidence, intended_at=at, status="intended")
        with self._store.writing() as connection:
            return to_record(connection.execute(statement.returning(*promotions.c)).one(), Promotion)

    def mark_done(self, promotion_id: int, at: datetime) -> None:
        self._close(promotion_id, status="done", done_at=at)

    def abandon(self, promotion_id: int) -> None:
        """The alias did not move: the intent never took effect."""
        self._close(promotion_id, status="abandoned")

    def pending(self) -> list[Promotion]:
        """Intents that are neither done nor abandoned, oldest first: what a crash left."""
        query = select(promotions).where(promotions.c.status == "intended").order_by(promotions.c.id)
        return self._records(query)

    def latest(self, limit: int = 50) -> list[Promotion]:
        """Newest first, with those not done."""
        return self._records(select(promotions).order_by(promotions.c.id.desc()).limit(limit))

    def serving_at(self, time: datetime) -> str | None:
        """The version that served at `time`; None before the first promotion."""
        query = (
            select(promotions.c.to_version)
            .where(promotions.c.status == "done", promotions.c.done_at <= time)
            .order_by(promotions.c.done_at.desc(), promotions.c.id.desc())
            .limit(1)
        )
        with self._store.reading() as connection:
            version: str | None = connection.execute(query).scalar()
        return version

    def serving(self) -> str | None:
        """The version that was put in service last, whatever clocks said; None before the first promotion."""
        done = select(promotions.c.to_version).where(promotions.c.status == "done")
        with self._store.reading() as connection:
            version: str | None = connection.execute(done.order_by(promotions.c.id.desc()).limit(1)).scalar()
        return version

    def in_service_since(self, version: str) -> datetime | None:
        """When the version was put in service the last time; None when that was never recorded."""
        query = select(func.max(promotions.c.done_at)).where(
            promotions.c.status == "done", promotions.c.to_version == version
        )
        with self._store.reading() as connection:
            since: datetime | None = connection.execute(query).scalar()
        return since

    def rollback_target(self, champion: str) -> str | None:
        """The version that a rollback of `champion` returns to; None when nothing served before it.

        Promotions are a stack that rollbacks unwind, so that a second rollback goes further back, not forth again.
        """
        served: list[str] = []
        for entry in self._records(select(promotions).where(promotions.c.status == "done").order_by(promotions.c.id)):
            if entry.kind == "rollback" and entry.to_version in served:
                del served[_last(served, entry.to_version) + 1 :]
            elif not served or served[-1] != entry.to_version:
                served.append(entry.to_version)
        if served and served[-1] == champion:
            served.pop()
        return served[-1] if served else None

    def _close(self, promotion_id: int, **values: Any) -> None:
        statement = update(promotions).where(promotions.c.id == promotion_id, promotions.c.status == "intended")
        with self._store.writing() as connection:
            connection.execute(statement.values(**values))

    def _records(self, query: Any) -> list[Promotion]:
        with self._store.reading() as connection:
            return [to_record(row, Promotion) for row in connection.execute(query)]


def _last(items: list[str], item: str) -> int:
    return len(items) - 1 - items[::-1].index(item)
