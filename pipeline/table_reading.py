"""Reads a table from wherever it is: a file of any known format, an fsspec address, or a query to a database.

What means 'missing' is decided here, once: an empty field, and the unquoted words of `MISSING_WORDS`. `None`, `?` and
`-` stay what they are, since they are levels of real columns ('Membership: None'); `column_kinds` takes them as missing
where everything else in the column is a number or a date. The source is only ever read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.home import sqlite_url_under_home, under_home
from config.settings import DataSettings
from pipeline.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Words that stand for 'no value' in an unquoted CSV field or a spreadsheet's cell.
MISSING_WORDS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".tab": "csv", ".dat": "csv", ".data": "csv",
    ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
    ".xlsx": "excel", ".xlsm": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
DATABASES = (
    "sqlite",
    "postgresql",
    "postgres",
    "mysql",
    "mariadb",
    "mssql",
    "oracle",
    "duckdb",
    "snowflake",
    "bigquery",
)


@dataclass(frozen=True)
class Table:
    """A table as it was read: columns have distinct, non-empty text names; nothing is interpreted yet."""

    frame: pd.DataFrame
    #: Where it came from, for people: never holds a password.
    source: str
    #: Every row is of the generated sample.
    sample: bool = False

    @property
    def rows(self) -> int:
        return len(self.frame)


def read_table(settings: DataSettings, source: str | Path | None = None, text_columns: Collection[str] = ()) -> Table:
    """Reads `source`, or the configured one.

    A relative `source` is relative to the caller's folder, a configured one to the state root. `text_columns` are kept
    as text (a CSV otherwise turns `007` into a number): the categorical features of a schema or a configuration.

    Raises:
        InputError: there is no such source, it is empty, or it is no table.
    """
    address = str(source) if source is not None else _configured(settings.source)
    if _is_database(address):
        return _checked(_read_query(address, settings.query), _without_password(address))
    with _local_copy(address) as path:
        kind = settings.format if settings.format != "auto" else _format_of(path, address)
        frame = _read_file(path, kind, address, settings, text_columns)
    return _checked(frame, address)


def _configured(source: str) -> str:
    return source if "://" in source else str(under_home(source))


def _is_database(address: str) -> bool:
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.partition("+")[0].lower() in DATABASES


def _read_file(
    path: Path, kind: str, address: str, settings: DataSettings, text_columns: Collection[str]
) -> pd.DataFrame:
    if path.stat().st_size == 0:
        raise InputError(f"{address}: the file is empty; give a table with a header and rows")
    if kind == "csv":
        from pipeline.csv_reading import read_csv

        return read_csv(path, address, settings.delimiter, settings.encoding, text_columns)
    if kind in ("json", "jsonl"):
        from pipeline.json_reading import read_json

        return read_json(path, address, settings.encoding)
    return _read_parquet(path, address) if kind == "parquet" else _read_excel(path, address, settings.sheet)


def _format_of(path: Path, address: str) -> str:
    """By the name's ending; else by the first bytes."""
    name = address.partition("?")[0].lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    known = FORMATS.get(Path(name).suffix)
    if known is not None:
        return known
    with path.open("rb") as stream:
        head = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        return "excel"
    return "json" if head[:1] in (b"{", b"[") else "csv"


@contextmanager
def _local_copy(address: str) -> Iterator[Path]:
    """A plain local file: the file itself, or a copy, fetched and uncompressed, that goes away afterwards."""
    if "://" not in address and not address.lower().endswith(COMPRESSIONS):
        yield _local_file(Path(address).expanduser(), address)
        return
    if "://" not in address:
        _local_file(Path(address).expanduser(), address)
    with tempfile.TemporaryDirectory(prefix="mlops-data-") as folder:
        copy = Path(folder) / "table"
        _fetch(address, copy)
        yield copy


def _local_file(path: Path, address: str) -> Path:
    if not path.exists():
        raise InputError(f"{address}: there is no such file; give the path of a table with --data or data.source")
    if not path.is_file():
        raise InputError(f"{address}: is not a file; give the path of one table")
    if not os.access(path, os.R_OK):
        raise InputError(f"{address}: may not be read by this user; change its permissions")
    return path


