"""Runs, promotions, jobs, archives, incidents and drift checks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", WHEN, nullable=False),
        sa.Column("finished_at", WHEN),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("data_source", sa.Text),
        sa.Column("rows", sa.Integer),
        sa.Column("model_version", sa.String(64)),
        sa.Column("decision", sa.JSON),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_table(
        "run_steps",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", WHEN, nullable=False),
        sa.Column("finished_at", WHEN),
        sa.Column("detail", sa.JSON),
        sa.PrimaryKeyConstraint("run_id", "name", name="pk_run_steps"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_run_steps_run_id", ondelete="CASCADE"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("from_version", sa.String(64)),
        sa.Column("to_version", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("evidence", sa.JSON),
        sa.Column("intended_at", WHEN, nullable=False),
        sa.Column("done_at", WHEN),
        sa.Column("status", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index("ix_promotions_done_at", "promotions", ["done_at"])
    op.create_table(
        "jobs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("last_started_at", WHEN),
        sa.Column("last_finished_at", WHEN),
        sa.Column("last_status", sa.String(16)),
        sa.Column("next_due_at", WHEN),
        sa.PrimaryKeyConstraint("name", name="pk_jobs"),
    )
    op.create_table(
        "data_files",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("added_at", WHEN, nullable=False),
        sa.Column("run_id", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_data_files"),
        sa.UniqueConstraint("path", name="uq_data_files_path"),
    )
    op.create_index("ix_data_files_sha256", "data_files", ["sha256"])
    op.create_table(
        "incidents",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("model_version", sa.String(64)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("opened_at", WHEN, nullable=False),
        sa.Column("updated_at", WHEN, nullable=False),
        sa.Column("resolved_at", WHEN),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("next", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
    )
    op.create_index("ix_incidents_opened_at", "incidents", ["opened_at"])
    unresolved = sa.text("status <> 'resolved'")
    op.create_index(
        "uq_incidents_unresolved",
        "incidents",
        ["fingerprint"],
        unique=True,
        sqlite_where=unresolved,
        postgresql_where=unresolved,
    )
    op.create_table(
        "drift_checks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("checked_at", WHEN, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("window_from", WHEN),
        sa.Column("window_to", WHEN),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drift_checks"),
    )
    op.create_index("ix_drift_checks_model_version_checked_at", "drift_checks", ["model_version", "checked_at"])


def downgrade() -> None:
    for table in ("drift_checks", "incidents", "data_files", "jobs", "promotions", "run_steps", "runs"):
        op.drop_table(table)
