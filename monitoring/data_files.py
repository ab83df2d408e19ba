"""The archived data files that retraining reads: which file came when, and with what content."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import select

from monitoring.store import Store, to_record, upsert
from monitoring.tables import data_files


class DataFile(Struct, frozen=True, kw_only=True):
    id: int
    path: str
    #: Of the content, hex.
    sha256: str
    rows: int
    added_at: datetime
    #: The run that took it in.
    run_id: str | None


class DataFiles:
    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, path: str, sha256: str, rows: int, at: datetime, run_id: str | None = None) -> DataFile:
        """Adding a path again (a run repeated after a crash) replaces what was recorded of it."""
        values = {"sha256": sha256, "rows": rows, "added_at": at, "run_id": run_id}
        with self._store.writing() as connection:
            upsert(connection, data_files, {"path": path}, values)
            row = connection.execute(select(data_files).where(data_files.c.path == path)).one()
        return to_record(row, DataFile)

    def all(self) -> list[DataFile]:
        """Oldest first."""
        with self._store.reading() as connection:
            rows = connection.execute(select(data_files).order_by(data_files.c.added_at, data_files.c.id))
            return [to_record(row, DataFile) for row in rows]

    def with_content(self, sha256: str) -> DataFile | None:
        """The first file that had this content; tells a file that was delivered twice."""
        query = select(data_files).where(data_files.c.sha256 == sha256).order_by(data_files.c.id).limit(1)
        with self._store.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else to_record(row, DataFile)
