"""CQL2, text and JSON, compiled to predicates: a whitelist of properties and operators, every literal bound."""

from __future__ import annotations

import json
import operator
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import cql2
from sqlalchemy import ColumnElement, false, func, literal, or_, true

from catalog.facts import Kind
from catalog.search import times
from catalog.search.areas import area_of_bbox, area_of_geometry
from catalog.search.errors import InvalidSearch
from catalog.search.patterns import like
from catalog.search.predicates import RELATIONS, Condition, Predicate, Shape, every, opposite, some
from catalog.search.queryables import GEOMETRY, column_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shapely.geometry.base import BaseGeometry

MAX_CHARACTERS: Final = 65_536
MAX_DEPTH: Final = 32
MAX_NODES: Final = 2_000
"""Operators and operands of one filter."""
CRS84: Final = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_MAX_BRACKETS: Final = 64
_MAX_SIGNS: Final = 200
"""NOTs and unary minuses of one text: cql2's parser goes one call deeper for each, and overflows its stack on
thousands, which would end the server."""

_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_NOT: Final = re.compile(r"\bnot\b", re.IGNORECASE)
_MINUSES: Final = re.compile(r"-\s*-")
_LONGEST: Final = 512
_LARGEST: Final = 1e300

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_TURNED_SHAPES: Final = {"s_within": "s_contains", "s_contains": "s_within"}


@dataclass(frozen=True)
class _Operand:
    """One side of a comparison."""

    sql: Any
    """A column, or a plain value."""
    kind: Kind
    is_property: bool


def read_filter(given: Any, language: str | None, crs: str | None, parameter: str = "filter") -> Predicate:
    """Read a filter.

    Args:
        given: CQL2 text, CQL2 JSON, or the text of CQL2 JSON.
        language: ``cql2-text`` or ``cql2-json``; None: text is text, JSON is JSON.
        crs: Of its geometries; None: WGS 84, longitude first.
        parameter: Named in errors.

    Raises:
        InvalidSearch: it cannot be understood, asks for what nobody may ask for, or is too large.
    """
    if crs is not None and crs != CRS84:
        raise InvalidSearch("filter-crs", f"is {crs[:80]!r}; expected {CRS84}")
    if language not in {None, "cql2-text", "cql2-json"}:
        raise InvalidSearch("filter-lang", f"is {str(language)[:80]!r}; expected cql2-text or cql2-json")
    if isinstance(given, str):
        given = _parsed_text(given, parameter) if language != "cql2-json" else _parsed_json(given, parameter)
    elif language == "cql2-text":
        raise InvalidSearch("filter-lang", "is cql2-text, but the filter is JSON")
    return _Reader(parameter).predicate(given)


