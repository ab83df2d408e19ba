"""What log ingestion keeps: places in files, hourly profiles, predictions, outcomes and the two joined."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WHEN = sa.DateTime(timezone=True)
TABLES = (
    "outcome_counts",
    "labelled_rows",
    "outcomes",
    "predictions",
    "window_profiles",
    "log_fragments",
    "log_files",
    "log_sources",
)


def upgrade() -> None:
    op.create_table(
        "log_sources",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("read_at", WHEN, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_sources"),
        sa.UniqueConstraint("uuid", name="uq_log_sources_uuid"),
    )
    op.create_table(
        "log_files",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.LargeBinary(16), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("fragments", sa.BigInteger, nullable=False),
        sa.Column("repeated", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", WHEN),
        sa.PrimaryKeyConstraint("id", name="pk_log_files"),
        sa.ForeignKeyConstraint(["source"], ["log_sources.id"], name="fk_log_files_source"),
    )
    op.create_index("uq_log_files_source_name", "log_files", ["source", "name"], unique=True)
    op.create_table(
        "log_fragments",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("byte", sa.BigInteger, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("seen_at", WHEN, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_log_fragments"),
    )
    op.create_table(
        "window_profiles",
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("hour", WHEN, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("unprofiled_rows", sa.BigInteger, nullable=False),
        sa.Column("profile", sa.LargeBinary),
        sa.Column("withheld", sa.JSON, nullable=False),
        sa.Column("warned_rows", sa.BigInteger, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("fallback_rows", sa.BigInteger, nullable=False),
        sa.Column("latency_counts", sa.LargeBinary, nullable=False),
        sa.Column("latency_microseconds", sa.BigInteger, nullable=False),
        sa.Column("confidence_millionths", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("source", "hour", "model_version", "experiment", "arm", name="pk_window_profiles"),
    )
    op.create_index("ix_window_profiles_model_version_hour", "window_profiles", ["model_version", "hour"])
    op.create_table(
        "predictions",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("byte", sa.BigInteger, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("predicted", sa.Text, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("moment", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("prediction_id", sa.LargeBinary(16), nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(8), nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("actual", sa.Text),
        sa.Column("value", sa.Double),
        sa.Column("observed_at", sa.Text),
        sa.Column("waiting", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", "received", "digest", name="pk_outcomes"),
        sqlite_with_rowid=False,
    )
    waiting = sa.text("waiting = 1")
    op.create_index(
        "ix_outcomes_waiting", "outcomes", ["prediction_id"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "labelled_rows",
        sa.Column("prediction_id", sa.LargeBinary(16), nullable=False),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("unit", sa.Text),
        sa.Column("input_data", sa.Text),
        sa.Column("probability", sa.Text),
        sa.Column("predicted", sa.Text, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("actual", sa.Text),
        sa.Column("value", sa.Double),
        sa.Column("observed_at", sa.Text),
        sa.Column("predicted_at", WHEN, nullable=False),
        sa.Column("received_at", WHEN, nullable=False),
        sa.Column("outcomes", sa.Integer, nullable=False),
        sa.Column("delay_seconds", sa.BigInteger, nullable=False),
        sa.Column("log_loss_millionths", sa.BigInteger),
        sa.Column("brier_millionths", sa.BigInteger),
        sa.PrimaryKeyConstraint("prediction_id", name="pk_labelled_rows"),
    )
    op.create_index("ix_labelled_rows_model_version_predicted_at", "labelled_rows", ["model_version", "predicted_at"])
    op.create_table(
        "outcome_counts",
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("hour", WHEN, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("predicted", sa.String(160), nullable=False),
        sa.Column("actual", sa.String(160), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("delay_seconds", sa.BigInteger, nullable=False),
        sa.Column("scored_rows", sa.BigInteger, nullable=False),
        sa.Column("log_loss_millionths", sa.BigInteger, nullable=False),
        sa.Column("brier_millionths", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "source", "hour", "model_version", "experiment", "arm", "predicted", "actual", name="pk_outcome_counts"
        ),
    )
    op.create_index("ix_outcome_counts_model_version_hour", "outcome_counts", ["model_version", "hour"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
