"""What a filter asks, as a tree whose leaves are SQL or exact geometry, decided in three-valued logic.

SQL alone decides what looks at facts. What looks at shapes it can only bound by boxes: from above, where a shape might
match, and from below, where it must. Under an odd number of NOTs the two change places. So SQL gives candidates, never
too few, and `decide` settles them with shapely; the truth of the other leaves comes along with each candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import shapely
from sqlalchemy import and_, false, not_, or_, true

from catalog.search.areas import near

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import ColumnElement

Truths: TypeAlias = "tuple[NDArray[np.bool_], NDArray[np.bool_]]"
"""For n candidates: where a predicate is true, and where it is false; neither is SQL's NULL."""

RELATIONS: Final = {
    "s_intersects": shapely.intersects,
    "s_disjoint": shapely.disjoint,
    "s_within": shapely.within,
    "s_contains": shapely.contains,
    "s_equals": shapely.equals,
    "s_touches": shapely.touches,
    "s_crosses": shapely.crosses,
    "s_overlaps": shapely.overlaps,
}
"""By CQL2's names; the first operand is the item's footprint."""

_APART: Final = "s_disjoint"
"""The only relation that holds between shapes whose boxes do not meet."""


@dataclass(frozen=True)
class Condition:
    """A predicate that SQL decides."""

    sql: ColumnElement[bool]


@dataclass(frozen=True)
class Shape:
    """A relation of the item's footprint to an area."""

    relation: str
    """One of `RELATIONS`."""
    area: BaseGeometry


@dataclass(frozen=True)
class All:
    """True when every part is."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Some:
    """True when a part is."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True)
class Opposite:
    """True when its part is false."""

    part: Predicate


Predicate: TypeAlias = Condition | Shape | All | Some | Opposite


def every(parts: Sequence[Predicate]) -> Predicate:
    """Join predicates by AND; those that SQL decides become one."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, All) else (part,))]
    known = [part.sql for part in flat if isinstance(part, Condition)]
    shapes = tuple(part for part in flat if not isinstance(part, Condition))
    if not shapes:
        return Condition(and_(true(), *known))
    return All((Condition(and_(true(), *known)), *shapes))


def some(parts: Sequence[Predicate]) -> Predicate:
    """Join predicates by OR; those that SQL decides become one."""
    known = [part.sql for part in parts if isinstance(part, Condition)]
    shapes = tuple(part for part in parts if not isinstance(part, Condition))
    if not shapes:
        return Condition(or_(false(), *known))
    return Some((Condition(or_(false(), *known)), *shapes))


def opposite(part: Predicate) -> Predicate:
    """Turn a predicate around; what is unknown stays unknown."""
    return Condition(not_(part.sql)) if isinstance(part, Condition) else Opposite(part)


def at_most(predicate: Predicate) -> ColumnElement[bool]:
    """Return in SQL where a predicate may be true: nowhere else is it."""
    return _bound(predicate, above=True)


def _bound(predicate: Predicate, *, above: bool) -> ColumnElement[bool]:
    match predicate:
        case Condition(sql):
            return sql
        case Shape(relation, area):
            if relation == _APART:
                return true() if above else not_(near(area))
            return near(area) if above else false()
        case All(parts):
            return and_(true(), *(_bound(part, above=above) for part in parts))
        case Some(parts):
            return or_(false(), *(_bound(part, above=above) for part in parts))
        case Opposite(part):
            return not_(_bound(part, above=not above))


def wanted_areas(predicate: Predicate) -> list[BaseGeometry]:
    """Return the areas that every match must come near: those that an index of boxes can look up."""
    parts = predicate.parts if isinstance(predicate, All) else (predicate,)
    return [part.area for part in parts if isinstance(part, Shape) and part.relation != _APART]


def is_exact(predicate: Predicate) -> bool:
    """Say whether SQL alone decides a predicate."""
    return isinstance(predicate, Condition)


def conditions(predicate: Predicate) -> list[ColumnElement[bool]]:
    """Return the conditions of all leaves that SQL decides, in the order in which `decide` wants their truths."""
    match predicate:
        case Condition(sql):
            return [sql]
        case Shape():
            return []
        case Opposite(part):
            return conditions(part)
        case All(parts) | Some(parts):
            return [sql for part in parts for sql in conditions(part)]


def decide(
    predicate: Predicate, footprints: NDArray[np.object_], told: Sequence[Sequence[bool | None]]
) -> NDArray[np.bool_]:
    """Settle candidates.

    Args:
        predicate: What is asked.
        footprints: (n,) shapely geometries.
        told: The truth of every condition of `conditions`, each for n candidates.

    Returns:
        (n,) where the predicate is true; where it is unknown it is not.
    """
    columns = (np.array(column, dtype=object) for column in told)
    return _truths(predicate, footprints, ((column == True, column == False) for column in columns))[0]  # noqa: E712 - elementwise; SQLite says 1 and 0


def _truths(predicate: Predicate, footprints: NDArray[np.object_], told: Iterator[Truths]) -> Truths:
    match predicate:
        case Condition():
            return next(told)
        case Shape(relation, area):
            shapely.prepare(area)
            holds = RELATIONS[relation](footprints, area)
            return holds, ~holds
        case Opposite(part):
            yes, no = _truths(part, footprints, told)
            return no, yes
        case All(parts):
            pairs = [_truths(part, footprints, told) for part in parts]
            return np.logical_and.reduce([p[0] for p in pairs]), np.logical_or.reduce([p[1] for p in pairs])
        case Some(parts):
            pairs = [_truths(part, footprints, told) for part in parts]
            return np.logical_or.reduce([p[0] for p in pairs]), np.logical_and.reduce([p[1] for p in pairs])
