"""Read the six example patches that come with the package bigearthnet-common, without importing it.

Importing the package warns and makes folders in the user's home; only its archive is wanted. Data: Sumbul et al. 2019,
BigEarthNet, IGARSS 5901; Sentinel-2 L2A, patches of 1.2 km, made before baseline 04.00: DN = 10 000 * reflectance.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pyproj import CRS

from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PACKAGE: Final = "bigearthnet_common"
_ARCHIVE: Final = "BigEarthNet-S2-Example.tar.bz2"
_LARGEST_FILE: Final = 1024 * 1024
"""Bytes; the largest file of the archive has 29 kB."""

_MEMBER: Final = re.compile(
    r"BigEarthNet-S2-Example/(?P<patch>S2[AB]_MSIL2A_\w+)/(?P=patch)_(?P<part>B\d[\dA]|labels_metadata)\.(?:tif|json)"
)
_TILE_SOURCE: Final = re.compile(r"S2(?P<unit>[AB])_MSIL1C_\w+?_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[A-Z]{3})_\w+\.SAFE")


class DemoImageryMissing(RuntimeError):
    """The package with the demonstration's imagery is not installed."""

    transient: ClassVar[bool] = False


class DemoImageryBroken(RuntimeError):
    """The package's archive is not what this code was written for."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Patch:
    """One patch of the archive."""

    name: str
    """Such as ``S2A_MSIL2A_20170617T113321_36_85``."""
    platform: str
    """STAC platform name."""
    sensed: datetime
    """As the archive's metadata state it, UTC. One patch's name gives no time of day (``T94161``)."""
    tile: str
    """MGRS tile without the leading T."""
    relative_orbit: int
    tile_source: str
    """Name of the L1C product that the patch was made from."""
    labels: tuple[str, ...]
    """CORINE land-cover classes of 2018."""
    epsg: int
    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top, metres."""
    files: Mapping[str, bytes]
    """GeoTIFF of each band as it is in the archive, by band name."""


def find_archive() -> Path:
    """Return the archive's path.

    Raises:
        DemoImageryMissing: the package is not installed, or carries no archive.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _ARCHIVE
        if path.is_file():
            return path
    raise DemoImageryMissing(
        f"{_ARCHIVE} of the package {_PACKAGE.replace('_', '-')} was not found; install the extra: "
        "pip install 'explains2a[demo]'"
    )


def read_patches(path: Path) -> tuple[Patch, ...]:
    """Read every patch of the archive.

    Members are read one by one by names of one form and never unpacked, so no path of the archive is followed.

    Args:
        path: The archive.

    Returns:
        The patches, sorted by name.

    Raises:
        DemoImageryBroken: it cannot be read, or a patch is incomplete.
    """
    found: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path, "r:bz2") as archive:
            for patch, part, data in _members(archive):
                found.setdefault(patch, {})[part] = data
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DemoImageryBroken(f"{path} cannot be read: {error}; install bigearthnet-common again") from error
    if not found:
        raise DemoImageryBroken(f"{path} holds no patches; expected six")
    return tuple(_patch(name, parts) for name, parts in sorted(found.items()))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    for member in archive:
        match = _MEMBER.fullmatch(member.name)
        if match is None or not member.isreg() or member.size > _LARGEST_FILE:
            continue
        stream = archive.extractfile(member)
        if stream is not None:
            yield match["patch"], match["part"], stream.read()


def _patch(name: str, parts: Mapping[str, bytes]) -> Patch:
    missing = [part for part in (*SOURCE_BAND_NAMES, "labels_metadata") if part not in parts]
    if missing:
        raise DemoImageryBroken(f"patch {name} lacks {', '.join(missing)}; install bigearthnet-common again")
    try:
        metadata: dict[str, Any] = json.loads(parts["labels_metadata"])
        source = _TILE_SOURCE.fullmatch(metadata["tile_source"])
        corner = metadata["coordinates"]
        epsg = CRS.from_wkt(metadata["projection"]).to_epsg()
        if source is None or epsg is None:
            raise DemoImageryBroken(f"patch {name}: tile_source or projection is not understood")
        return Patch(
            name=name,
            platform=f"sentinel-2{source['unit'].lower()}",
            sensed=datetime.fromisoformat(metadata["acquisition_date"]).replace(tzinfo=UTC),
            tile=source["tile"],
            relative_orbit=int(source["orbit"]),
            tile_source=metadata["tile_source"],
            labels=tuple(metadata["labels"]),
            epsg=epsg,
            bounds=(corner["ulx"], corner["lry"], corner["lrx"], corner["uly"]),
            files={band: parts[band] for band in SOURCE_BAND_NAMES},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DemoImageryBroken(f"patch {name}: its metadata are not understood: {error!r}") from error
