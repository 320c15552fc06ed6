"""Searches look at narrow rows of their own: facts of every item, a spatial index, and what was there before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from catalog.facts import facts_of, footprint_of
from catalog.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BATCH = 500
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIMES = ("datetime", "created", "updated")
_TEXTS = (
    "platform", "grid_code", "proj_code", "version", "own_region", "own_acquisition", "own_product_revision",
    "own_model", "own_source", "own_source_item", "own_source_baseline", "own_grade",
)  # fmt: skip
_NUMBERS = (
    "gsd", "relative_orbit", "cloud_cover", "sun_elevation", "own_valid_pixels", "own_valid_fraction",
    "own_missing_fraction", "own_saturated_fraction", "own_resimulation_rmse", "own_within_noise_fraction",
    "own_mean_uncertainty", "own_out_of_domain_fraction", "own_low_consistency_fraction", "own_measured_fraction",
    "own_seconds",
)  # fmt: skip
_SORTED = (
    "datetime", "created", "updated", "cloud_cover", "own_valid_fraction", "own_resimulation_rmse",
    "own_mean_uncertainty", "own_out_of_domain_fraction", "own_measured_fraction",
)  # fmt: skip
"""Columns with an index in the order in which searches sort by them."""

_SQLITE = (
    "CREATE VIRTUAL TABLE item_boxes USING rtree(number, west, east, south, north)",
    """CREATE TRIGGER item_search_enter AFTER INSERT ON item_search BEGIN
         INSERT INTO item_boxes VALUES (NEW.number, NEW.west, NEW.east, NEW.south, NEW.north);
       END""",
    """CREATE TRIGGER item_search_forget AFTER DELETE ON item_search BEGIN
         DELETE FROM item_boxes WHERE number = OLD.number;
       END""",
    """CREATE TRIGGER items_leave AFTER DELETE ON items BEGIN
         UPDATE item_search
            SET until = (SELECT max(number) + 1 FROM item_search), ended = (julianday('now') - 2440587.5) * 86400.0
          WHERE collection = OLD.collection AND id = OLD.id AND until IS NULL;
         DELETE FROM item_search WHERE ended < (julianday('now') - 2440587.5) * 86400.0 - 86400;
       END""",
)
_POSTGRESQL = (
    "CREATE INDEX ix_search_box ON item_search USING gist (box(point(east, north), point(west, south)))",
    """CREATE FUNCTION items_leave() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         UPDATE item_search
            SET until = (SELECT max(number) + 1 FROM item_search),
                ended = CAST(extract(epoch FROM clock_timestamp()) AS double precision)
          WHERE collection = OLD.collection AND id = OLD.id AND until IS NULL;
         DELETE FROM item_search
          WHERE ended < CAST(extract(epoch FROM clock_timestamp()) AS double precision) - 86400;
         RETURN OLD;
       END $$""",
    "CREATE TRIGGER items_leave AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION items_leave()",
    "ALTER TABLE items ALTER COLUMN body TYPE json USING body::json",
)


def upgrade() -> None:
    """Apply."""
    postgres = op.get_bind().dialect.name == "postgresql"
    table = op.create_table(
        "item_search",
        sa.Column("number", _BIG, primary_key=True, autoincrement=True),
        sa.Column("until", _BIG),
        sa.Column("ended", sa.Float(53)),
        sa.Column("collection", _plain(64), nullable=False),
        sa.Column("id", _plain(160), nullable=False),
        *(sa.Column(edge, sa.Float(53), nullable=False) for edge in ("west", "south", "east", "north")),
        sa.Column("footprint", sa.LargeBinary, nullable=False),
        *(sa.Column(name, UtcDateTime(), nullable=name != "datetime") for name in _TIMES),
        *(sa.Column(name, _plain(256)) for name in _TEXTS),
        *(sa.Column(name, sa.Float(53)) for name in _NUMBERS),
        sa.Column("deprecated", sa.Boolean),
    )
    for statement in _POSTGRESQL if postgres else _SQLITE:
        op.execute(statement)
    _fill(table)
    for name in _SORTED:
        op.execute(f"CREATE INDEX ix_search_{name} ON item_search ({name}, collection, id)")
    for name in ("grid_code", "own_region"):
        op.execute(f"CREATE INDEX ix_search_{name} ON item_search ({name}, datetime)")
    op.execute("CREATE INDEX ix_search_item ON item_search (collection, id)")
    op.execute("CREATE INDEX ix_search_id ON item_search (id)")
    op.execute("CREATE INDEX ix_search_ended ON item_search (ended) WHERE ended IS NOT NULL")
    op.drop_index("ix_items_order", "items")
    op.drop_index("ix_items_bbox", "items")


def downgrade() -> None:
    """Undo."""
    postgres = op.get_bind().dialect.name == "postgresql"
    op.execute("DROP TRIGGER items_leave ON items" if postgres else "DROP TRIGGER items_leave")
    if postgres:
        op.execute("DROP FUNCTION items_leave()")
        op.execute("ALTER TABLE items ALTER COLUMN body TYPE jsonb USING body::jsonb")
    op.drop_table("item_search")
    if not postgres:
        op.execute("DROP TABLE item_boxes")
    op.create_index("ix_items_order", "items", ["collection", "datetime", "id"])
    op.create_index("ix_items_bbox", "items", ["west", "east", "south", "north"])


def _plain(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _fill(table: sa.Table) -> None:
    """Write a row for every item that is there, in the order of their keys."""
    bind = op.get_bind()
    body = sa.JSON().with_variant(postgresql.JSON(), "postgresql")
    items = sa.table("items", sa.column("collection"), sa.column("id"), sa.column("body", body))
    last: tuple[str, str] | None = None
    while True:
        query = sa.select(items).order_by(items.c.collection, items.c.id).limit(_BATCH)
        if last is not None:
            query = query.where(sa.tuple_(items.c.collection, items.c.id) > last)
        rows = bind.execute(query).all()
        if not rows:
            return
        columns = set(table.c.keys())
        facts = ({**footprint_of(row.body), **facts_of(row.body)} for row in rows)
        known = ({name: value for name, value in each.items() if name in columns} for each in facts)
        bind.execute(
            sa.insert(table),
            [{"collection": row.collection, "id": row.id, **each} for row, each in zip(rows, known, strict=True)],
        )
        last = (rows[-1].collection, rows[-1].id)
