"""Write the demonstration's folder: six real patches, one scene cut to a sliver, one delivery that comes twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from infra.demo.archive import DemoImageryBroken, Patch, find_archive, read_patches
from infra.demo.items import Delivery, build_item, surroundings
from infra.demo.swath_edge import cut_bands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_HOST: Final = "PyPI package bigearthnet-common"

_PLACES: Final[dict[str, dict[str, str]]] = {
    "grass-and-hills": {
        "S2A_MSIL2A_20170617T113321_4_55": "Pastures in Ireland",
        "S2A_MSIL2A_20171221T112501_56_35": "Hills in Portugal in winter",
    },
    "fields-and-forests": {
        "S2A_MSIL2A_20170617T113321_36_85": "Fields in Ireland",
        "S2A_MSIL2A_20170613T101031_87_48": "Crops in Austria",
        "S2B_MSIL2A_20170924T93020_69_24": "Lake and forest in Finland",
        "S2B_MSIL2A_20180204T94161_57_38": "Snow in Finland",
    },
}
"""Region, patch, and what is seen there. The two Irish patches are one acquisition over two regions."""

_TITLES: Final = {
    "grass-and-hills": "Irish pastures and Portuguese hills",
    "fields-and-forests": "Irish and Austrian fields, Finnish forests",
}
_TWICE: Final = "S2B_MSIL2A_20170924T93020_69_24"
_CUT: Final = "S2A_MSIL2A_20170617T113321_4_55"
_CUT_ID: Final = "constructed_swath_edge_29UNU"
_CUT_TILE: Final = "29UNU"
"""The western neighbour tile, 499 980-609 780 m east, which overlaps the patch at 604 800 m on the same 60 m grid."""
_MARGIN_M: Final = 200.0


@dataclass(frozen=True)
class DemoScenes:
    """Where everything lies."""

    folder: Path
    items: Path
    """Folder of STAC items, a folder source's ``path``."""
    regions_file: Path
    """GeoJSON with the two regions."""
    deliveries: tuple[str, ...]
    """Ids of all items: six patches, one of them again, and the constructed one."""
    written: int
    """Files that this call wrote; 0 when everything was there."""


def build_demo(
    folder: Path,
    *,
    progress: Callable[[str], None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> DemoScenes:
    """Write the demonstration's scenes and regions; what is there already is left as it is.

    Args:
        folder: Where; made when missing.
        progress: Told in words what is done.
        now: The clock; gives the items' ``created``.

    Returns:
        The places.

    Raises:
        DemoImageryMissing: the extra ``[demo]`` is not installed.
        DemoImageryBroken: its archive is not the expected one.
    """
    tell = progress or (lambda _: None)
    patches = {patch.name: patch for patch in read_patches(find_archive())}
    expected = {name for places in _PLACES.values() for name in places}
    if set(patches) != expected:
        raise DemoImageryBroken(f"found the patches {sorted(patches)}; expected {sorted(expected)}")
    writer = _Writer(folder)
    created = now()
    deliveries = _deliveries(patches)
    for place, files in _folders(patches):
        writer.rasters(place, files)
    for place, delivery in deliveries:
        if writer.item(place, build_item(delivery, created)):
            tell(f"{delivery.item_id}: {delivery.title}")
    writer.file("regions.geojson", _json(_regions(patches)))
    ids = tuple(delivery.item_id for _, delivery in deliveries)
    tell(f"{writer.written} files written" if writer.written else f"all {len(ids)} deliveries are there already")
    return DemoScenes(folder, folder / "items", folder / "regions.geojson", ids, writer.written)


def _deliveries(patches: Mapping[str, Patch]) -> list[tuple[str, Delivery]]:
    """Return each delivery with the folder that its files lie in."""
    found = []
    for places in _PLACES.values():
        for name, title in places.items():
            patch = patches[name]
            description = (
                f"A patch of 1.2 km of {patch.tile_source}, as Level-2A; land cover: {', '.join(patch.labels)}."
            )
            found.append((name, Delivery(patch, name, title, description, patch.tile, _HOST)))
    folder, first = next(one for one in found if one[0] == _TWICE)
    found.append(
        (
            folder,
            replace(
                first,
                item_id=f"{_TWICE}_redelivered",
                description=f"The same files a second time, under another id. {first.description}",
                host="a second archive (demonstration)",
            ),
        )
    )
    found.append((_CUT_ID, _cut_delivery(patches[_CUT])))
    return found


def _cut_delivery(patch: Patch) -> Delivery:
    return Delivery(
        patch,
        _CUT_ID,
        "Constructed: pastures in Ireland at the edge of a swath",
        f"Constructed for the demonstration, not a delivery of any provider: the pixels of {patch.name} with all but a "
        f"sliver set to no data in every band, under the neighbouring tile {_CUT_TILE}, which overlaps the place. "
        "It must be rejected for its valid fraction.",
        _CUT_TILE,
        _HOST,
    )


def _folders(patches: Mapping[str, Patch]) -> Iterable[tuple[str, Mapping[str, bytes]]]:
    for patch in patches.values():
        yield patch.name, patch.files
    yield _CUT_ID, cut_bands(patches[_CUT].files)


def _regions(patches: Mapping[str, Patch]) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "id": region,
            "properties": {"title": _TITLES[region], "cloud_limit": 0.6, "crop": True},
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [surroundings(patches[name], _MARGIN_M) for name in places],
            },
        }
        for region, places in _PLACES.items()
    ]
    return {"type": "FeatureCollection", "features": features}


class _Writer:
    """Writes whole files or none, and only what is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written = 0

    def file(self, name: str, data: bytes) -> None:
        """Write a file unless it is there with the same content."""
        path = self._folder / name
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data)
        partial.replace(path)
        self.written += 1

    def rasters(self, place: str, files: Mapping[str, bytes]) -> None:
        """Write the bands of one place."""
        for band, data in files.items():
            self.file(f"items/{place}/{band}.tif", data)

    def item(self, place: str, item: dict[str, Any]) -> bool:
        """Write an item unless one is there that says the same; its times are when it was first written."""
        name = f"items/{place}/{item['id']}.json"
        kept = _times(self._folder / name)
        before = self.written
        self.file(name, _json({**item, "properties": {**item["properties"], **kept}}))
        return self.written > before


def _times(path: Path) -> dict[str, str]:
    """Return the times of publication that an existing item states."""
    try:
        properties = json.loads(path.read_bytes())["properties"]
        return {key: properties[key] for key in ("created", "updated")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
