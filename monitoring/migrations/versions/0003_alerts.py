"""The history of incidents, the deliveries of alerts, monitors and detections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WHEN = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True)
TABLES = ("detections", "monitors", "deliveries", "incident_events")


def upgrade() -> None:
    op.create_table(
        "incident_events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("incident", sa.Integer, nullable=False),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("who", sa.Text),
        sa.Column("detail", JSON),
        sa.PrimaryKeyConstraint("id", name="pk_incident_events"),
        sa.ForeignKeyConstraint(
            ["incident"], ["incidents.id"], name="fk_incident_events_incident", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_incident_events_incident", "incident_events", ["incident", "id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("incident", sa.Integer, nullable=False),
        sa.Column("event", sa.Integer, nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", WHEN, nullable=False),
        sa.Column("next_attempt_at", WHEN, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("sent_at", WHEN),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.id"], name="fk_deliveries_incident", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["event"], ["incident_events.id"], name="fk_deliveries_event", ondelete="CASCADE"),
    )
    op.create_index("ix_deliveries_incident", "deliveries", ["incident"])
    op.create_index("uq_deliveries_event_channel", "deliveries", ["event", "channel"], unique=True)
    waiting = sa.text("status = 'waiting'")
    op.create_index(
        "ix_deliveries_waiting", "deliveries", ["next_attempt_at"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "monitors",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model_name", sa.String(250), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("thresholds", JSON, nullable=False),
        sa.Column("frequency_hours", sa.Double),
        sa.Column("channels", JSON),
        sa.Column("status", sa.String(16)),
        sa.Column("changed_at", WHEN, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_monitors"),
    )
    op.create_index(
        "uq_monitors_kind_model_name_model_version", "monitors", ["kind", "model_name", "model_version"], unique=True
    )
    op.create_table(
        "detections",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model_version", sa.String(64)),
        sa.Column("monitor", sa.Text, nullable=False),
        sa.Column("at", WHEN, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("features", JSON, nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.Column("incident", sa.Integer, nullable=False),
        sa.Column("event", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_detections"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.id"], name="fk_detections_incident", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["event"], ["incident_events.id"], name="fk_detections_event", ondelete="CASCADE"),
    )
    op.create_index("ix_detections_at", "detections", ["at"])
    op.create_index("ix_detections_incident", "detections", ["incident"])
    _begin_the_history_of_known_incidents()


def _begin_the_history_of_known_incidents() -> None:
    """What is known of them: when they opened and when they were resolved. Nothing of that is alerted now."""
    columns = "INSERT INTO incident_events (incident, at, event, severity) SELECT id, {at}, '{event}', severity"
    op.execute(columns.format(at="opened_at", event="opened") + " FROM incidents ORDER BY id")
    op.execute(
        columns.format(at="resolved_at", event="resolved")
        + " FROM incidents WHERE status = 'resolved' AND resolved_at IS NOT NULL ORDER BY id"
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