def _fetch(address: str, copy: Path) -> None:
    import fsspec

    try:
        with fsspec.open(address, "rb", compression="infer") as remote, copy.open("wb") as local:
            shutil.copyfileobj(remote, local, 1 << 20)
    except ImportError as error:
        raise InputError(f"{address}: needs a package that is not installed: {_one_line(error)}") from None
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError):  # no answer at all, which fsspec calls by the same name
            raise InputError(f"{address}: cannot be reached: {_one_line(error.__cause__)}") from None
        raise InputError(f"{address}: there is nothing at this address") from None
    except Exception as error:  # each file system has its own errors
        raise InputError(f"{address}: cannot be read: {_one_line(error)}") from None


def _read_parquet(path: Path, address: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.arrow_frames import to_frame

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{address}: is no readable Parquet file ({_one_line(error)}); write it again") from None
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    return to_frame(table.drop_columns(index).replace_schema_metadata(None), address)


def _read_excel(path: Path, address: str, sheet: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        with pd.ExcelFile(path) as book:
            if sheet is not None and sheet not in book.sheet_names:
                names = ", ".join(map(str, book.sheet_names))
                raise InputError(f"{address}: has no sheet '{sheet}'; data.sheet can be one of: {names}")
            frame = pd.read_excel(
                book, sheet_name=sheet or 0, header=None, keep_default_na=False, na_values=list(MISSING_WORDS)
            )
    except InputError:
        raise
    except Exception as error:  # openpyxl lets errors of zipfile, XML and its own through
        raise InputError(f"{address}: is no readable Excel file ({_cause(error)}); save it again as .xlsx") from None
    if frame.empty:
        raise InputError(f"{address}: the sheet is empty; give a table with a header and rows")
    body = frame.iloc[1:].reset_index(drop=True).infer_objects()
    body.columns = pd.Index([_cell_name(value) for value in frame.iloc[0]], dtype=object)
    return body


def _cause(error: Exception) -> str:
    """Without pandas' advice to its own caller."""
    return "its content is another format" if "format cannot be determined" in str(error) else _one_line(error)


def _cell_name(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_query(url: str, query: str | None) -> pd.DataFrame:
    import pandas as pd
    import sqlalchemy as sa

    where = _without_password(url)
    if not query:
        raise InputError(f"{where}: is a database; set data.query to the query whose rows are the table")
    try:
        address = sa.make_url(sqlite_url_under_home(url))
        # A connection would create the missing file of a SQLite database.
        if address.drivername.startswith("sqlite") and address.database not in (None, "", ":memory:"):
            _local_file(Path(str(address.database)), where)
        engine = sa.create_engine(address)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise InputError(f"{where}: no connection can be made: {_one_line(error)}") from None
    try:
        with engine.connect() as connection:
            return pd.read_sql_query(sa.text(query), connection)
    except (sa.exc.SQLAlchemyError, pd.errors.DatabaseError) as error:
        cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
        raise InputError(f"{where}: data.query failed: {_one_line(cause)}") from None
    finally:
        engine.dispose()


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _checked(frame: pd.DataFrame, source: str) -> Table:
    """Names are trimmed and told apart; a table without rows or with two columns of one name is refused."""
    names = [str(name).strip() or f"column_{position}" for position, name in enumerate(frame.columns, start=1)]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        shown = ", ".join(f"'{name}'" for name in repeated[:5])
        raise InputError(f"{source}: several columns are called {shown}; rename them so that each name is used once")
    if not names:
        raise InputError(f"{source}: holds no columns; give a table with a header and rows")
    if len(frame) == 0:
        raise InputError(f"{source}: has a header and no rows; give a table with rows")
    frame.columns = _plain_index(names)
    return Table(frame=frame, source=source)


def _plain_index(names: list[str]) -> pd.Index[Any]:
    import pandas as pd

    return pd.Index(names, dtype=object)
