"""Judge a product's rasters with other people's software: rio-cogeo's strict check, and every band decoded by GDAL.

``python -m tests.tools.validate_product FOLDER`` prints one line a file and ends with 1 if any file is not valid.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window
from rio_cogeo import cog_validate

BLOCKS_WIDE = 8
"""Blocks read together along a row: some 100 MB of the file with the most bands."""


def decode(path: Path) -> tuple[int, int]:
    """Read every value of every band through GDAL.

    Args:
        path: A tiled GeoTIFF.

    Returns:
        The number of bands, and the number of values in all bands that are not nodata.

    Raises:
        rasterio.errors.RasterioIOError: if a block cannot be decoded.
    """
    valid = 0
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_CACHEMAX=256), rasterio.open(path) as file:
        height, width = file.block_shapes[0]
        for row in range(0, file.height, height):
            for column in range(0, file.width, BLOCKS_WIDE * width):
                window = Window(
                    column, row, min(BLOCKS_WIDE * width, file.width - column), min(height, file.height - row)
                )
                values = file.read(window=window)
                valid += values.size if file.nodata is None else int(np.count_nonzero(values != file.nodata))
        return file.count, valid


def main() -> int:
    """Validate a folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="searched for *.tif")
    wrong = 0
    paths = sorted(parser.parse_args().folder.rglob("*.tif"))
    for path in paths:
        began = time.monotonic()
        is_cog, errors, warnings = cog_validate(path, strict=True, quiet=True)
        bands, valid = decode(path)
        size = path.stat().st_size
        verdict = "valid COG" if is_cog else f"NOT VALID: {errors + warnings}"
        wrong += not is_cog
        said = f"{path.name}: {size:,} bytes, {bands} bands, {valid:,} valid values, {verdict}"
        print(f"{said}, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201 - this is the answer
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
