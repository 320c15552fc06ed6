"""Products found by pystac-client and opened by odc-stac and rasterio; runs in a venv of these clients.

``python open_products.py CATALOG COLLECTION`` prints what it read and fails where two readers disagree.
"""

from __future__ import annotations

import sys

import numpy as np
import odc.stac
import pystac_client
import rasterio

BANDS = ("hsi.24", "hsi.11", "hsi.4")
"""True colour; odc-stac counts the bands of an asset from one."""


def main(address: str, collection: str) -> None:
    """Search, open and compare."""
    search = pystac_client.Client.open(address).search(collections=[collection], bbox=[-20, 30, 40, 70])
    items = list(search.items())
    if not items:
        raise SystemExit("no item was found")
    for item in items:
        by_odc = odc.stac.load([item], bands=[*BANDS, "visual"])
        with rasterio.open(item.assets["hsi"].href) as file:
            by_rasterio = file.read([int(band.split(".")[1]) for band in BANDS])
            wavelengths = {
                tags["CENTRAL_WAVELENGTH_UM"] for band in file.indexes if (tags := file.tags(band, ns="IMAGERY"))
            }
        for band, values in zip(BANDS, by_rasterio, strict=True):
            np.testing.assert_array_equal(by_odc[band].values[0], values)
        if len(wavelengths) < 160 or not by_odc["visual"].values.any():  # detectors overlap: a few centres are shared
            raise SystemExit(f"{item.id}: {len(wavelengths)} wavelengths, or an empty picture")
        print(f"{item.id}: {dict(by_odc.sizes)}, {len(wavelengths)} wavelengths, odc-stac and rasterio agree")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:3])
