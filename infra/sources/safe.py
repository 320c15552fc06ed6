"""A folder of Sentinel-2 L2A products (``*.SAFE``) as a source."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from shapely.geometry import shape

from infra.sources.acquisition import SCENE_CLASSES, Acquisition, Unreadable
from infra.sources.errors import ItemUnreadable, SourceUnavailable
from infra.sources.footprint import meets, outline
from infra.sources.items import Passes, pass_nothing, read_item
from infra.sources.product_name import parse_product_name
from infra.sources.safe_metadata import PRODUCT_METADATA, read_product_metadata, read_tile_metadata
from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.settings import Region, SafeSourceSettings
    from infra.sources.safe_metadata import Image, ProductMetadata, TileMetadata

logger = logging.getLogger(__name__)

_NATIVE: Final = {(band.name, band.resolution_m) for band in SOURCE_BANDS} | {(SCENE_CLASSES, 20)}


class SafeSource:
    """Product folders below a folder; the folder may also be a product itself."""

    def __init__(self, settings: SafeSourceSettings) -> None:
        self.name = settings.name
        self._root = settings.path

    def search(
        self,
        region: Region,
        since: datetime,
        *,
        passes: Passes = pass_nothing,  # noqa: ARG002 - services need it, folders are small
    ) -> Iterator[Acquisition | Unreadable]:
        """List the products over a region that arrived in the folder since a time.

        Args:
            region: Where.
            since: Aware; a product arrives when its folder or its metadata file last changed.
            passes: Not asked: everything is read.

        Yields:
            Acquisitions in the order of their names; `Unreadable` for products that cannot be understood.

        Raises:
            SourceUnavailable: the folder is missing.
        """
        if not self._root.is_dir():
            raise SourceUnavailable(f"folder {self._root} of source {self.name!r} does not exist or is no folder")
        area = shape(region.geometry)
        for product in self._products():
            try:
                arrived = _arrived(product)
                if arrived < since:
                    continue
                found = self.restore(self._item(product, arrived))
            except ItemUnreadable as problem:
                yield Unreadable(product.name, str(problem))
                continue
            if meets(found.footprint, area):
                yield found

    def find(self, item_id: str) -> Acquisition | None:
        """Look one product up by its item's id; None where the folder has no such product.

        Raises:
            SourceUnavailable: the folder is missing.
            ItemUnreadable: the product cannot be understood.
        """
        if not self._root.is_dir():
            raise SourceUnavailable(f"folder {self._root} of source {self.name!r} does not exist or is no folder")
        for product in self._products():
            if product.name.removesuffix(".SAFE") == item_id.removesuffix(".SAFE"):
                return self.restore(self._item(product, _arrived(product)))
        return None

    def restore(self, item: dict[str, Any]) -> Acquisition:
        """Rebuild an acquisition from the item kept in the ledger.

        Raises:
            ItemUnreadable: the kept item is not one of this source.
        """
        return read_item(item, self.name)

    def _products(self) -> list[Path]:
        if (self._root / PRODUCT_METADATA).is_file():
            return [self._root]
        return sorted(path for path in self._root.glob("*.SAFE") if path.is_dir())

    def _item(self, product: Path, arrived: datetime) -> dict[str, Any]:
        metadata = read_product_metadata(product)
        tile = read_tile_metadata(_granule(product, metadata.images[0]))
        folder = PurePosixPath(product.relative_to(self._root).as_posix())
        return safe_item(metadata, tile, folder, arrived)


def safe_item(
    metadata: ProductMetadata, tile: TileMetadata, folder: PurePosixPath, arrived: datetime
) -> dict[str, Any]:
    """Describe a product as a STAC item.

    Args:
        metadata: The product's metadata.
        tile: Its granule's metadata.
        folder: The product folder, relative to the source's.
        arrived: When it arrived, UTC.

    Returns:
        The item, JSON-safe; asset paths are relative to the source's folder.

    Raises:
        ItemUnreadable: the product's outline encloses no area.
    """
    try:
        geometry = outline(metadata.outline)
    except ValueError as error:
        raise ItemUnreadable(f"EXT_POS_LIST: {error}") from error
    name = parse_product_name(metadata.uri)
    properties = {
        "datetime": tile.sensed,
        "start_datetime": metadata.started,
        "end_datetime": tile.sensed,
        "published": arrived.isoformat().replace("+00:00", "Z"),
        "platform": metadata.spacecraft.lower(),
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": metadata.cloud_percent,
        "view:sun_elevation": None if tile.sun_zenith is None else 90 - tile.sun_zenith,
        "proj:code": tile.crs,
        "sat:relative_orbit": metadata.relative_orbit,
        "grid:code": f"MGRS-{name.tile}" if name else None,
        "s2:product_uri": metadata.uri,
        "s2:processing_baseline": metadata.baseline,
        "s2:generation_time": metadata.generated,
        "s2:mean_solar_zenith": tile.sun_zenith,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": metadata.uri.removesuffix(".SAFE"),
        "geometry": geometry,
        "bbox": list(shape(geometry).bounds),
        "properties": {key: value for key, value in properties.items() if value is not None},
        "links": [],
        "assets": {
            image.band: _asset(metadata, image, folder)
            for image in metadata.images
            if (image.band, image.metres) in _NATIVE
        },
    }


def _asset(metadata: ProductMetadata, image: Image, folder: PurePosixPath) -> dict[str, Any]:
    asset = {"href": str(folder / image.path), "type": "image/jp2", "gsd": image.metres, "roles": ["data"]}
    if image.band == SCENE_CLASSES:
        return asset
    asset |= {"bands": [{"name": image.band}], "nodata": 0, "raster:scale": 1 / metadata.quantification}
    if image.band in metadata.offsets:
        asset["raster:offset"] = metadata.offsets[image.band] / metadata.quantification
    return asset


def _granule(product: Path, image: Image) -> Path:
    """Return the granule folder that an image lies in: ``GRANULE/<name>``."""
    parts = PurePosixPath(image.path).parts
    if len(parts) < 3 or parts[0] != "GRANULE" or parts[1] in {"..", "."}:
        raise ItemUnreadable(f"image file {image.path!r} does not lie in GRANULE/<name>/")
    return product / parts[0] / parts[1]


def _arrived(product: Path) -> datetime:
    """Return when a product came to lie here: copying keeps modification times, but not the inode's change time."""
    try:
        stats = [product.stat(), (product / PRODUCT_METADATA).stat()]
    except OSError as error:
        raise ItemUnreadable(f"{PRODUCT_METADATA} cannot be read: {error.strerror}") from error
    return datetime.fromtimestamp(max(max(s.st_mtime, s.st_ctime) for s in stats), UTC)
