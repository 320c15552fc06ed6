"""What the file says about itself: GDAL's metadata XML and the GeoTIFF keys."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

import pyproj
from pyproj.exceptions import CRSError

from infra.cog.errors import InvalidProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.cog.profile import CogBand, CogProfile

# GeoTIFF 1.1 (OGC 19-008r4), key ids and codes.
_GT_MODEL_TYPE: Final = 1024
_GT_RASTER_TYPE: Final = 1025
_GT_CITATION: Final = 1026
_GEODETIC_CRS: Final = 2048
_GEOG_ANGULAR_UNITS: Final = 2054
_PROJECTED_CRS: Final = 3072
_PROJ_LINEAR_UNITS: Final = 3076
_MODEL_PROJECTED: Final = 1
_MODEL_GEOGRAPHIC: Final = 2
_PIXEL_IS_AREA: Final = 1
_METRE: Final = 9001
_DEGREE: Final = 9102
_ASCII_PARAMS: Final = 34737


def gdal_metadata(profile: CogProfile) -> bytes:
    """Write band descriptions, decoding, wavelengths and dataset tags as GDAL's own XML.

    The ``IMAGERY`` items ``CENTRAL_WAVELENGTH_UM`` and ``FWHM_UM`` are where GDAL and EnMAP-Box look for wavelengths
    (https://gdal.org/en/stable/user/raster_data_model.html).

    Returns:
        UTF-8 text with a closing NUL, empty when there is nothing to say.
    """
    lines = [_item(name, value) for name, value in profile.tags.items()]
    for sample, band in enumerate(profile.bands):
        lines += _band_items(sample, band)
    if not lines:
        return b""
    return ("<GDALMetadata>\n" + "\n".join(lines) + "\n</GDALMetadata>").encode() + b"\0"


def _band_items(sample: int, band: CogBand) -> Iterator[str]:
    where = f' sample="{sample}"'
    if band.description:
        yield _item("DESCRIPTION", band.description, where + ' role="description"')
    if (band.scale, band.offset) != (1.0, 0.0):
        yield _item("OFFSET", _number(band.offset), where + ' role="offset"')
        yield _item("SCALE", _number(band.scale), where + ' role="scale"')
    if band.unit:
        yield _item("UNITTYPE", band.unit, where + ' role="unittype"')
    if band.centre_nm is not None:
        yield _item("CENTRAL_WAVELENGTH_UM", _micrometres(band.centre_nm), where + ' domain="IMAGERY"')
    if band.fwhm_nm is not None:
        yield _item("FWHM_UM", _micrometres(band.fwhm_nm), where + ' domain="IMAGERY"')
    if band.bbl is not None:
        yield _item("bbl", str(band.bbl), where)


def _item(name: str, value: str, attributes: str = "") -> str:
    # GDAL unescapes the text once more after parsing the XML, so it must be escaped twice.
    return f"<Item name={quoteattr(name)}{attributes}>{escape(escape(value))}</Item>"


def _number(value: float) -> str:
    return format(value, ".17g") if float(format(value, ".15g")) != value else format(value, ".15g")


def _micrometres(nanometres: float) -> str:
    return format(nanometres / 1000, ".9g")


def geo_keys(crs: str) -> tuple[bytes, bytes]:
    """Write the GeoTIFF keys of an EPSG code: what it is, its code, its unit and its name.

    Args:
        crs: Such as ``EPSG:32633``.

    Returns:
        The GeoKeyDirectory tag (little endian shorts) and the GeoAsciiParams tag it points into.

    Raises:
        InvalidProfile: the CRS is no EPSG code, or neither projected in metres nor geographic in degrees.
    """
    code, known = _epsg(crs)
    name = known.name.encode("ascii", "replace") + b"|\0"
    units = {axis.unit_name for axis in known.axis_info}
    if known.is_projected and units == {"metre"}:
        model, own = _MODEL_PROJECTED, [(_PROJECTED_CRS, 0, 1, code), (_PROJ_LINEAR_UNITS, 0, 1, _METRE)]
    elif known.is_geographic and units == {"degree"}:
        model, own = _MODEL_GEOGRAPHIC, [(_GEODETIC_CRS, 0, 1, code), (_GEOG_ANGULAR_UNITS, 0, 1, _DEGREE)]
    else:
        raise InvalidProfile(f"crs is {crs} in {', '.join(sorted(units))}; expected metres or degrees")
    keys = [
        (_GT_MODEL_TYPE, 0, 1, model),
        (_GT_RASTER_TYPE, 0, 1, _PIXEL_IS_AREA),
        (_GT_CITATION, _ASCII_PARAMS, len(name) - 1, 0),
        *own,
    ]
    directory = [1, 1, 0, len(keys), *(number for key in keys for number in key)]
    return struct.pack(f"<{len(directory)}H", *directory), name


def _epsg(crs: str) -> tuple[int, pyproj.CRS]:
    try:
        known = pyproj.CRS.from_user_input(crs)
    except CRSError as error:
        raise InvalidProfile(f"crs is {crs!r}; expected an EPSG code such as EPSG:32633") from error
    name, code = known.to_authority(min_confidence=100) or ("", "")
    if name != "EPSG" or not code.isdigit() or not 1024 <= int(code) < 32767:
        raise InvalidProfile(f"crs is {crs!r}; expected one with an EPSG code of 1024 to 32766")
    return int(code), known
