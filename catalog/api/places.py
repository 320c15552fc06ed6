"""Where clients read files: under the stored address, by https, or by an address that is signed for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import ApiSettings, StorageSettings


class LinksUnusable(ValueError):
    """The settings ask for addresses that cannot be made."""


def asset_locator(
    settings: ApiSettings, storage: StorageSettings, sign: Callable[[str], str] | None
) -> Callable[[str], str] | None:
    """Return what turns a stored file's address into the one that clients get; None: it stays as it is.

    Only addresses below the store's own are turned: whatever else an item names is not ours to open.

    Args:
        settings: ``asset_links`` says which kind, ``asset_url`` where the store is reached by https.
        storage: The store, as operators write it.
        sign: Turns an address below the store's into one that anybody can read for a while.

    Raises:
        LinksUnusable: there is nothing to make them with.
    """
    root = storage.url.rstrip("/") + "/"
    if settings.asset_links == "stored":
        return None
    if settings.asset_links == "signed":
        if sign is None or not root.startswith("s3://"):
            raise LinksUnusable("api.asset_links is 'signed', which takes a store of s3:// with an access key")
        return lambda href: sign(href) if href.startswith(root) else href
    if settings.asset_url is None:
        raise LinksUnusable("api.asset_links is 'https', which takes api.asset_url: where the store is reached")
    base = settings.asset_url.rstrip("/") + "/"
    return lambda href: base + quote(href.removeprefix(root)) if href.startswith(root) else href
