"""Rows as the evaluation writes them, and what the tests of its pictures look at."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from scipy.stats import norm

from model.bands import CENTRE_NM, SOURCE_BANDS, SPECTRAL_GROUPS

ORDER = np.argsort(CENTRE_NM)
BASELINES = {
    "spectral": {"mean": 5.0, "wiener": 1.2, "mlp": 1.1, "brand_new": 0.9},
    "full": {"bicubic_wiener": 2.0, "guided_wiener": 1.25, "all_at_10m_wiener": 0.8},
}
SCALARS = (
    "pixels", "in_training", "rmse", "sam_deg", "psnr_db", "coverage", "coverage_in_domain", "baselines",
)  # fmt: skip


def spectra(rng: np.random.Generator, n: int) -> np.ndarray:
    """(172, n) something between a leaf and a soil."""
    w = CENTRE_NM[:, None]
    leaf = 0.04 + 0.4 / (1 + np.exp(-(w - 715) / 12)) * np.exp(-(((w - 900) / 1100) ** 2))
    soil = 0.08 + 0.3 * (1 - np.exp(-(w - 400) / 700))
    share = rng.random(n)
    return (share * leaf + (1 - share) * soil) * rng.uniform(0.6, 1.2, n)


def make_row(file: str = "/data/scene.npz", tier: str = "spectral", seed: int = 0, *, seen: bool = False) -> dict:
    """A row as the evaluation writes it, of a model whose errors are as large as it says."""
    rng = np.random.default_rng(seed)
    truth = spectra(rng, 60)
    sigma = np.full_like(truth, 0.004) * (1 + CENTRE_NM[:, None] / 1000)
    estimate = truth + sigma * rng.normal(size=truth.shape)
    z = np.abs(estimate - truth) / sigma
    rmse = float(np.sqrt(((estimate - truth) ** 2).mean()))
    nominal = np.linspace(0.1, 0.9, 9)
    pixels = [0, 20, 40]
    return {
        "file": file,
        "tier": tier,
        "pixels": 60,
        "in_training": seen,
        "rmse": rmse,
        "sam_deg": 2.0,
        "sam_bright_deg": 1.9,
        "psnr_db": float(-20 * np.log10(rmse)),
        "coverage": {k: float((z <= norm.ppf(0.5 + int(k) / 200)).mean()) for k in ("50", "80", "90", "95")},
        "coverage_in_domain": {"90": 0.91},
        "interval_width": float(2 * 1.645 * sigma.mean()),
        "consistency_within_noise": 0.995,
        "ood_fraction": 0.01,
        "groups": {
            g.name: {"rmse": 0.004, "coverage_90": 0.9, "interval_width": float(3.29 * sigma[g.channels].mean())}
            for g in SPECTRAL_GROUPS
        },
        "spectrum": {
            "wavelength_nm": CENTRE_NM.tolist(),
            "rmse": np.sqrt(((estimate - truth) ** 2).mean(axis=1)).tolist(),
            "wiener_rmse": (1.2 * sigma.mean(axis=1)).tolist(),
            "sigma": sigma.mean(axis=1).tolist(),
            "truth_std": truth.std(axis=1).tolist(),
        },
        "calibration": {
            "nominal": nominal.tolist(),
            "observed": [float((z <= norm.ppf(0.5 + p / 2)).mean()) for p in nominal],
        },
        "examples": [
            {
                "title": title,
                "truth": truth[:, i].tolist(),
                "estimate": estimate[:, i].tolist(),
                "sigma": sigma[:, i].tolist(),
                "bands": np.interp([b.centre_nm for b in SOURCE_BANDS], CENTRE_NM[ORDER], truth[ORDER, i]).tolist(),
            }
            for title, i in zip(("best", "median", "worst"), pixels, strict=True)
        ],
        "baselines": {name: {"rmse": rmse * factor} for name, factor in BASELINES[tier].items()},
    }


def size_of(png: Path) -> tuple[int, int]:
    """Width and height of a PNG, pixels."""
    header = png.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


def only(row: dict, *keys: str) -> dict:
    """A row with nothing but these keys and its names: figures are slow to draw."""
    return {key: row[key] for key in ("file", "tier", *keys)}
