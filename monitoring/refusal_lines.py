"""Lines of the log of refusals, which the server writes and ingestion reads; no store is needed for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

#: The log's name before the day.
REFUSALS_LOG = "refusals"
#: Longer names are cut: they are parts of a key.
LONGEST_FIELD = 250
#: The field and rule of rows with faults in many fields; and what stands for all refused rows.
SEVERAL, ALL = ("", "several"), ("", "all")
#: What each rule says of a row, after "they".
RULES = {
    "absent": "do not have {field}",
    "null": "send null for {field}, which features.required lists",
    "type": "send {field} as another type than the model's",
    "unknown": "hold a field that the model does not know",
    "target": "hold the column that is to be predicted",
    "several": "have faults in many fields at once",
}
_Field = Annotated[str, Meta(max_length=LONGEST_FIELD)]
_Name = Annotated[str, Meta(max_length=64)]
_Count = Annotated[int, Meta(ge=0, lt=2**53)]


class RefusedField(Struct, frozen=True, kw_only=True):
    """`field` is a feature of the model, or '' for what is of none. A row may count under several."""

    field: _Field
    rule: _Name
    rows: _Count
    #: In which those rows came: each once, however many rows it has.
    requests: _Count


class RefusalLine(Struct, frozen=True, kw_only=True):
    """What one worker refused of what was sent to one model version since its line before.

    Rows are those whose faults were told: the first 20 faults of a request.
    """

    timestamp: Annotated[datetime, Meta(tz=True)]
    model_version: _Name
    rows: _Count
    requests: _Count
    fields: list[RefusedField]
