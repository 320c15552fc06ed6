"""The whitelist: what filters may name, what searches can be sorted by, and both as JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import String, cast, null

from catalog.facts import FACTS, Kind
from catalog.search.errors import InvalidSearch
from catalog.tables import item_search

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

GEOMETRY: Final = "geometry"
_PREFIX: Final = "properties."

_LACKING: Final = {"mission": Kind.TEXT}
"""Common metadata that clients ask for everywhere and none of our items has: unknown, and not refused."""

_KINDS: Final[dict[str, Kind]] = {
    "id": Kind.TEXT, "collection": Kind.TEXT, **{fact.name: fact.kind for fact in FACTS}, **_LACKING,
}  # fmt: skip
_COLUMNS: Final = {"id": "id", "collection": "collection", **{fact.name: fact.column for fact in FACTS}}
_TYPES: Final[dict[Kind, dict[str, Any]]] = {
    Kind.TEXT: {"type": "string"},
    Kind.NUMBER: {"type": "number"},
    Kind.TRUTH: {"type": "boolean"},
    Kind.TIME: {"type": "string", "format": "date-time"},
}
_ALWAYS: Final = frozenset({"id", "collection", "datetime"})
_SCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"


def kind_of(name: str, parameter: str) -> Kind:
    """Return what kind of values a property has.

    Args:
        name: As in an item, with or without ``properties.`` before it.
        parameter: Named in errors.

    Raises:
        InvalidSearch: it is not on the whitelist.
    """
    found = _KINDS.get(name.removeprefix(_PREFIX))
    if found is None:
        raise InvalidSearch(parameter, f"property {name[:80]!r} cannot be asked for; see /queryables")
    return found


def column_of(name: str) -> ColumnElement[Any]:
    """Return the column of a property for which `kind_of` has answered."""
    name = name.removeprefix(_PREFIX)
    return cast(null(), String) if name in _LACKING else item_search.c[_COLUMNS[name]]


def can_sort_by(name: str) -> bool:
    """Say whether searches can be sorted by a property for which `kind_of` has answered."""
    return name.removeprefix(_PREFIX) not in _LACKING


def is_always_there(name: str) -> bool:
    """Say whether every item has a property."""
    return name.removeprefix(_PREFIX) in _ALWAYS


def queryables(address: str) -> dict[str, Any]:
    """Return the JSON Schema of everything that filters may name, to be found at an address."""
    geometry = {"$ref": "https://geojson.org/schema/Geometry.json", "title": "Footprint"}
    return _schema(address, "Queryables", {**_properties(), GEOMETRY: geometry})


def sortables(address: str) -> dict[str, Any]:
    """Return the JSON Schema of everything that searches can be sorted by, to be found at an address."""
    return _schema(address, "Sortables", _properties())


def _properties() -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": {"title": "Id", **_TYPES[Kind.TEXT]},
        "collection": {"title": "Collection", **_TYPES[Kind.TEXT]},
    }
    for fact in FACTS:
        found[fact.name] = {"title": fact.title, **_TYPES[fact.kind]}
        if fact.range is not None:
            found[fact.name] |= {"minimum": fact.range[0], "maximum": fact.range[1]}
    return found


def _schema(address: str, title: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schema": _SCHEMA,
        "$id": address,
        "type": "object",
        "title": title,
        "properties": properties,
        "additionalProperties": False,
    }
