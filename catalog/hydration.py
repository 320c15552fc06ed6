"""Items are stored without their lists of bands and bits, which are kept once and put back on reading.

A product's 172 channels and its layers are 23 kB of JSON that thousands of items share. Each list is kept under the
digest of its own text, so an item reads for ever as it was published, whatever later models call their layers.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from catalog.tables import BandTableRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

SHARED: Final = ("bands", "classification:bitfields")
"""Fields of an asset that are kept apart; in a stored item each holds the digest of its list."""

_DIGITS: Final = 32


def dehydrate(item: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Take the shared lists out of an item.

    Args:
        item: A whole item; left alone.

    Returns:
        The item to store, and the lists by their digest.
    """
    tables: dict[str, list[Any]] = {}
    assets = {}
    for key, asset in item["assets"].items():
        slim = dict(asset)
        for name in SHARED:
            if name in asset:
                digest = _digest(asset[name])
                tables[digest], slim[name] = asset[name], digest
        assets[key] = slim
    return {**item, "assets": assets}, tables


def hydrate(item: Mapping[str, Any], tables: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Put the shared lists back into an item.

    Args:
        item: As stored; left alone.
        tables: Lists by digest; more than the item needs do no harm.

    Returns:
        The item as it was published.
    """
    assets = {
        key: {name: tables[value] if name in SHARED else value for name, value in asset.items()}
        for key, asset in item["assets"].items()
    }
    return {**item, "assets": assets}


def hydrated(session: Session, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the shared lists back into stored items, with one query for all."""
    wanted = {asset[name] for item in items for asset in item["assets"].values() for name in SHARED if name in asset}
    tables = band_tables(session, wanted)
    return [hydrate(item, tables) for item in items]


def band_tables(session: Session, digests: Iterable[str]) -> dict[str, list[Any]]:
    """Return the lists of the given digests."""
    wanted = sorted(set(digests))
    if not wanted:
        return {}
    rows = session.scalars(select(BandTableRecord).where(BandTableRecord.digest.in_(wanted)))
    return {row.digest: row.body for row in rows}


def store_tables(session: Session, tables: Mapping[str, list[Any]]) -> None:
    """Keep those lists that are not kept yet; the caller's transaction has publications take turns."""
    known = band_tables(session, tables)
    session.add_all(BandTableRecord(digest=digest, body=body) for digest, body in tables.items() if digest not in known)


def _digest(value: list[Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
