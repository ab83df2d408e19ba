"""What MLflow raises, as a reason and a next step: its own words name neither the storage nor the user."""

from __future__ import annotations

import re
from typing import Any

from config.errors import mend

#: The password of an address, up to the last @ of its host part.
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")

#: Words of a tracking server's refusal, what they mean, and what to do; the first that fit are taken.
_REFUSALS = (
    (
        ("error code 401", "not authenticated"),
        "it does not know who asks",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of it and the password",
    ),
    (
        ("Invalid Host header",),
        "it does not answer to this host name",
        "add the name to its --allowed-hosts",
    ),
    (
        ("error code 403", "Permission denied"),
        "this user may not do that",
        "give the user of MLFLOW_TRACKING_USERNAME the permission in MLflow",
    ),
    (
        ("mlflow-artifacts/", "Failed to download artifacts", "failures occurred while downloading"),
        "the storage of its files is down, lacks them, or refuses its key",
        "see the log of the MLflow server for which; nothing else here needs the storage",
    ),
)


#: What this host's own disk says, also from within a sentence of MLflow.
_OF_THIS_HOST = ("No space left", "[Errno 13]", "Read-only file system")


def explained(error: Exception, *, is_server: bool) -> tuple[str, str]:
    """Why it failed and what to do; `is_server`: a tracking server was asked, not a database that is opened here."""
    text = str(error)
    if (fault := _of_this_host(error)) is not None:
        return fault, mend(text, "let this user read and write below the state root")
    answered = is_server and "Connection refused" not in text and "timed out" not in text
    for words, reason, next_step in _REFUSALS if answered else ():
        if any(word in text for word in words):
            return reason, next_step
    return first_line(error), mend(text, "check `mlflow_uri` and that MLflow answers there")


def _of_this_host(error: Exception) -> str | None:
    """The line that tells of a file here that could not be written or read, whatever else is said."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return first_line(error)
    lines = without_passwords(str(error)).splitlines()
    return next((line.strip()[:300] for line in lines if any(word in line for word in _OF_THIS_HOST)), None)


def is_mlflows(error: Exception) -> bool:
    if isinstance(error, OSError):  # also those of requests
        return True
    return type(error).__module__.partition(".")[0] in {
        "mlflow",
        "sqlalchemy",
        "sqlite3",
        "psycopg",
        "botocore",
        "boto3",
    }


def first_line(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "Read timed out" in str(error) or "ConnectTimeout" in str(error):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError) or "Connection refused" in str(error):
        return "the connection was refused"
    lines: list[Any] = (
        without_passwords(str(error)).strip().splitlines()
    )  # before it is cut, which may leave half of one
    return str(lines[0])[:300].rstrip(".") if lines else type(error).__name__


def without_passwords(text: str) -> str:
    """An address, or a sentence with addresses in it: MLflow's own words repeat the one that it was asked at."""
    return _PASSWORD.sub(r"\1:***@", text)
