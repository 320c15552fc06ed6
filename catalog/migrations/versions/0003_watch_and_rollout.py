"""Deliveries say when they were published and since when they are gone; which model is in force is a fact."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

UTC_TIME = sa.DateTime(timezone=True)
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("published", UTC_TIME, nullable=True))
        batch_op.add_column(sa.Column("stamp", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("missed_at", UTC_TIME, nullable=True))
        batch_op.add_column(sa.Column("withdrawn_at", UTC_TIME, nullable=True))
        batch_op.create_index("ix_deliveries_published", ["source", "published"], unique=False)
    op.create_table(
        "model_releases",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=160), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("model_releases")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_published")
        batch_op.drop_column("withdrawn_at")
        batch_op.drop_column("missed_at")
        batch_op.drop_column("stamp")
        batch_op.drop_column("published")
