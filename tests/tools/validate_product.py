"""Judge a product's rasters with other people's software: rio-cogeo's strict check, and every band decoded by GDAL.

``python -m tests.tools.validate_product FOLDER`` prints one line a file and ends with 1 if any file is not valid.
Instead of a folder an ``s3://bucket/prefix`` may be given, read as ``/vsis3/`` with the storage settings' endpoint and
keys; ``--every 8`` decodes one row of blocks in eight (all bands), where reading everything would take too long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from rio_cogeo import cog_validate

from infra.settings import load_settings
from infra.storage import FileStore, ObjectStore, open_store

BLOCKS_WIDE = 8
"""Blocks read together along a row: some 100 MB of the file with the most bands."""


@dataclass(frozen=True)
class Decoded:
    """What GDAL read of a file."""

    bands: int
    rows: int
    """Rows of blocks that were decoded."""
    of_rows: int
    valid: int
    """Values in all bands that are not nodata."""


def decode(path: str, every: int = 1) -> Decoded:
    """Read the values of every band through GDAL.

    Args:
        path: A tiled GeoTIFF, as `rasterio.open` takes it.
        every: One row of blocks in so many is read; 1 reads all.

    Raises:
        rasterio.errors.RasterioIOError: if a block cannot be decoded.
    """
    valid = 0
    with rasterio.open(path, NUM_THREADS="ALL_CPUS") as file:
        height, width = file.block_shapes[0]
        rows = range(0, file.height, height * every)
        for row in rows:
            for column in range(0, file.width, BLOCKS_WIDE * width):
                window = Window(
                    column, row, min(BLOCKS_WIDE * width, file.width - column), min(height, file.height - row)
                )
                values = file.read(window=window)
                valid += values.size if file.nodata is None else int(np.count_nonzero(values != file.nodata))
        return Decoded(file.count, len(rows), -(-file.height // height), valid)


def opened(target: str) -> ObjectStore:
    """Open a folder or an S3 prefix as a store."""
    if "://" not in target:
        return FileStore(Path(target).resolve())
    return open_store(load_settings().resolved_storage.model_copy(update={"url": target}))


def judged(store: ObjectStore, every: int) -> Iterator[tuple[bool, str]]:
    """Judge file by file: whether it is valid, and what there is to say."""
    options: dict[str, Any] = {**store.gdal_env(), "GDAL_CACHEMAX": 256, "GDAL_INGESTED_BYTES_AT_OPEN": 10_000_000}
    options.pop("CPL_VSIL_CURL_NON_CACHED", None)  # nothing is written meanwhile
    for stored in sorted(store.list(), key=lambda one: one.key):
        if not stored.key.endswith(".tif"):
            continue
        began, path = time.monotonic(), store.gdal_path(stored.key)
        with rasterio.Env(**options):
            is_cog, errors, warnings = cog_validate(path, strict=True, quiet=True)
            seen = decode(path, every)
        verdict = "valid COG" if is_cog else f"NOT VALID: {errors + warnings}"
        said = (
            f"{stored.key.rpartition('/')[2]}: {stored.size:,} bytes, {seen.bands} bands, {seen.rows} of "
            f"{seen.of_rows} rows of blocks decoded, {seen.valid:,} valid values, {verdict}, "
            f"{time.monotonic() - began:.0f} s"
        )
        yield is_cog, said


def main() -> int:
    """Validate a product from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="a folder or s3://bucket/prefix, searched for *.tif")
    parser.add_argument("--every", type=int, default=1, help="decode one row of blocks in so many")
    asked = parser.parse_args()
    verdicts = []
    for is_cog, said in judged(opened(asked.target), asked.every):
        verdicts.append(is_cog)
        print(said, flush=True)  # noqa: T201 - this is the answer
    return 0 if verdicts and all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
