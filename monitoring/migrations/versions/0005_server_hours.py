"""What the servers used and how they answered, by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "server_hours",
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        sa.Column("cpu_milliseconds", sa.BigInteger, nullable=False),
        sa.Column("peak_memory_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("source", "hour", name="pk_server_hours"),
    )


def downgrade() -> None:
    op.drop_table("server_hours")