def _parsed_text(text: str, parameter: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise InvalidSearch(parameter, f"has {len(text)} characters; at most {MAX_CHARACTERS} are accepted")
    bare = _QUOTED.sub("''", text)
    deepest = max(accumulate(1 if c in "([" else -1 for c in bare if c in "()[]"), default=0)
    if deepest > _MAX_BRACKETS or len(_NOT.findall(bare)) + len(_MINUSES.findall(bare)) > _MAX_SIGNS:
        raise InvalidSearch(parameter, f"is nested too deeply; at most {_MAX_BRACKETS} brackets are accepted")
    try:
        return cql2.parse_text(text).to_json()
    except cql2.ParseError as error:
        where = re.search(r"--> \d+:(\d+)", str(error))
        place = f" at character {where[1]}" if where else ""
        raise InvalidSearch(parameter, f"is not CQL2 text; it cannot be understood{place}") from error
    except ValueError as error:
        raise InvalidSearch(parameter, "is not CQL2 text") from error


def _parsed_json(text: str, parameter: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise InvalidSearch(parameter, f"has {len(text)} characters; at most {MAX_CHARACTERS} are accepted")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSearch(parameter, "is not JSON") from error


def _is_property(node: Any) -> bool:
    match node:
        case {"property": str()}:
            return True
        case {"op": str(name), "args": [{"property": str()}]}:
            return name.lower() == "casei"
        case _:
            return False


def _folded(text: str) -> str:
    """Lower the letters A to Z, as every database does in the collation of our columns."""
    return "".join(character.lower() if character.isascii() else character for character in text)


def _shown(node: Any) -> str:
    return repr(node["property"] if isinstance(node, dict) and "property" in node else node)[:80]


class _Reader:
    """Compiles one filter and counts what it reads."""

    def __init__(self, parameter: str) -> None:
        self._parameter = parameter
        self._nodes = 0

    def predicate(self, node: Any, depth: int = 0) -> Predicate:
        """Read something that is true or false."""
        self._count(depth)
        if isinstance(node, bool):
            return Condition(true() if node else false())
        if isinstance(node, dict) and "property" in node:
            operand = self._operand(node)
            if operand.kind is not Kind.TRUTH:
                raise self._error(f"property {node['property']!r} alone is not true or false")
            return Condition(operand.sql == true())
        name, arguments = self._operation(node)
        if name in {"and", "or"}:
            parts = [self.predicate(argument, depth + 1) for argument in arguments]
            return every(parts) if name == "and" else some(parts)
        if name == "not":
            (inner,) = self._exactly(name, arguments, 1)
            return opposite(self.predicate(inner, depth + 1))
        if name in RELATIONS:
            left, right = self._exactly(name, arguments, 2)
            return self._shape(name, left, right)
        return Condition(self._condition(name, arguments))

    def _condition(self, name: str, arguments: list[Any]) -> ColumnElement[bool]:
        if name in times.RELATIONS or name in _COMPARISONS:
            left, right = self._exactly(name, arguments, 2)
            return self._relation(name, left, right) if name in times.RELATIONS else self._comparison(name, left, right)
        match name:
            case "between":
                if len(arguments) == 2 and isinstance(arguments[1], list):  # as drafts of CQL2 had it; clients send it
                    arguments = [arguments[0], *arguments[1]]
                return self._between(*self._exactly(name, arguments, 3))
            case "in":
                return self._in(*self._exactly(name, arguments, 2))
            case "like":
                return self._like(*self._exactly(name, arguments, 2))
            case "isnull":
                return self._is_null(*self._exactly(name, arguments, 1))
            case _:
                raise self._error(f"operator {name[:40]!r} is not supported")

    def _comparison(self, name: str, left: Any, right: Any) -> ColumnElement[bool]:
        if not _is_property(left) and _is_property(right):
            left, right, name = right, left, _FLIPPED.get(name, name)
        first = self._operand(left)
        if first.kind is Kind.TIME and not _is_property(right):
            if isinstance(right, dict) and "interval" in right:
                raise self._error(f"{name!r} compares times, not intervals; use t_intersects and the like")
            span = times.read_time(right, self._parameter)
            compared: ColumnElement[bool] = times.COMPARED[name](first.sql, span)
            return compared
        second = self._operand(right)
        if first.kind is not second.kind:
            raise self._error(f"{_shown(left)} is {first.kind}, {_shown(right)} is {second.kind}")
        if not first.is_property and not second.is_property:
            raise self._error(f"{_shown(left)} and {_shown(right)} are values; compare a property with one")
        result: ColumnElement[bool] = _COMPARISONS[name](first.sql, second.sql)
        return result

    def _between(self, node: Any, low: Any, high: Any) -> ColumnElement[bool]:
        return self._comparison(">=", node, low) & self._comparison("<=", node, high)

    def _in(self, node: Any, values: Any) -> ColumnElement[bool]:
        if not isinstance(values, list) or not values:
            raise self._error("the second operand of 'in' is not a list of values")
        operand = self._property(node, "in")
        if operand.kind is Kind.TIME:
            return or_(*(self._comparison("=", node, value) for value in values))
        read = [self._operand(value) for value in values]
        for value in read:
            if value.kind is not operand.kind or value.is_property:
                raise self._error(f"{_shown(node)} is {operand.kind}, but the list has other values")
        chosen_from: ColumnElement[bool] = operand.sql.in_([value.sql for value in read])
        return chosen_from

    def _like(self, node: Any, pattern: Any) -> ColumnElement[bool]:
        operand, wanted = self._property(node, "like"), pattern
        folded = isinstance(pattern, dict) and pattern.get("op") == "casei"
        if folded:
            wanted = self._exactly("casei", pattern.get("args"), 1)[0]
        if operand.kind is not Kind.TEXT or not isinstance(wanted, str):
            raise self._error("'like' compares a text property with a pattern")
        self._check_text(wanted)
        return like(operand.sql, _folded(wanted) if folded else wanted)

    def _is_null(self, node: Any) -> ColumnElement[bool]:
        if _is_property(node) and node["property"] == GEOMETRY:
            return false()
        missing: ColumnElement[bool] = self._property(node, "isNull").sql.is_(None)
        return missing

    def _relation(self, name: str, left: Any, right: Any) -> ColumnElement[bool]:
        if not _is_property(left):
            left, right, name = right, left, times.TURNED.get(name, name)
        operand = self._property(left, name)
        if operand.kind is not Kind.TIME:
            raise self._error(f"{_shown(left)} is {operand.kind}; {name} compares times")
        return times.RELATIONS[name](operand.sql, times.read_time(right, self._parameter))

    def _shape(self, name: str, left: Any, right: Any) -> Predicate:
        if not _is_property(left):
            left, right, name = right, left, _TURNED_SHAPES.get(name, name)
        if not _is_property(left) or left["property"] != GEOMETRY:
            raise self._error(f"{name} compares the property {GEOMETRY!r} with a geometry")
        return Shape(name, self._area(right))

    def _area(self, node: Any) -> BaseGeometry:
        if isinstance(node, dict) and isinstance(node.get("bbox"), list) and "type" not in node:
            if not all(isinstance(edge, int | float) for edge in node["bbox"]):
                raise self._error("a bbox has numbers only")
            return area_of_bbox(node["bbox"], self._parameter)
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise self._error("a geometry is GeoJSON, or WKT in text")
        return area_of_geometry(node, self._parameter)

    def _property(self, node: Any, name: str) -> _Operand:
        operand = self._operand(node)
        if not operand.is_property:
            raise self._error(f"the first operand of {name!r} is not a property")
        return operand

    def _operand(self, node: Any) -> _Operand:
        self._count(0)
        match node:
            case {"property": str(name)}:
                kind = kind_of(name, self._parameter)
                return _Operand(column_of(name), kind, is_property=True)
            case {"op": "casei", "args": [inner]}:
                return self._folded(self._operand(inner))
            case bool():
                return _Operand(literal(node), Kind.TRUTH, is_property=False)
            case int() | float() if abs(node) <= _LARGEST:
                return _Operand(float(node), Kind.NUMBER, is_property=False)
            case str():
                self._check_text(node)
                return _Operand(node, Kind.TEXT, is_property=False)
            case _:
                raise self._error(f"{_shown(node)} is neither a property nor a value that can be compared")

    def _folded(self, operand: _Operand) -> _Operand:
        if operand.kind is not Kind.TEXT:
            raise self._error("casei takes text")
        folded = func.lower(operand.sql) if operand.is_property else _folded(operand.sql)
        return _Operand(folded, Kind.TEXT, operand.is_property)

    def _check_text(self, text: str) -> None:
        if len(text) > _LONGEST or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise self._error(f"a text has more than {_LONGEST} characters, or some that are none")

    def _operation(self, node: Any) -> tuple[str, list[Any]]:
        match node:
            case {"op": str(name), "args": list(arguments)}:
                return name.lower(), arguments
            case _:
                raise self._error(f"{_shown(node)} is not an operation with op and args")

    def _exactly(self, name: str, arguments: Any, number: int) -> list[Any]:
        if not isinstance(arguments, list) or len(arguments) != number:
            raise self._error(f"{name!r} takes {number} operands")
        return arguments

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise self._error(f"is nested deeper than {MAX_DEPTH}")
        if self._nodes > MAX_NODES:
            raise self._error(f"has more than {MAX_NODES} parts")

    def _error(self, problem: str) -> InvalidSearch:
        return InvalidSearch(self._parameter, problem)
