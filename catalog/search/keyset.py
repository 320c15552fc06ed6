"""Orders of searches, and page tokens: the place of the last item and what was there when the search began.

A page begins behind a place in the order, not after a number of items, so it never shifts. And it sees the rows that
the search saw on its first page: an item that is added, replaced or removed meanwhile neither hides another nor shows
it twice, whatever the search is sorted by.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, false, literal, or_, tuple_

from catalog.facts import Kind
from catalog.search.errors import InvalidSearch
from catalog.search.queryables import can_sort_by, column_of, is_always_there, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

MAX_KEYS: Final = 5
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True)
class Key:
    """One property that a search is sorted by."""

    name: str
    descending: bool = False

    @property
    def column(self) -> ColumnElement[Any]:
        """Its column."""
        return column_of(self.name)


@dataclass(frozen=True)
class Order:
    """How a search is sorted: by keys that tell every two items apart; items without a key's property come last."""

    keys: tuple[Key, ...]

    @property
    def first_may_miss(self) -> bool:
        """Whether there are items without the first key's property."""
        return not is_always_there(self.keys[0].name)

    def clauses(self) -> list[ColumnElement[Any]]:
        """Return the ORDER BY of items that all have, or all lack, the first key's property."""
        clauses: list[ColumnElement[Any]] = []
        for position, key in enumerate(self.keys):
            if position and not is_always_there(key.name):
                clauses.append(key.column.is_(None))
            clauses.append(key.column.desc() if key.descending else key.column.asc())
        return clauses

    def behind(self, given: Sequence[Any]) -> ColumnElement[bool]:
        """Return in SQL what comes later than the item with the given values of the keys."""
        values = [None if v is None else literal(v, key.column.type) for key, v in zip(self.keys, given, strict=True)]
        known = [value for value in values if value is not None]
        one_way = len({key.descending for key in self.keys}) == 1
        if one_way and len(known) == len(values) and not self._may_miss_later:
            mine, theirs = tuple_(*(key.column for key in self.keys)), tuple_(*known)
            later: ColumnElement[bool] = mine < theirs if self.keys[0].descending else mine > theirs
            return later
        steps = []
        for position, (key, value) in enumerate(zip(self.keys, values, strict=True)):
            same = [
                earlier.column.is_(None) if its is None else earlier.column == its
                for earlier, its in zip(self.keys[:position], values, strict=False)
            ]
            steps.append(and_(*same, _later(key, value)))
        return and_(_not_before(self.keys[0], values[0]), or_(*steps))

    @property
    def _may_miss_later(self) -> bool:
        return any(not is_always_there(key.name) for key in self.keys[1:])


def _later(key: Key, value: Any) -> ColumnElement[bool]:
    if value is None:
        return false()
    beyond: ColumnElement[bool] = key.column < value if key.descending else key.column > value
    return beyond if is_always_there(key.name) else or_(beyond, key.column.is_(None))


def _not_before(key: Key, value: Any) -> ColumnElement[bool]:
    """Where an index may begin; the first key's property is there or lacking for all items at once."""
    if value is None:
        return key.column.is_(None)
    within: ColumnElement[bool] = key.column <= value if key.descending else key.column >= value
    return within


def order_by(keys: Sequence[Key] = ()) -> Order:
    """Complete the keys of a search; without any the newest items come first.

    Raises:
        InvalidSearch: a key is not on the whitelist, or there are too many.
    """
    if len(keys) > MAX_KEYS:
        raise InvalidSearch("sortby", f"has {len(keys)} properties; at most {MAX_KEYS} are accepted")
    chosen: dict[str, Key] = {}
    for key in keys or (Key("datetime", descending=True),):
        kind_of(key.name, "sortby")
        name = key.name.removeprefix("properties.")
        if not can_sort_by(name):
            raise InvalidSearch("sortby", f"no item has {name!r}; see /sortables")
        chosen.setdefault(name, Key(name, key.descending))
    last = list(chosen.values())[-1].descending
    ties = [Key(name, last) for name in ("collection", "id") if name not in chosen]
    return Order((*chosen.values(), *ties))


@dataclass(frozen=True)
class Place:
    """Where one item stands in the order of a search that began at some time."""

    seen: int
    """The newest row of `item_search` that the search sees."""
    values: tuple[Any, ...]
    """Of the item, one for each key of the order."""
    matched: int | None = None
    """How many items match in all, where that was counted."""

    def token(self) -> str:
        """Write the place as a token that fits into a URL."""
        values = [value.isoformat() if isinstance(value, datetime) else value for value in self.values]
        text = json.dumps([self.seen, self.matched, *values], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str, order: Order) -> Place:
    """Read a token that `Place.token` wrote for a search in the same order.

    Raises:
        InvalidSearch: it is not one.
    """
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        seen, matched, *values = json.loads(text)
        if not (_counts(seen) and (matched is None or _counts(matched)) and len(values) == len(order.keys)):
            raise ValueError(token)  # noqa: TRY301 - said below
        return Place(seen, tuple(map(_value, order.keys, values)), matched)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        problem = "not a page token of this server, or of a search in another order; start again without it"
        raise InvalidSearch("token", problem) from error


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _value(key: Key, value: object) -> Any:
    kind = kind_of(key.name, "token")
    if value is None:
        if is_always_there(key.name):
            raise ValueError("this property is never missing")
        return None
    match kind, value:
        case Kind.TIME, str():
            return _moment(value)
        case Kind.TEXT, str() if "\0" not in value:
            value.encode()  # half characters are ValueErrors
            return value
        case Kind.TRUTH, bool():
            return value
        case Kind.NUMBER, float() if abs(value) <= 1e300:
            return value
        case _:
            raise ValueError(f"not a value of {key.name}")


def _moment(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("times have a zone")
    return when.astimezone(UTC)
