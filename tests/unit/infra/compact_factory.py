"""Small products with known answers: coefficients, basis and uncertainty as the writer lays them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.cog import CogBand, CogProfile, CogWriter
from infra.storage import FileStore
from model.bands import CENTRE_NM, FWHM_NM

NODATA = -32768
LEFT, TOP = 600_000.0, 5_300_040.0


@dataclass(frozen=True)
class Made:
    """A product and what is known of it, in float64 where it is a number."""

    folder: Path
    stored: np.ndarray
    """(k, h, w) int16."""
    reflectance: np.ndarray
    """(172, h, w), nan = nodata."""
    sigma: np.ndarray
    """(172, h, w), nan = nodata."""

    @property
    def integers(self) -> np.ndarray:
        """(172, h, w) int16 as the 172-band file would hold."""
        rounded = np.clip(np.rint(self.reflectance * 10_000), -32767, 32767)
        return np.where(np.isnan(self.reflectance), NODATA, rounded).astype(np.int16)


def write_cog(folder: Path, name: str, values: np.ndarray, bands: tuple[CogBand, ...], block: int) -> None:
    profile = CogProfile(
        values.shape[2], values.shape[1], "int16", "EPSG:32633", (10.0, 0.0, LEFT, 0.0, -10.0, TOP), NODATA, bands,
        block, "mean", tags={"ITEM": "an-item", "NOTICE": "Estimated, not measured."},
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool, CogWriter(profile, FileStore(folder), name, pool=pool) as writer:
        writer.write(0, 0, values)
        writer.finish()


def make_product(folder: Path, width: int = 130, height: int = 150, block: int = 48, k: int = 6, hsi=False) -> Made:
    """Write compact, basis and uncertainty (and the 172 bands) with a corner of nodata."""
    random = np.random.default_rng(5)
    components = np.linalg.qr(random.normal(size=(172, k)))[0].T
    mean = random.uniform(0, 0.1, 172)
    scales = random.uniform(1e-4, 1e-3, k)
    place = np.linspace(0, 6, height)[:, None] + np.linspace(0, 9, width)[None, :]
    smooth = np.stack([np.sin(place * (1 + number)) for number in range(k)])
    stored = np.rint(1500 * smooth + random.normal(0, 20, smooth.shape)).astype(np.int16)
    groups = random.integers(10, 900, (9, height, width)).astype(np.int16)
    stored[:, :20, :30] = groups[:, :20, :30] = NODATA
    bands = random.integers(1, 9, 172)
    profile = np.round(random.uniform(0.5, 2, 172), 6)
    write_cog(folder, "compact.tif", stored, tuple(CogBand(f"c{n}", float(s)) for n, s in enumerate(scales)), block)
    write_cog(folder, "uncertainty.tif", groups, tuple(CogBand(f"s{n}", 1e-4) for n in range(9)), block)
    basis = {
        "scales": scales.tolist(), "mean": mean.tolist(), "components": components.tolist(),
        "centre_nm": CENTRE_NM.tolist(), "fwhm_nm": FWHM_NM.tolist(),
        "sigma_bands": bands.tolist(), "sigma_profile": profile.tolist(),
    }  # fmt: skip
    (folder / "basis.json").write_text(json.dumps(basis))
    void = stored[0] == NODATA
    reflectance = mean[:, None, None] + np.einsum("kc,khw->chw", components, stored * scales[:, None, None])
    sigma = groups[bands - 1] * 1e-4 * profile[:, None, None]
    reflectance[:, void] = sigma[:, void] = np.nan
    made = Made(folder, stored, reflectance, sigma)
    if hsi:
        described = tuple(CogBand(f"b{n}", 1e-4, 0.0, "1", CENTRE_NM[n], FWHM_NM[n]) for n in range(172))
        write_cog(folder, "hsi.tif", made.integers, described, block)
    return made
