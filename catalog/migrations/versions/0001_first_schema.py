"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

UTC_TIME = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "assets",
        sa.Column("href", sa.String(length=1024), nullable=False),
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("item_id", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("href"),
    )
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.create_index("ix_assets_item_id", ["item_id"], unique=False)

    op.create_table(
        "band_tables",
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("body", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "changes",
        sa.Column("sequence", BIG, autoincrement=True, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("item_id", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "collections",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("body", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "scenes",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("acquisition", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("baseline", sa.String(length=16), nullable=False),
        sa.Column("generated", UTC_TIME, nullable=True),
        sa.Column("generated_key", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("source_item_id", sa.String(length=256), nullable=False),
        sa.Column("source_item", DOCUMENT, nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("tile", sa.String(length=8), nullable=False),
        sa.Column("sensed", UTC_TIME, nullable=False),
        sa.Column("upstream_published", UTC_TIME, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.Float(precision=53), nullable=True),
        sa.Column("next_attempt", sa.Float(precision=53), nullable=False),
        sa.Column("product_revision", sa.String(length=32), nullable=True),
        sa.Column("item_id", sa.String(length=160), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_class", sa.String(length=128), nullable=True),
        sa.Column("discovered_at", UTC_TIME, nullable=False),
        sa.Column("changed_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("acquisition", "region", "baseline", "generated_key", name="uq_scene_revision"),
    )
    with op.batch_alter_table("scenes", schema=None) as batch_op:
        batch_op.create_index("ix_scenes_sensed", ["sensed"], unique=False)
        batch_op.create_index("ix_scenes_state_next", ["state", "next_attempt"], unique=False)

    op.create_table(
        "watermarks",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("published", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("source", "region"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("scene_id", BIG, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("source_item_id", sa.String(length=256), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("seen_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["scene_id"],
            ["scenes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "source_item_id", "scene_id", name="uq_delivery"),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_scene_id", ["scene_id"], unique=False)

    op.create_table(
        "item_versions",
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("product_revision", sa.String(length=32), nullable=False),
        sa.Column("scene_id", BIG, nullable=False),
        sa.Column("published_at", UTC_TIME, nullable=False),
        sa.Column("body", DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["scene_id"],
            ["scenes.id"],
        ),
        sa.PrimaryKeyConstraint("collection", "id", "version"),
        sa.UniqueConstraint("collection", "id", "product_revision", name="uq_item_revision"),
    )
    op.create_table(
        "items",
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("datetime", UTC_TIME, nullable=False),
        sa.Column("west", sa.Float(precision=53), nullable=False),
        sa.Column("south", sa.Float(precision=53), nullable=False),
        sa.Column("east", sa.Float(precision=53), nullable=False),
        sa.Column("north", sa.Float(precision=53), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("product_revision", sa.String(length=32), nullable=False),
        sa.Column("scene_id", BIG, nullable=True),
        sa.Column("body", DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection"],
            ["collections.id"],
        ),
        sa.ForeignKeyConstraint(
            ["scene_id"],
            ["scenes.id"],
        ),
        sa.PrimaryKeyConstraint("collection", "id"),
    )
    with op.batch_alter_table("items", schema=None) as batch_op:
        batch_op.create_index("ix_items_bbox", ["west", "east", "south", "north"], unique=False)
        batch_op.create_index("ix_items_order", ["collection", "datetime", "id"], unique=False)

    op.create_table(
        "transitions",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("scene_id", BIG, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("before", sa.String(length=16), nullable=True),
        sa.Column("after", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["scene_id"],
            ["scenes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("transitions", schema=None) as batch_op:
        batch_op.create_index("ix_transitions_scene_id", ["scene_id"], unique=False)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("transitions", schema=None) as batch_op:
        batch_op.drop_index("ix_transitions_scene_id")

    op.drop_table("transitions")
    with op.batch_alter_table("items", schema=None) as batch_op:
        batch_op.drop_index("ix_items_order")
        batch_op.drop_index("ix_items_bbox")

    op.drop_table("items")
    op.drop_table("item_versions")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_scene_id")

    op.drop_table("deliveries")
    op.drop_table("watermarks")
    with op.batch_alter_table("scenes", schema=None) as batch_op:
        batch_op.drop_index("ix_scenes_state_next")
        batch_op.drop_index("ix_scenes_sensed")

    op.drop_table("scenes")
    op.drop_table("collections")
    op.drop_table("changes")
    op.drop_table("band_tables")
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.drop_index("ix_assets_item_id")

    op.drop_table("assets")
