"""Which parts of items an answer has: what a client leaves out is not read, and lists of bands not put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from catalog.search.errors import InvalidSearch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FIELDS: Final = 200
_DEFAULT: Final = (("type",), ("stac_version",), ("id",), ("collection",))
"""What an answer also has when a client names what it wants, unless it does not want that."""
_ANY: Final = "*"
_DEEPEST: Final = 8


@dataclass(frozen=True)
class Fields:
    """What is wanted and what is not, as paths of names; one ``*`` stands for any name."""

    include: tuple[tuple[str, ...], ...] = ()
    """Empty: everything."""
    exclude: tuple[tuple[str, ...], ...] = ()

    def of(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the wanted parts of an item; the item is left alone."""
        kept = _kept(item, self.include) if self.include else dict(item)
        return _without(kept, self.exclude) if self.exclude else kept


ALL: Final = Fields()


def read_fields(include: Iterable[str], exclude: Iterable[str]) -> Fields:
    """Read names of fields such as ``properties.eo:cloud_cover`` or ``assets.*.bands``.

    Raises:
        InvalidSearch: there are too many, or one is none.
    """
    wanted, unwanted = (tuple(_path(name) for name in names if name.strip()) for names in (include, exclude))
    if len(wanted) + len(unwanted) > MAX_FIELDS:
        raise InvalidSearch("fields", f"names {len(wanted) + len(unwanted)} fields; at most {MAX_FIELDS} are accepted")
    # What is named twice is wanted; and of a part that is not wanted, the inner parts that are.
    left = tuple(path for path in unwanted if not any(each[: len(path)] == path for each in wanted))
    return Fields((*wanted, *_DEFAULT) if wanted else (), left)


def _path(name: str) -> tuple[str, ...]:
    path = tuple(name.strip().split("."))
    if not all(path) or len(path) > _DEEPEST:
        raise InvalidSearch("fields", f"{name[:80]!r} is not the name of a field")
    return path


def _kept(value: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, inner in value.items():
        below = [path[1:] for path in paths if path[0] in {name, _ANY}]
        if not below:
            continue
        if () in below or not isinstance(inner, dict):
            kept[name] = inner
        else:
            kept[name] = _kept(inner, below)
    return kept


def _without(value: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for name, inner in value.items():
        below = [path[1:] for path in paths if path[0] in {name, _ANY}]
        if () in below:
            continue
        left[name] = _without(inner, below) if below and isinstance(inner, dict) else inner
    return left
