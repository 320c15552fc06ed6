"""Page tokens: the place of the last item, so that a page never shifts while items are added."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from catalog.search.errors import InvalidSearch


@dataclass(frozen=True)
class Place:
    """Where one item stands in the order of a search: newest first, then collection and id."""

    datetime: datetime
    collection: str
    id: str

    def token(self) -> str:
        """Write the place as a token that fits into a URL."""
        text = json.dumps([self.datetime.isoformat(), self.collection, self.id], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str) -> Place:
    """Read a token that `Place.token` wrote.

    Raises:
        InvalidSearch: it is not one.
    """
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return _place(*json.loads(text))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidSearch("token", "not a page token of this server; start again without it") from error


def _place(moment: str, collection: str, item: str) -> Place:
    when = datetime.fromisoformat(moment)
    if when.tzinfo is None or not (collection.isprintable() and item.isprintable()):
        raise ValueError("times have a zone, ids are printable text")
    return Place(when.astimezone(UTC), collection, item)
