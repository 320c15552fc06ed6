"""CQL2's relations between times: an item's instant on one side, an instant or an interval on the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import and_, not_, or_

from catalog.search.errors import InvalidSearch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement

_TICK: Final = timedelta(microseconds=1)
_OPEN: Final = frozenset({"..", ""})


@dataclass(frozen=True)
class Span:
    """A time, or all times between two, both included; None is an open end."""

    start: datetime | None
    end: datetime | None


def read_time(literal: object, parameter: str) -> Span:
    """Read a literal of CQL2: a timestamp, a date (the whole day, UTC), an interval, or their text.

    Raises:
        InvalidSearch: it is none.
    """
    match literal:
        case {"timestamp": str(text)}:
            moment = _moment(text, parameter)
            return Span(moment, moment)
        case {"date": str(text)}:
            return _day(text, parameter)
        case {"interval": [first, last]}:
            return _interval(first, last, parameter)
        case str(text):
            return _text(text, parameter)
        case _:
            raise InvalidSearch(parameter, f"{str(literal)[:80]!r} is not a timestamp, a date or an interval of them")


def _interval(first: object, last: object, parameter: str) -> Span:
    if not (isinstance(first, str | dict) and isinstance(last, str | dict)):
        raise InvalidSearch(parameter, "an interval has two times, or '..' for an open end")
    start = None if first in _OPEN else read_time(first, parameter).start
    end = None if last in _OPEN else read_time(last, parameter).end
    if start is not None and end is not None and start > end:
        raise InvalidSearch(parameter, f"the interval from {start.isoformat()} ends before it begins")
    return Span(start, end)


def _text(text: str, parameter: str) -> Span:
    if len(text) == len("2024-06-17"):
        return _day(text, parameter)
    moment = _moment(text, parameter)
    return Span(moment, moment)


def _day(text: str, parameter: str) -> Span:
    try:
        start = datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError as error:
        raise InvalidSearch(parameter, f"{text[:80]!r} is not a date such as 2024-06-17") from error
    return Span(start, datetime.combine(start, time.max, UTC))


def _moment(text: str, parameter: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or "T" not in text.upper():
            raise ValueError(text)  # noqa: TRY301 - said below
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidSearch(parameter, f"{text[:80]!r} is not a time such as 2024-06-17T11:33:21Z") from error


Column: TypeAlias = Any
"""A SQL expression of times."""


def _never(t: Column) -> ColumnElement[bool]:
    """False, but unknown where there is no time."""
    return not_(_always(t))


def _always(t: Column) -> ColumnElement[bool]:
    return and_(t == t)


def _after(t: Column, span: Span) -> ColumnElement[bool]:
    return _never(t) if span.end is None else t > span.end


def _before(t: Column, span: Span) -> ColumnElement[bool]:
    return _never(t) if span.start is None else t < span.start


def _meets(t: Column, span: Span) -> ColumnElement[bool]:
    return _never(t) if span.start is None else t == span.start


def _met_by(t: Column, span: Span) -> ColumnElement[bool]:
    return _never(t) if span.end is None else t == span.end


def _disjoint(t: Column, span: Span) -> ColumnElement[bool]:
    return or_(_before(t, span), _after(t, span))


def _within(t: Column, *limits: ColumnElement[bool] | None) -> ColumnElement[bool]:
    return and_(*(limit for limit in limits if limit is not None)) if any(x is not None for x in limits) else _always(t)


def _intersects(t: Column, span: Span) -> ColumnElement[bool]:
    if span.start is not None and span.start == span.end:
        return _meets(t, span)
    return _within(t, None if span.start is None else t >= span.start, None if span.end is None else t <= span.end)


def _during(t: Column, span: Span) -> ColumnElement[bool]:
    return _within(t, None if span.start is None else t > span.start, None if span.end is None else t < span.end)


def _equals(t: Column, span: Span) -> ColumnElement[bool]:
    return and_(_meets(t, span), _met_by(t, span))


def _starts(t: Column, span: Span) -> ColumnElement[bool]:
    return and_(_meets(t, span), _always(t) if span.end is None else t < span.end)


def _finishes(t: Column, span: Span) -> ColumnElement[bool]:
    return and_(_met_by(t, span), _always(t) if span.start is None else t > span.start)


def _impossible(t: Column, _span: Span) -> ColumnElement[bool]:
    """An instant holds no other time within itself, and nothing overlaps a part of it."""
    return _never(t)


RELATIONS: Final[dict[str, Callable[[Column, Span], ColumnElement[bool]]]] = {
    "t_after": _after,
    "t_before": _before,
    "t_intersects": _intersects,
    "t_disjoint": _disjoint,
    "t_equals": _equals,
    "t_during": _during,
    "t_contains": _impossible,
    "t_meets": _meets,
    "t_metby": _met_by,
    "t_starts": _starts,
    "t_startedby": _impossible,
    "t_finishes": _finishes,
    "t_finishedby": _impossible,
    "t_overlaps": _impossible,
    "t_overlappedby": _impossible,
    "anyinteracts": _intersects,
}
"""By CQL2's names in lower case; the item's time is the first operand."""

_FACES: Final = {
    "t_after": "t_before", "t_during": "t_contains", "t_meets": "t_metby", "t_starts": "t_startedby",
    "t_finishes": "t_finishedby", "t_overlaps": "t_overlappedby",
}  # fmt: skip
TURNED: Final = _FACES | {there: here for here, there in _FACES.items()}
"""Each relation's other face, for an item's time as the second operand; the rest are their own."""

COMPARED: Final[dict[str, Callable[[Column, Span], ColumnElement[bool]]]] = {
    "=": _intersects,
    "<>": _disjoint,
    "<": _before,
    ">": _after,
    "<=": lambda t, span: t <= span.end,
    ">=": lambda t, span: t >= span.start,
}
"""Comparisons; a date is its whole day, so a time of that day is equal to it, and neither before nor after."""
