"""Items as the text that was stored: a page of a hundred is joined from it, and nothing is taken apart and built again.

A stored item is one line of JSON whose lists of bands and bits are digests (see `catalog.hydration`). Only its links
are read, which are short and depend on the address of the server; the digests are replaced by the text of their lists,
or left out with them. A text that is not written as ours are (another program's, or of an older release) is read as
JSON like any other.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import orjson

from catalog.hydration import SHARED, band_tables, hydrate
from catalog.search.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

_DIGEST: Final = re.compile(rf'"({"|".join(SHARED)})": ?"([0-9a-f]{{32}})"')
"""A shared list of an asset, in any JSON."""
_DIGITS: Final = 32
_HEX: Final = frozenset("0123456789abcdef")
_LINKS: Final = ',"links":['
_ASSETS: Final = '],"assets":{'
_LEAVES: Final[dict[tuple[str, ...], str]] = {("assets", "*", name): name for name in SHARED}
_MAX_LISTS: Final = 2_000


@dataclass(frozen=True)
class StoredItem:
    """An item as stored."""

    collection: str
    id: str
    text: str


def left_out(fields: Fields) -> frozenset[str] | None:
    """Return which shared lists an answer has not; None: it leaves out more, or something else."""
    if fields.include or not all(path in _LEAVES for path in fields.exclude):
        return None
    return frozenset(_LEAVES[path] for path in fields.exclude)


class SharedLists:
    """The text of shared lists by digest, remembered: a digest's list never changes. Threads may share it."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def of(self, session: Session, digests: Iterable[str]) -> dict[str, str]:
        """Return the texts of lists; one query for all that are not remembered."""
        wanted = set(digests)
        with self._lock:
            found = {digest: self._texts[digest] for digest in wanted if digest in self._texts}
        missing = wanted - found.keys()
        if missing:
            read = {digest: orjson.dumps(body).decode() for digest, body in band_tables(session, missing).items()}
            found |= read
            with self._lock:
                self._texts.update(read)
                while len(self._texts) > _MAX_LISTS:
                    self._texts.popitem(last=False)
        return found


def answered(
    session: Session,
    items: Sequence[StoredItem],
    without: frozenset[str],
    lists: SharedLists,
    linked: Callable[[dict[str, Any]], list[dict[str, Any]]],
) -> list[str]:
    """Return items as clients read them, each as JSON.

    Args:
        session: To read shared lists.
        items: As stored.
        without: Names of shared lists that are left out.
        lists: Those that are remembered.
        linked: Makes the links of an item with ``collection``, ``id`` and its stored ``links``.
    """
    texts: dict[str, str] = {}
    if without != frozenset(SHARED):
        named = {found for item in items for found in _DIGEST.findall(item.text)}
        texts = lists.of(session, {digest for name, digest in named if name not in without})

    return [_answer(item, linked, texts, without) for item in items]


def _answer(
    item: StoredItem,
    linked: Callable[[dict[str, Any]], list[dict[str, Any]]],
    texts: dict[str, str],
    without: frozenset[str],
) -> str:
    text = item.text
    start = text.find(_LINKS)
    end = text.find(_ASSETS, start)
    if start < 0 or end < 0:
        return _read_and_answered(item, linked, texts, without)
    stored = orjson.loads(text[start + len(_LINKS) - 1 : end + 1])
    links = linked({"collection": item.collection, "id": item.id, "links": stored})
    assets = text[end + 2 :]
    for name in SHARED:
        assets = _with_lists(assets, name, None if name in without else texts)
    return f'{text[:start]},"links":{orjson.dumps(links).decode()},{assets}'


def _with_lists(text: str, name: str, texts: Mapping[str, str] | None) -> str:
    """Put the lists of one name in the place of their digests, or leave them out with their name (None).

    Splitting finds the names ten times as fast as an expression would; inside a JSON string the quotes would be
    escaped, so nothing else is found.
    """
    opening = f',"{name}":"'
    head, *rest = text.split(opening)
    done = [head]
    for part in rest:
        digest, end = part[:_DIGITS], part[_DIGITS : _DIGITS + 1]
        if end != '"' or not _is_digest(digest):
            done += [opening, part]
        elif texts is None:
            done.append(part[_DIGITS + 1 :])
        else:
            done += [f',"{name}":', texts[digest], part[_DIGITS + 1 :]]
    return "".join(done)


@lru_cache(maxsize=4096)
def _is_digest(text: str) -> bool:
    return len(text) == _DIGITS and _HEX.issuperset(text)


def _read_and_answered(
    item: StoredItem,
    linked: Callable[[dict[str, Any]], list[dict[str, Any]]],
    texts: dict[str, str],
    without: frozenset[str],
) -> str:
    body = orjson.loads(item.text)
    slim = Fields(exclude=tuple(path for path, name in _LEAVES.items() if name in without)).of(body)
    whole = hydrate(slim, {digest: orjson.loads(text) for digest, text in texts.items()})
    return orjson.dumps({**whole, "links": linked(body)}).decode()
