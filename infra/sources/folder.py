"""A folder of STAC items as a source."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from shapely.geometry import shape

from infra.sources.acquisition import Acquisition, Unreadable
from infra.sources.errors import ItemUnreadable, SourceUnavailable
from infra.sources.footprint import meets
from infra.sources.items import Passes, last_change, pass_nothing, read_item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.settings import FolderSourceSettings, Region

logger = logging.getLogger(__name__)

_MAX_ITEM_BYTES: Final = 8 * 1024 * 1024


class FolderSource:
    """STAC items (``*.json``, also in subfolders) whose assets lie below the folder or on a known public host."""

    def __init__(self, settings: FolderSourceSettings) -> None:
        self.name = settings.name
        self._root = settings.path

    def search(
        self,
        region: Region,
        since: datetime,
        *,
        passes: Passes = pass_nothing,  # noqa: ARG002 - services need it, folders are small
    ) -> Iterator[Acquisition | Unreadable]:
        """List what lies over a region and was published, or written, since a time.

        Args:
            region: Where.
            since: Aware; an item's publication times count, else its file's modification time.
            passes: Not asked: everything is read.

        Yields:
            Acquisitions in the order of their file names; `Unreadable` for files that cannot be understood.

        Raises:
            SourceUnavailable: the folder is missing.
        """
        if not self._root.is_dir():
            raise SourceUnavailable(f"folder {self._root} of source {self.name!r} does not exist or is no folder")
        area = shape(region.geometry)
        for path in sorted(self._root.rglob("*.json")):
            try:
                found = self._read(path, since)
            except ItemUnreadable as problem:
                yield Unreadable(path.relative_to(self._root).as_posix(), str(problem))
                continue
            if found and meets(found.footprint, area):
                yield found

    def find(self, item_id: str) -> Acquisition | None:
        """Look one item up by its id; None where the folder has no such item.

        Raises:
            SourceUnavailable: the folder is missing.
        """
        if not self._root.is_dir():
            raise SourceUnavailable(f"folder {self._root} of source {self.name!r} does not exist or is no folder")
        for path in sorted(self._root.rglob("*.json")):
            try:
                found = self._read(path, datetime.min.replace(tzinfo=UTC))
            except ItemUnreadable:
                continue
            if found and found.item_id == item_id:
                return found
        return None

    def restore(self, item: dict[str, Any]) -> Acquisition:
        """Rebuild an acquisition from the item kept in the ledger.

        Raises:
            ItemUnreadable: the kept item is not one of this source.
        """
        return read_item(item, self.name, sensed_from_datetime=True)

    def _read(self, path: Path, since: datetime) -> Acquisition | None:
        item = _load(path)
        if not isinstance(item, dict) or item.get("type") in {"Catalog", "Collection"}:
            return None
        folder = path.parent.relative_to(self._root)
        found = read_item(_rebase(item, PurePosixPath(folder.as_posix())), self.name, sensed_from_datetime=True)
        arrived = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        published = max(last_change(found.item) or arrived, arrived)  # an old item may be copied in today
        return _published(found, published) if published >= since else None


def _load(path: Path) -> object:
    try:
        if path.stat().st_size > _MAX_ITEM_BYTES:
            raise ItemUnreadable(f"file is larger than {_MAX_ITEM_BYTES} bytes")
        return json.loads(path.read_bytes(), parse_constant=lambda _: None)  # NaN and Infinity are no JSON
    except OSError as error:
        raise ItemUnreadable(f"file cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ItemUnreadable(f"file is not JSON: {error}") from error


def _rebase(item: dict[str, Any], folder: PurePosixPath) -> dict[str, Any]:
    """Make relative asset paths of an item in a subfolder relative to the source's own folder."""
    assets = item.get("assets")
    if folder == PurePosixPath() or not isinstance(assets, dict):
        return item
    moved = {
        key: {**asset, "href": str(folder / asset["href"])}
        if isinstance(asset, dict) and isinstance(asset.get("href"), str) and "://" not in asset["href"]
        else asset
        for key, asset in assets.items()
    }
    return {**item, "assets": moved}


def _published(found: Acquisition, changed: datetime) -> Acquisition:
    """Write the file's time into an item that carries no publication time, so that it survives in the ledger."""
    stamp = changed.isoformat().replace("+00:00", "Z")
    item = {**found.item, "properties": {**found.item["properties"], "published": stamp}}
    return read_item(item, found.source, sensed_from_datetime=True)
