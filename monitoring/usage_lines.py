"""Lines of the usage log, which the server writes and ingestion reads; no store is needed for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

#: The log's name before the day.
USAGE_LOG = "usage"


class UsageLine(Struct, frozen=True, kw_only=True):
    """What all workers of one server did since the line before."""

    timestamp: Annotated[datetime, Meta(tz=True)]
    #: How long that is.
    seconds: float
    #: Requests for predictions, and those that were answered with 500 or above.
    requests: int
    errors: int
    #: User and system time of the workers.
    cpu_milliseconds: int
    #: Resident memory of the live workers at the end, a page that several share counted for each; 0 if not known.
    memory_bytes: int
    workers: int
