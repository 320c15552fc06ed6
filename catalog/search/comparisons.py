"""The query extension, older than CQL2 and simpler: comparisons by property, all of which must hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from catalog.facts import Kind
from catalog.search.cql2 import read_filter
from catalog.search.errors import InvalidSearch
from catalog.search.queryables import kind_of

if TYPE_CHECKING:
    from catalog.search.predicates import Predicate

_OPERATORS: Final = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "in": "in"}
_PATTERNS: Final = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}
_SPECIAL: Final = re.compile(r"([%_\\])")


def read_comparisons(given: Any) -> Predicate:
    """Read a query such as ``{"eo:cloud_cover": {"lt": 10}}``.

    Raises:
        InvalidSearch: it cannot be understood, or names what nobody may ask for.
    """
    if not isinstance(given, dict) or not all(isinstance(each, dict) for each in given.values()):
        raise InvalidSearch("query", 'is not an object such as {"eo:cloud_cover": {"lt": 10}}')
    parts = [_part(name, op, value) for name, each in given.items() for op, value in each.items()]
    return read_filter({"op": "and", "args": parts}, None, None, "query")


def _part(name: str, operator: str, value: Any) -> dict[str, Any]:
    if operator in _OPERATORS:
        return {"op": _OPERATORS[operator], "args": [{"property": name}, _value(name, value)]}
    if operator in _PATTERNS and isinstance(value, str):
        pattern = _PATTERNS[operator].format(_SPECIAL.sub(r"\\\1", value))
        return {"op": "like", "args": [{"property": name}, pattern]}
    known = ", ".join((*_OPERATORS, *_PATTERNS))
    raise InvalidSearch("query", f"operator {operator[:40]!r} of {name[:80]!r} is unknown; expected one of {known}")


def _value(name: str, value: Any) -> Any:
    """Take the text of a number for the number where one is compared, as this extension's servers do."""
    if isinstance(value, str) and kind_of(name, "query") is Kind.NUMBER:
        try:
            return float(value)
        except ValueError:
            return value
    return value
