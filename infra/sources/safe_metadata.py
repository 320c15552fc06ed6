"""Read the metadata of a Sentinel-2 L2A product folder.

Source: ESA, Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), user product and tile metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse

from infra.sources.errors import ItemUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

PRODUCT_METADATA: Final = "MTD_MSIL2A.xml"
TILE_METADATA: Final = "MTD_TL.xml"

_MAX_BYTES: Final = 32 * 1024 * 1024
_IMAGE: Final = re.compile(r"_(?P<band>B0[1-9]|B1[12]|B8A|SCL)_(?P<metres>10|20|60)m(?:\.jp2)?")

_BAND_IDS: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""Physical bands by ``bandId``, where the metadata do not list them."""


@dataclass(frozen=True)
class Image:
    """One image file of a product."""

    band: str
    """Band name or ``SCL``."""
    metres: int
    """Pixel size, m."""
    path: str
    """Relative to the product folder, with suffix."""


@dataclass(frozen=True)
class ProductMetadata:
    """What ``MTD_MSIL2A.xml`` says."""

    uri: str
    """The product's own name, with ``.SAFE``."""
    baseline: str
    generated: str
    """RFC 3339."""
    started: str
    """Sensing start, RFC 3339."""
    spacecraft: str
    """Such as ``Sentinel-2A``."""
    relative_orbit: int
    quantification: float
    """Stored units per unit of reflectance."""
    offsets: Mapping[str, float]
    """Added to stored values before the quantification, by band name; empty before baseline 04.00."""
    cloud_percent: float | None
    outline: tuple[tuple[float, float], ...]
    """(longitude, latitude), degrees."""
    images: tuple[Image, ...]


@dataclass(frozen=True)
class TileMetadata:
    """What ``MTD_TL.xml`` says."""

    crs: str
    """Such as ``EPSG:32633``."""
    sensed: str
    """Mean sensing time of the tile, RFC 3339."""
    sun_zenith: float | None
    """Mean, degrees."""


def read_product_metadata(folder: Path) -> ProductMetadata:
    """Read a product folder's ``MTD_MSIL2A.xml``.

    Args:
        folder: The product folder.

    Returns:
        What it says.

    Raises:
        ItemUnreadable: the file is missing, no such metadata, too large, or an attack by entities.
    """
    root = _parse(folder / PRODUCT_METADATA)
    try:
        return ProductMetadata(
            uri=_text(root, "PRODUCT_URI"),
            baseline=_text(root, "PROCESSING_BASELINE"),
            generated=_text(root, "GENERATION_TIME"),
            started=_text(root, "PRODUCT_START_TIME"),
            spacecraft=_text(root, "SPACECRAFT_NAME"),
            relative_orbit=int(_text(root, "SENSING_ORBIT_NUMBER")),
            quantification=float(_text(root, "BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE")),
            offsets=_offsets(root),
            cloud_percent=_optional(root, "Cloud_Coverage_Assessment"),
            outline=_outline(_text(root, "EXT_POS_LIST")),
            images=_images(root),
        )
    except ValueError as error:
        raise ItemUnreadable(f"{PRODUCT_METADATA}: {error}") from error


def read_tile_metadata(granule: Path) -> TileMetadata:
    """Read a granule folder's ``MTD_TL.xml``.

    Args:
        granule: The granule folder.

    Returns:
        What it says.

    Raises:
        ItemUnreadable: as for `read_product_metadata`.
    """
    root = _parse(granule / TILE_METADATA)
    sun = root.find(".//Mean_Sun_Angle")
    return TileMetadata(
        crs=_text(root, "HORIZONTAL_CS_CODE"),
        sensed=_text(root, "SENSING_TIME"),
        sun_zenith=None if sun is None else _optional(sun, "ZENITH_ANGLE"),
    )


def _parse(path: Path) -> Element:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ItemUnreadable(f"{path.name} is larger than {_MAX_BYTES} bytes")
        root: Element = parse(path, forbid_dtd=True).getroot()
    except OSError as error:
        raise ItemUnreadable(f"{path.name} cannot be read: {error.strerror}") from error
    except DefusedXmlException as error:
        raise ItemUnreadable(f"{path.name} declares a document type or entities, which is refused") from error
    except ParseError as error:
        raise ItemUnreadable(f"{path.name} is not XML: {error}") from error
    return root


def _text(root: Element, *tags: str) -> str:
    for tag in tags:
        element = root.find(f".//{tag}")
        if element is not None and element.text and element.text.strip():
            return element.text.strip()
    raise ItemUnreadable(f"the metadata have no {tags[0]}")


def _optional(root: Element, tag: str) -> float | None:
    element = root.find(f".//{tag}")
    try:
        return float(element.text or "") if element is not None else None
    except ValueError:
        return None


def _offsets(root: Element) -> dict[str, float]:
    listed = {e.get("bandId", ""): e.get("physicalBand", "") for e in root.iterfind(".//Spectral_Information")}
    names = listed or {str(number): name for number, name in enumerate(_BAND_IDS)}
    offsets = {}
    for element in root.iterfind(".//BOA_ADD_OFFSET"):
        name = names.get(element.get("band_id", ""))
        if not name:
            msg = f"BOA_ADD_OFFSET for band_id {element.get('band_id')!r}, which the metadata do not list"
            raise ValueError(msg)
        offsets[band_name(name)] = float(element.text or "")
    return offsets


def band_name(physical: str) -> str:
    """Return ESA's short band name with two digits: ``B1`` becomes ``B01``."""
    return f"B0{physical[1:]}" if re.fullmatch(r"B\d", physical) else physical


def _outline(positions: str) -> tuple[tuple[float, float], ...]:
    numbers = [float(number) for number in positions.split()]
    if len(numbers) < 6 or len(numbers) % 2:
        msg = f"EXT_POS_LIST holds {len(numbers)} numbers; expected at least three pairs"
        raise ValueError(msg)
    return tuple(zip(numbers[1::2], numbers[0::2], strict=True))


def _images(root: Element) -> tuple[Image, ...]:
    images = []
    for tag in ("IMAGE_FILE", "IMAGE_FILE_2A"):
        for element in root.iterfind(f".//{tag}"):
            path = (element.text or "").strip()
            match = _IMAGE.search(PurePosixPath(path).name)
            if match:
                name = path if path.endswith(".jp2") else f"{path}.jp2"
                images.append(Image(match["band"], int(match["metres"]), name))
    if not images:
        msg = "no IMAGE_FILE of a band is listed"
        raise ValueError(msg)
    return tuple(images)
