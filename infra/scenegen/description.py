"""How a generated scene is described: as a STAC item beside its files, or as the metadata of a product folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from infra.scene import Grid
from infra.scene.footprint import window_footprint
from infra.sources.acquisition import SCENE_CLASSES
from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PRODUCT: Final = "S2A_MSIL2A_20230601T101031_N0511_R022_T33UUP_20230601T161800"
"""Name in the form that products have; no such product was ever delivered."""

GRANULE: Final = "L2A_T33UUP_A041478_20230601T101031"
_TILE: Final = "33UUP"
_SENSED: Final = "2023-06-01T10:10:31.024Z"
_STAMP: Final = "20230601T101031"
_BASELINE: Final = "05.11"
_GENERATED: Final = "2023-06-01T16:18:00.000000Z"
_ORBIT: Final = 22
_SUN_ZENITH: Final = 28.0

CRS: Final = "EPSG:32633"
LEFT: Final = 300_000.0
TOP: Final = 5_400_000.0
"""Upper left corner of tile 33UUP, metres."""

QUANTIFICATION: Final = 10_000
"""Stored units per unit of reflectance. ESA, Sentinel-2 Products Specification Document."""
ADD_OFFSET: Final = 1000
"""Added to every stored value from baseline 04.00 on (BOA_ADD_OFFSET -1000). Same source."""

_PHYSICAL: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
_NOTICE: Final = "Generated for measurements; not an observation of the earth."

METRES: Final[Mapping[str, int]] = {band.name: band.resolution_m for band in SOURCE_BANDS} | {SCENE_CLASSES: 20}
"""Pixel size of every file of a scene."""


def scene_grid(size: int) -> Grid:
    """Return the grid of a scene of `size` pixels."""
    return Grid(CRS, (10.0, 0.0, LEFT, 0.0, -10.0, TOP), size, size)


def write_item(folder: Path, size: int, title: str) -> None:
    """Write ``item.json`` beside the files ``B01.tif`` ... ``SCL.tif``."""
    grid = scene_grid(size)
    footprint = window_footprint(grid, grid.whole)
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": f"{PRODUCT}_generated",
        "geometry": footprint.geometry,
        "bbox": list(footprint.bbox),
        "properties": {
            "title": title,
            "description": _NOTICE,
            "datetime": _SENSED,
            "platform": "sentinel-2a",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "eo:cloud_cover": 0.0,
            "view:sun_elevation": 90 - _SUN_ZENITH,
            "grid:code": f"MGRS-{_TILE}",
            "sat:relative_orbit": _ORBIT,
            "proj:code": CRS,
            "s2:product_uri": f"{PRODUCT}.SAFE",
            "s2:processing_baseline": _BASELINE,
            "s2:generation_time": _GENERATED,
        },
        "links": [],
        "assets": {name: _asset(name) for name in METRES},
    }
    (folder / "item.json").write_text(json.dumps(item, indent=1) + "\n", encoding="utf-8")


def _asset(name: str) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": f"./{name}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "gsd": METRES[name],
        "nodata": 0,
        "roles": ["data"],
    }
    if name != SCENE_CLASSES:
        reflectance = {"raster:scale": 1 / QUANTIFICATION, "raster:offset": -ADD_OFFSET / QUANTIFICATION}
        asset |= {"bands": [{"name": name}], **reflectance}
    return asset


def image_path(name: str) -> str:
    """Return where a band lies in a product folder, with its suffix."""
    metres = METRES[name]
    return f"GRANULE/{GRANULE}/IMG_DATA/R{metres}m/T{_TILE}_{_STAMP}_{name}_{metres}m.jp2"


def write_product_metadata(product: Path, size: int) -> None:
    """Write ``MTD_MSIL2A.xml`` and ``MTD_TL.xml`` with what readers need, in their real structure."""
    grid = scene_grid(size)
    ring = window_footprint(grid, grid.whole).geometry["coordinates"][0]
    outline = " ".join(f"{latitude} {longitude}" for longitude, latitude in ring)
    images = "".join(f"<IMAGE_FILE>{image_path(name).removesuffix('.jp2')}</IMAGE_FILE>" for name in METRES)
    bands = "".join(f'<Spectral_Information bandId="{n}" physicalBand="{band}"/>' for n, band in enumerate(_PHYSICAL))
    added = "".join(
        f'<BOA_ADD_OFFSET band_id="{number}">{-ADD_OFFSET}</BOA_ADD_OFFSET>' for number in range(len(_PHYSICAL))
    )
    (product / "MTD_MSIL2A.xml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!-- {_NOTICE} -->
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>{_SENSED}</PRODUCT_START_TIME>
<PRODUCT_URI>{PRODUCT}.SAFE</PRODUCT_URI><PROCESSING_BASELINE>{_BASELINE}</PROCESSING_BASELINE>
<GENERATION_TIME>{_GENERATED}</GENERATION_TIME><Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
<SENSING_ORBIT_NUMBER>{_ORBIT}</SENSING_ORBIT_NUMBER></Datatake>
<Product_Organisation><Granule_List><Granule>{images}</Granule></Granule_List></Product_Organisation></Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">{QUANTIFICATION}</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
<BOA_ADD_OFFSET_VALUES_LIST>{added}</BOA_ADD_OFFSET_VALUES_LIST>
<Spectral_Information_List>{bands}</Spectral_Information_List></Product_Image_Characteristics></n1:General_Info>
<n1:Geometric_Info><Product_Footprint><EXT_POS_LIST>{outline}</EXT_POS_LIST></Product_Footprint></n1:Geometric_Info>
<n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>0.0</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
""",
        encoding="utf-8",
    )
    (product / "GRANULE" / GRANULE / "MTD_TL.xml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
<n1:General_Info><SENSING_TIME metadataLevel="Standard">{_SENSED}</SENSING_TIME></n1:General_Info>
<n1:Geometric_Info><Tile_Geocoding><HORIZONTAL_CS_CODE>{CRS}</HORIZONTAL_CS_CODE></Tile_Geocoding>
<Tile_Angles><Mean_Sun_Angle><ZENITH_ANGLE unit="deg">{_SUN_ZENITH}</ZENITH_ANGLE></Mean_Sun_Angle></Tile_Angles>
</n1:Geometric_Info></n1:Level-2A_Tile_ID>
""",
        encoding="utf-8",
    )
