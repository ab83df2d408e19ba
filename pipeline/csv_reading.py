"""Reads CSV of any delimiter, quoting and encoding, with little more memory than the table takes.

Arrow's streaming reader takes the type of each column from the first block. When a later block disagrees, reading
starts anew with that column's type widened: to a real number, else to text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from pipeline.arrow_frames import to_frame
from pipeline.errors import InputError
from pipeline.table_reading import MISSING_WORDS
from pipeline.text_files import text_encoding

DELIMITERS = ",;\t|"
HEAD_CHARACTERS = 1 << 18
HEAD_ROWS = 2_000
BLOCK_BYTES = 4 << 20
RESTARTS = 8
_LEADING_ZERO = re.compile(r"[+-]?0\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+")
_CONFLICT = re.compile(r"In CSV column #(\d+): CSV conversion error to (\S+): invalid value '(.*)'", re.DOTALL)
_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+)")


@dataclass(frozen=True)
class Dialect:
    encoding: str
    delimiter: str
    decimal_point: str
    header: list[str]
    #: Columns whose numbers have leading zeros (postcodes, account numbers): text, or the zeros are lost.
    zero_led: frozenset[str]


def read_csv(
    path: Path, address: str, delimiter: str | None, encoding: str | None, text_columns: Collection[str]
) -> pd.DataFrame:
    dialect = find_dialect(path, address, delimiter, encoding)
    if len(set(dialect.header)) < len(dialect.header):
        return pd.DataFrame(columns=pd.Index(dialect.header, dtype=object))  # the caller names the repeated ones
    wanted = set(text_columns)
    types = {name: pa.string() for name in dialect.header if name.strip() in wanted or name in dialect.zero_led}
    return to_frame(_read(path, address, dialect, types), address)


def find_dialect(path: Path, address: str, delimiter: str | None, encoding: str | None) -> Dialect:
    found = text_encoding(path, address, encoding)
    with path.open(encoding=found, newline="") as stream:
        head = stream.read(HEAD_CHARACTERS)
        whole = len(head) < HEAD_CHARACTERS
    if not head.strip():
        raise InputError(f"{address}: the file is empty; give a table with a header and rows")
    chosen = delimiter or max(DELIMITERS, key=lambda candidate: _fit(head, candidate, whole))
    rows = _head_rows(head, chosen, whole)
    if not rows:
        raise InputError(f"{address}: is no CSV table: no header row can be read; set data.delimiter or data.format")
    header, body = rows[0], rows[1:]
    return Dialect(found, chosen, _decimal(chosen, body), header, _zero_led(header, body))


def _head_rows(head: str, delimiter: str, whole: bool) -> list[list[str]]:
    """Rows of the head, without blank lines and without the last one, which may be cut."""
    try:
        rows = [row for row in islice(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), HEAD_ROWS) if row]
    except csv.Error:
        return []
    return rows if whole or len(rows) == HEAD_ROWS or len(rows) < 2 else rows[:-1]


def _fit(head: str, delimiter: str, whole: bool) -> tuple[float, int]:
    """How well a delimiter explains the head: the share of rows as wide as the header, then the width."""
    rows = _head_rows(head, delimiter, whole)[:200]
    if not rows or len(rows[0]) < 2:
        return 0.0, 0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])


def _decimal(delimiter: str, rows: list[list[str]]) -> str:
    """A comma where fields such as `3,25` occur, `3.25` does not, and not all look like thousands (`3,250`)."""
    if delimiter == ",":
        return "."
    fields = [field.strip() for row in rows[:500] for field in row]
    commas = [field for field in fields if _DECIMAL_COMMA.fullmatch(field)]
    points = any(_DECIMAL_POINT.fullmatch(field) for field in fields)
    return "," if not points and any(len(field.partition(",")[2]) != 3 for field in commas) else "."


def _zero_led(header: list[str], rows: list[list[str]]) -> frozenset[str]:
    found = {
        position
        for row in rows
        for position, field in enumerate(row)
        if field[:1] in "0+-" and _LEADING_ZERO.fullmatch(field)
    }
    return frozenset(header[position] for position in found if position < len(header))


def _read(path: Path, address: str, dialect: Dialect, types: dict[str, pa.DataType]) -> pa.Table:
    for _ in range(RESTARTS):
        try:
            table = _open(path, dialect, types, stream=True)
            times = [name for name in table.column_names if pa.types.is_time(table.schema.field(name).type)]
            if not times:
                return table
            types |= dict.fromkeys(times, pa.string())  # times of day are levels: their spelling is kept
        except (pa.ArrowInvalid, UnicodeError) as error:
            conflict = _CONFLICT.search(str(error))
            if conflict is None:
                raise _unreadable(path, address, dialect, str(error)) from None
            name = dialect.header[int(conflict[1])]
            types[name] = _wider(conflict[2], conflict[3], dialect.decimal_point)
    try:  # many columns disagree: let Arrow hold the whole file, which settles all of them in one pass
        return _open(path, dialect, types, stream=False)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _unreadable(path, address, dialect, str(error)) from None


def _open(path: Path, dialect: Dialect, types: dict[str, pa.DataType], stream: bool) -> pa.Table:
    options = {
        "read_options": pa_csv.ReadOptions(block_size=BLOCK_BYTES, encoding=_arrow_encoding(dialect.encoding)),
        "parse_options": pa_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        "convert_options": pa_csv.ConvertOptions(
            column_types=types,
            null_values=list(MISSING_WORDS),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            decimal_point=dialect.decimal_point,
        ),
    }
    with path.open("rb") as file:
        if stream:
            with pa_csv.open_csv(file, **options) as reader:
                return reader.read_all()
        return pa_csv.read_csv(file, **options)


def _arrow_encoding(encoding: str) -> str:
    return "utf8" if encoding in ("utf-8", "utf-8-sig") else encoding


def _wider(failed: str, value: str, decimal_point: str) -> pa.DataType:
    if failed.startswith(("int", "null")):
        try:
            float(value.replace(decimal_point, "."))
        except ValueError:
            return pa.string()
        return pa.float64()
    return pa.string()


def _unreadable(path: Path, address: str, dialect: Dialect, message: str) -> InputError:
    ragged = _RAGGED.search(message)
    if ragged is None:
        return InputError(f"{address}: is no CSV table: {' '.join(message.split())[:160]}; mend the file")
    place = _ragged_line(path, dialect)
    return InputError(
        f"{address}: {place} has {ragged[2]} fields where the header has {ragged[1]}; "
        "mend that line, or set data.delimiter or data.format"
    )


def _ragged_line(path: Path, dialect: Dialect) -> str:
    try:
        with path.open(encoding=dialect.encoding, newline="") as stream:
            reader = csv.reader(stream, delimiter=dialect.delimiter)
            for row in reader:
                if row and len(row) != len(dialect.header):
                    return f"line {reader.line_num}"
    except csv.Error:
        pass
    return "a line"
