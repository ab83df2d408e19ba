"""The tables of the store. `monitoring/migrations` makes them; a test holds the two to each other."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from monitoring.alert_tables import deliveries, detections, incident_events, monitors
from monitoring.column_types import PlainJson, UtcDateTime, ValidText, metadata

__all__ = ["deliveries", "detections", "incident_events", "metadata", "monitors"]


def _estimate_sums() -> list[Column[int]]:
    names = ("estimated_rows", "estimate_millionths", "estimate_variance_millionths")
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in names]


runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("trigger", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("finished_at", UtcDateTime),
    Column("pid", Integer, nullable=False),
    Column("host", ValidText, nullable=False),
    Column("data_source", ValidText),
    Column("rows", Integer),
    Column("model_version", String(64)),
    Column("decision", PlainJson),
    Column("error", ValidText),
)

run_steps = Table(
    "run_steps",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("detail", PlainJson),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("from_version", String(64)),
    Column("to_version", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("who", ValidText, nullable=False),
    Column("why", ValidText, nullable=False),
    Column("evidence", PlainJson),
    Column("intended_at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime, index=True),
    Column("status", String(16), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("last_started_at", UtcDateTime),
    Column("last_finished_at", UtcDateTime),
    Column("last_status", String(16)),
    Column("next_due_at", UtcDateTime),
)

data_files = Table(
    "data_files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", ValidText, nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
    Column("run_id", String(64)),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("model_version", String(64)),
    Column("fingerprint", String(64), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False, index=True),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("cause", ValidText, nullable=False),
    Column("features", PlainJson, nullable=False),
    Column("next", ValidText, nullable=False),
    Column("count", Integer, nullable=False),
    Column("evidence", PlainJson, nullable=False),
)

_unresolved = text("status <> 'resolved'")
#: One cause has one incident at a time, whoever reports it.
Index(
    "uq_incidents_unresolved",
    incidents.c.fingerprint,
    unique=True,
    sqlite_where=_unresolved,
    postgresql_where=_unresolved,
)

drift_checks = Table(
    "drift_checks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("checked_at", UtcDateTime, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("window_from", UtcDateTime),
    Column("window_to", UtcDateTime),
    Column("rows", Integer, nullable=False),
    Column("report", PlainJson, nullable=False),
    Index("ix_drift_checks_model_version_checked_at", "model_version", "checked_at"),
)

# What log ingestion makes. `source` is the host's state root in log_sources; an hour is that of the prediction; absent
# experiments and arms are '', because they are parts of keys; labels are JSON texts (`"yes"`, `1`, `true`).

log_sources = Table(
    "log_sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    #: Its name, and after a space what tells the state root from a copy of it.
    Column("host", ValidText, nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
)

log_files = Table(
    "log_files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Integer, ForeignKey("log_sources.id"), nullable=False),
    Column("name", String(64), nullable=False),
    #: Bytes that are read, and a digest of those before that place and at the beginning.
    Column("offset", BigInteger, nullable=False),
    Column("mark", LargeBinary(16), nullable=False),
    #: How often the file was found to be another one than the one that had been read.
    Column("generation", Integer, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("fragments", BigInteger, nullable=False),
    Column("repeated", BigInteger, nullable=False),
    Column("deleted_at", UtcDateTime),
    Index("uq_log_files_source_name", "source", "name", unique=True),
)

log_fragments = Table(
    "log_fragments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Integer, nullable=False),
    Column("file", Integer, nullable=False),
    Column("byte", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("reason", ValidText, nullable=False),
    #: The beginning of it.
    Column("content", LargeBinary, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

window_profiles = Table(
    "window_profiles",
    metadata,
    Column("source", Integer, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("experiment", String(64), primary_key=True),
    Column("arm", String(64), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    #: Rows that are in no profile, because the version's reference was not at hand.
    Column("unprofiled_rows", BigInteger, nullable=False),
    Column("profile", LargeBinary),
    #: Features that the field policy hashes or drops: their cells of the profile mean nothing.
    Column("withheld", PlainJson, nullable=False),
    Column("warned_rows", BigInteger, nullable=False),
    #: Rows by the code of a warning.
    Column("warnings", PlainJson, nullable=False),
    Column("fallback_rows", BigInteger, nullable=False),
    Column("latency_counts", LargeBinary, nullable=False),
    Column("latency_microseconds", BigInteger, nullable=False),
    #: Sum of the highest probabilities, in millionths.
    Column("confidence_millionths", BigInteger, nullable=False),
    #: Rows with an estimate c of the chance that the answer is right; the sum of c, and of c(1 - c), in millionths.
    *_estimate_sums(),
    Index("ix_window_profiles_model_version_hour", "model_version", "hour"),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("source", Integer, nullable=False),
    Column("file", Integer, nullable=False),
    Column("byte", BigInteger, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("experiment", String(64), nullable=False),
    Column("arm", String(64), nullable=False),
    Column("predicted", Text, nullable=False),
    #: Probability of the last class when there are two, else the highest.
    Column("score", Double),
    #: Microseconds since 1970 UTC.
    Column("moment", BigInteger, nullable=False),
    #: The estimated chance that the answer is right, in millionths.
    Column("estimate_millionths", Integer),
    sqlite_with_rowid=False,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("prediction_id", LargeBinary(16), primary_key=True),
    #: Arrival, in microseconds since 1970 UTC; the last one counts, of two at once the one of the higher digest.
    Column("received", BigInteger, primary_key=True),
    Column("digest", LargeBinary(8), primary_key=True),
    Column("source", Integer, nullable=False),
    Column("actual", Text),
    Column("value", Double),
    Column("observed_at", Text),
    #: 1 until it is joined to its prediction, 0 then, 2 when the prediction's time is over.
    Column("waiting", Integer, nullable=False),
    sqlite_with_rowid=False,
)

_waiting = text("waiting = 1")
Index("ix_outcomes_waiting", outcomes.c.prediction_id, sqlite_where=_waiting, postgresql_where=_waiting)

labelled_rows = Table(
    "labelled_rows",
    metadata,
    Column("prediction_id", LargeBinary(16), primary_key=True),
    Column("source", Integer, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("experiment", String(64), nullable=False),
    Column("arm", String(64), nullable=False),
    Column("unit", Text),
    #: JSON as it was logged; null when the line was gone before the outcome came.
    Column("input_data", Text),
    Column("probability", Text),
    Column("predicted", Text, nullable=False),
    Column("score", Double),
    Column("actual", Text),
    Column("value", Double),
    Column("observed_at", Text),
    Column("predicted_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("outcomes", Integer, nullable=False),
    # What this row adds to outcome_counts.
    Column("delay_seconds", BigInteger, nullable=False),
    Column("log_loss_millionths", BigInteger),
    Column("brier_millionths", BigInteger),
    Column("estimate_millionths", Integer),
    Index("ix_labelled_rows_model_version_predicted_at", "model_version", "predicted_at"),
)

outcome_counts = Table(
    "outcome_counts",
    metadata,
    Column("source", Integer, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("experiment", String(64), primary_key=True),
    Column("arm", String(64), primary_key=True),
    Column("predicted", String(160), primary_key=True),
    Column("actual", String(160), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("delay_seconds", BigInteger, nullable=False),
    #: Rows whose probabilities are known for the class that it was, and the sums over them.
    Column("scored_rows", BigInteger, nullable=False),
    Column("log_loss_millionths", BigInteger, nullable=False),
    Column("brier_millionths", BigInteger, nullable=False),
    #: As in window_profiles: realised and estimated accuracy on the same rows.
    *_estimate_sums(),
    Index("ix_outcome_counts_model_version_hour", "model_version", "hour"),
)

server_hours = Table(
    "server_hours",
    metadata,
    Column("source", Integer, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    #: How long a server ran, in seconds.
    Column("seconds", Double, nullable=False),
    #: Requests for predictions, and those that were answered with 500 or above.
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("cpu_milliseconds", BigInteger, nullable=False),
    #: 0 when it is not known.
    Column("peak_memory_bytes", BigInteger, nullable=False),
)

refused_hours = Table(
    "refused_hours",
    metadata,
    Column("source", Integer, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    Column("model_version", String(64), primary_key=True),
    #: A feature's name, or '' for what is of none; all refused rows together are ('', 'all').
    Column("field", ValidText, primary_key=True),
    Column("rule", String(64), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    #: In which those rows came, each once.
    Column("requests", BigInteger, nullable=False),
)
