"""Estimates without labels: the chance that an answer is right, of each prediction and summed by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SUMMED = ("window_profiles", "outcome_counts")
SINGLE = ("predictions", "labelled_rows")
SUMS = ("estimated_rows", "estimate_millionths", "estimate_variance_millionths")


def upgrade() -> None:
    for table in SUMMED:
        for name in SUMS:
            op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    for table in SINGLE:
        op.add_column(table, sa.Column("estimate_millionths", sa.Integer))


def downgrade() -> None:
    for table in SUMMED:
        for name in SUMS:
            op.drop_column(table, name)
    for table in SINGLE:
        op.drop_column(table, "estimate_millionths")
