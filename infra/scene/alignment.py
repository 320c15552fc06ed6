"""Do all bands of a scene lie on one grid, and is it a Sentinel-2 one?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from infra.scene.errors import MisalignedBands, WrongGrid
from infra.scene.grid import ALIGNMENT, Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.scene.raster import BandRaster
    from infra.sources.acquisition import Acquisition

_REFERENCE: Final = "B02"
_METRE_TOLERANCE: Final = 1e-3

_UTM_CODES: Final = frozenset({*range(32601, 32661), *range(32701, 32761)})
"""EPSG codes of the UTM zones on WGS 84, north and south."""


def common_grid(rasters: Mapping[str, BandRaster], acquisition: Acquisition) -> Grid:
    """Return the 10 m grid that all bands share.

    Args:
        rasters: The open bands by name.
        acquisition: Its item's declared projection is held against the files.

    Returns:
        The grid.

    Raises:
        WrongGrid: no UTM zone, other pixel sizes than the bands' own, rotated, or not what the item declares.
        MisalignedBands: bands differ in projection, origin or extent.
    """
    for raster in rasters.values():
        _check_own_grid(raster)
    reference = rasters[_REFERENCE]
    code = reference.crs.to_epsg()
    for raster in rasters.values():
        _check_against(raster, reference)
    _check_declared(acquisition, code)
    if reference.width % ALIGNMENT or reference.height % ALIGNMENT:
        raise WrongGrid(
            f"band {_REFERENCE} has {reference.width} x {reference.height} pixels; "
            f"expected multiples of {ALIGNMENT}, so that 60 m pixels are whole"
        )
    a, b, c, d, e, f = tuple(reference.transform)[:6]
    return Grid(f"EPSG:{code}", (a, b, c, d, e, f), reference.width, reference.height)


def _check_own_grid(raster: BandRaster) -> None:
    code = raster.crs.to_epsg() if raster.crs else None
    if code not in _UTM_CODES:
        found = f"EPSG:{code}" if code else str(raster.crs or "no projection")
        raise WrongGrid(f"band {raster.band} is in {found}; expected a UTM zone on WGS 84 (EPSG:326xx or 327xx)")
    a, b, _, d, e, _ = tuple(raster.transform)[:6]
    wanted = (raster.metres, 0, 0, -raster.metres)
    if any(abs(found - want) > _METRE_TOLERANCE for found, want in zip((a, b, d, e), wanted, strict=True)):
        raise WrongGrid(
            f"band {raster.band} has pixels of {a:g} x {e:g} m (rotation {b:g}, {d:g}); "
            f"expected {raster.metres} x -{raster.metres} m, north up"
        )


def _check_against(raster: BandRaster, reference: BandRaster) -> None:
    if raster.crs.to_epsg() != reference.crs.to_epsg():
        raise MisalignedBands(
            f"band {raster.band} is in EPSG:{raster.crs.to_epsg()} and band {reference.band} in "
            f"EPSG:{reference.crs.to_epsg()}; expected one projection"
        )
    origin, wanted = (raster.transform.c, raster.transform.f), (reference.transform.c, reference.transform.f)
    if any(abs(found - want) > _METRE_TOLERANCE for found, want in zip(origin, wanted, strict=True)):
        raise MisalignedBands(
            f"band {raster.band} begins at {origin} m and band {reference.band} at {wanted} m; expected one corner"
        )
    size = (raster.width * raster.metres, raster.height * raster.metres)
    expected = (reference.width * reference.metres, reference.height * reference.metres)
    if size != expected:
        raise MisalignedBands(
            f"band {raster.band} covers {size[0]} x {size[1]} m and band {reference.band} {expected[0]} x "
            f"{expected[1]} m; expected the same"
        )


def _check_declared(acquisition: Acquisition, code: int) -> None:
    declared = _declared_code(acquisition.item["properties"])
    if declared is not None and declared != f"EPSG:{code}":
        raise WrongGrid(f"the bands are in EPSG:{code} and the item {acquisition.item_id} declares {declared}")


def _declared_code(properties: Mapping[str, Any]) -> str | None:
    code, number = properties.get("proj:code"), properties.get("proj:epsg")
    if isinstance(code, str):
        return code.upper()
    return f"EPSG:{number}" if isinstance(number, int) else None
