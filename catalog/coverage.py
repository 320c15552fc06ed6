"""What a collection covers, asked of its items anew: where one of them went away or shrank, nothing can be added up.

The questions go to `item_search`, narrow rows of what every item says; bodies are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, cast, func, select

from catalog.boxes import joined
from catalog.collection import LISTED, RANGED, WORLD, with_coverage
from catalog.facts import FACTS
from catalog.tables import item_search

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

_DIGITS: Final = 9
"""Of a degree; what taking a turn off leaves behind is far below them."""

_COLUMNS: Final = {fact.name: item_search.c[fact.column] for fact in FACTS}


def covered(session: Session, collection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collection with extent and summaries that hold its present items and nothing more.

    Args:
        session: The transaction that changed the items; what it did is flushed.
        collection: The collection as stored.
    """
    session.flush()
    mine = (item_search.c.collection == collection["id"], item_search.c.until.is_(None))
    kept = {name: value for name, value in collection["summaries"].items() if name not in {*LISTED, *RANGED}}
    first, last = session.execute(
        select(func.min(item_search.c.datetime), func.max(item_search.c.datetime)).where(*mine)
    ).one()
    if first is None:
        return with_coverage(collection, WORLD, kept)
    extent = {
        "spatial": {"bbox": [_box(session, mine)]},
        "temporal": {"interval": [[_text(first), _text(last)]]},
    }
    return with_coverage(collection, extent, kept | _lists(session, mine) | _ranges(session, mine))


def _box(session: Session, mine: tuple[ColumnElement[bool], ...]) -> list[float]:
    """Join the boxes of all items; of those that begin within the same degree only their common box is looked at."""
    rows = item_search.c
    degree = cast(rows.west, BigInteger)
    columns = (func.min(rows.west), func.min(rows.south), func.max(rows.east), func.max(rows.north))
    groups = session.execute(select(*columns).where(*mine).group_by(degree)).tuples()
    return list(joined([(w, s, round(e - 360, _DIGITS) if e > 180 else e, n) for w, s, e, n in groups]))


def _lists(session: Session, mine: tuple[ColumnElement[bool], ...]) -> dict[str, list[str]]:
    return {
        name: sorted(session.scalars(select(_COLUMNS[name]).where(*mine, _COLUMNS[name].is_not(None)).distinct()))
        for name in LISTED
    }


def _ranges(session: Session, mine: tuple[ColumnElement[bool], ...]) -> dict[str, dict[str, float]]:
    columns = [edge(_COLUMNS[name]) for name in RANGED for edge in (func.min, func.max)]
    values = session.execute(select(*columns).where(*mine)).one()
    pairs = zip(RANGED, values[::2], values[1::2], strict=True)
    return {name: {"minimum": low, "maximum": high} for name, low, high in pairs if low is not None}


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
