"""What people name when they want to read: an item of the catalog, a folder, a file, an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from catalog.publishing import published_item
from infra.compact import Window
from infra.compact.errors import OutsideProduct

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.assembly import Assembly
    from infra.compact import RasterInfo
    from infra.settings import Settings, StorageSettings


class UnknownItem(LookupError):
    """The catalog has no such item."""

    transient: ClassVar[bool] = False


def is_address(product: str) -> bool:
    """Tell a path or URL from an item's id, which has neither slash nor suffix."""
    return "/" in product or product.endswith((".tif", ".tiff")) or product in {".", ".."}


def storage_of(address: str, settings: Callable[[], Settings]) -> StorageSettings | None:
    """Return the settings' endpoint and keys where an address needs them; a file on disk needs no settings at all."""
    return settings().resolved_storage if address.startswith("s3://") else None


def asset_address(assembly: Assembly, item_id: str) -> str:
    """Return the address of an item's spectra: its 172-band file, or the compact one where there is no other.

    Args:
        assembly: The system's parts.
        item_id: Of a published item.

    Raises:
        UnknownItem: the catalog has none of that id.
    """
    item = published_item(assembly.database, assembly.settings.collection_id, item_id)
    if item is None:
        raise UnknownItem(f"the catalog has no item {item_id!r}; name an item, a folder, a file or an address")
    assets = item["assets"]
    return str(assets["hsi" if "hsi" in assets else "compact"]["href"])


def parse_window(text: str | None, info: RasterInfo) -> Window:
    """Understand ``column,row,width,height``; the whole raster where there is no text.

    Raises:
        OutsideProduct: it is not understood.
    """
    if text is None:
        return Window(0, 0, info.width, info.height)
    try:
        column, row, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise OutsideProduct(f"window is {text!r}; expected column,row,width,height in pixels") from None
    return Window(column, row, width, height)
