"""Retention: versions that were replaced long ago are taken out of the catalog, then their files out of the store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import unquote

from catalog.publishing import published_hrefs
from catalog.retention import expired_versions, remove_version
from flows.names import attempt_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from catalog.retention import Expired
    from flows.assembly import Assembly
    from infra.storage import ObjectStore

logger = logging.getLogger(__name__)


def retire_versions(
    assembly: Assembly, *, older_than: timedelta, keep: int = 0, limit: int = 10_000, dry_run: bool = False
) -> Iterator[Expired]:
    """Remove versions that were replaced longer ago than some time; the latest version of an item always stays.

    Broken off anywhere, a second call goes on; files that a break left behind are found by `scenes clean`.

    Args:
        assembly: The system's parts.
        older_than: How long a version stays after its replacement.
        keep: So many versions before the latest stay however old they are.
        limit: At most so many, those first that were replaced first.
        dry_run: Only list.

    Yields:
        Each version that was, or would be, removed, as soon as it is.
    """
    for expired in expired_versions(assembly.database, older_than=older_than, keep=keep, limit=limit):
        if dry_run:
            yield expired
        elif remove_version(assembly.database, expired):
            _remove_files(assembly, expired)
            yield expired


def _remove_files(assembly: Assembly, expired: Expired) -> None:
    named = published_hrefs(assembly.database, expired.hrefs)
    for href in expired.hrefs:
        key = _own_key(assembly.store, href)
        if key is None or href in named:
            logger.warning("left %s alone: it is no file of a product in %s", href, assembly.store.url)
        else:
            assembly.store.delete(key)


def _own_key(store: ObjectStore, href: str) -> str | None:
    """Return the key of a product's file in this store; None for any other address."""
    if not href.startswith(f"{store.url}/"):
        return None
    key = unquote(href.removeprefix(f"{store.url}/"))
    return key if attempt_of(key) is not None and store.href(key) == href else None
