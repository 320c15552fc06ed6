"""Files that no catalog entry names: what a crashed attempt left behind, found and removed.

Every attempt writes into a folder of its own (product revision and claim token), so a file is either named by a
published version of its item or belongs to an attempt that is running or dead. Only the last kind is removed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from catalog.publishing import published_hrefs
from flows.names import TOKEN_DIGITS, attempt_of

if TYPE_CHECKING:
    from flows.assembly import Assembly
    from flows.names import ProductKeys

logger = logging.getLogger(__name__)


def remove_dead_attempts(assembly: Assembly, keys: ProductKeys, revision: str) -> list[str]:
    """Remove what earlier attempts at the same product revision left, while holding the scene's claim.

    Args:
        assembly: The system's parts.
        keys: Where the present attempt writes.
        revision: The product revision; other revisions of the item may be in work elsewhere and are left alone.

    Returns:
        The keys that were removed.
    """
    store = assembly.store
    stale = [
        stored.key
        for stored in store.list(f"{keys.item_prefix}/{revision}-")
        if not stored.key.startswith(f"{keys.prefix}/")
    ]
    removed = _remove_unnamed(assembly, stale)
    removed += store.clean_partial(f"{keys.item_prefix}/{revision}-", older_than=timedelta(0))
    return removed


def remove_attempt(assembly: Assembly, prefix: str) -> list[str]:
    """Remove the files of one failed attempt, unless the catalog names them after all.

    The second look matters: a connection lost at the very commit leaves the worker with an error and the catalog with
    a published item.
    """
    return _remove_unnamed(assembly, [stored.key for stored in assembly.store.list(f"{prefix}/")])


def remove_orphans(assembly: Assembly, *, older_than: timedelta, dry_run: bool = False) -> list[str]:
    """Remove files of dead attempts: of a revision that this ledger began, held by nobody and named by nobody.

    Anything else in the store is left alone, also everything when the ledger is another one than the store's.

    Args:
        assembly: The system's parts.
        older_than: Younger files are left alone.
        dry_run: Only list.

    Returns:
        The keys that were, or would be, removed.
    """
    limit = datetime.now(UTC) - older_than
    revisions = assembly.ledger.product_revisions()
    held = {token[:TOKEN_DIGITS] for token in assembly.ledger.held_tokens()}
    aged = [
        stored.key
        for stored in assembly.store.list()
        if stored.modified is not None and stored.modified <= limit and _is_dead(stored.key, revisions, held)
    ]
    removed = _remove_unnamed(assembly, aged, dry_run=dry_run)
    return removed if dry_run else removed + assembly.store.clean_partial("", older_than=older_than)


def _is_dead(key: str, revisions: set[str], held: set[str]) -> bool:
    attempt = attempt_of(key)
    return attempt is not None and attempt.revision in revisions and attempt.token not in held


def _remove_unnamed(assembly: Assembly, keys: list[str], *, dry_run: bool = False) -> list[str]:
    if not keys:
        return []
    store = assembly.store
    named = published_hrefs(assembly.database, [store.href(key) for key in keys])
    unnamed = [key for key in keys if store.href(key) not in named]
    if not dry_run:
        for key in unnamed:
            store.delete(key)
            logger.info("removed %s: no catalog entry names it", key)
    return unnamed
