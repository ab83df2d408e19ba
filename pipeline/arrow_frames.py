"""From an Arrow table to a pandas frame, column by column, without holding both at once."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from pipeline.errors import InputError

_TYPES = {pa.bool_(): pd.BooleanDtype()}


def to_frame(table: pa.Table, address: str) -> pd.DataFrame:
    """Consumes the table. Text becomes `str`, dates `datetime64`, nullable booleans `boolean`, times of day text."""
    names = table.column_names
    table = table.rename_columns([str(position) for position in range(len(names))])
    for position, column_type in enumerate(table.schema.types):
        wanted = _simpler(column_type)
        if wanted is not None:
            table = table.set_column(position, str(position), _cast(table.column(position), wanted))
    try:
        frame: pd.DataFrame = table.to_pandas(
            split_blocks=True, self_destruct=True, date_as_object=False, types_mapper=_TYPES.get
        )
    except pa.ArrowException as error:
        raise InputError(f"{address}: a column cannot be read: {' '.join(str(error).split())[:200]}") from None
    frame.columns = pd.Index(names, dtype=object)
    return frame


def _simpler(column_type: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_dictionary(column_type):
        return column_type.value_type
    if types.is_time(column_type) or types.is_binary(column_type) or types.is_large_binary(column_type):
        return pa.string()
    if types.is_decimal(column_type) or types.is_float16(column_type):
        return pa.float64()
    return None


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(wanted)
    except pa.ArrowException:
        # Bytes that are no text: nothing downstream can use them; their column counts as all missing.
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
