"""What the model's tests share: the shipped model, real patches that always exist, and a factory of scenes."""

from __future__ import annotations

import sys
import tarfile
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bands import BANDS_BY_RESOLUTION
from model.duality import DualityModel, Multispectral, load_model

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> DualityModel:
    return load_model(device="cpu")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not here")
    return SHARED


def _archive() -> Path:
    """The archive of real patches inside bigearthnet-common, found without importing the package (that warns)."""
    listed = [f for f in files("bigearthnet-common") or () if f.name == "BigEarthNet-S2-Example.tar.bz2"]
    assert listed, f"bigearthnet-common in {sys.prefix} lacks its Sentinel-2 example archive"
    return Path(str(listed[0].locate()))


@pytest.fixture(scope="session")
def patches() -> dict[str, Multispectral]:
    """Six real Sentinel-2 L2A patches: name -> bands. They precede baseline 04.00: scale 1e-4, no offset."""
    from rasterio.io import MemoryFile

    arrays: dict[str, dict[str, np.ndarray]] = {}
    with tarfile.open(_archive()) as archive:
        for member in archive:
            if not member.name.endswith(".tif"):
                continue
            name, band = Path(member.name).stem.rsplit("_", 1)
            content = archive.extractfile(member)
            assert content is not None
            with MemoryFile(content.read()) as memory, memory.open() as dataset:
                arrays.setdefault(name, {})[band] = dataset.read(1).astype(np.float32) * np.float32(1e-4)

    def bands(found: dict[str, np.ndarray], resolution: int) -> np.ndarray:
        return np.stack([found[band] for band in BANDS_BY_RESOLUTION[resolution]])

    return {
        name: Multispectral(bands(found, 10), bands(found, 20), bands(found, 60), "sentinel-2" + name[2].lower())
        for name, found in sorted(arrays.items())
    }


@pytest.fixture(scope="session")
def estimates(model, patches):
    """The model's answer to every real patch."""
    from model.inference import Halo

    return {name: model.estimate(msi, Halo(0, 0, 0, 0)) for name, msi in patches.items()}


def make_scene(height: int = 96, width: int = 96, seed: int = 0, platform: str = "sentinel-2a") -> Multispectral:
    """A plausible scene of soft fields with sharp borders."""
    rng = np.random.default_rng(seed)
    fields = rng.random((height // 12 + 1, width // 12 + 1)).repeat(12, 0).repeat(12, 1)[:height, :width]
    texture = fields * 0.8 + 0.2 * rng.random((height, width))
    vegetation = np.array([0.03, 0.04, 0.07, 0.04, 0.11, 0.28, 0.35, 0.37, 0.39, 0.40, 0.20, 0.09])
    soil = np.array([0.10, 0.12, 0.15, 0.19, 0.22, 0.24, 0.26, 0.28, 0.30, 0.31, 0.38, 0.34])
    bands = vegetation[:, None, None] * (1 - texture) + soil[:, None, None] * texture

    def at(rows: list[int], ratio: int) -> np.ndarray:
        part = bands[rows].reshape(len(rows), height // ratio, ratio, width // ratio, ratio).mean(axis=(2, 4))
        return part.astype(np.float32)

    return Multispectral(at([1, 2, 3, 7], 1), at([4, 5, 6, 8, 10, 11], 2), at([0, 9], 6), platform)


@pytest.fixture
def scene():
    return make_scene


def windowed(msi: Multispectral, column: int, row: int, width: int, height: int) -> Multispectral:
    """Cut a window out of a scene, padded with nan beyond it."""

    def cut(array: np.ndarray, ratio: int) -> np.ndarray:
        out = np.full((array.shape[0], height // ratio, width // ratio), np.nan, np.float32)
        part = array[:, row // ratio : (row + height) // ratio, column // ratio : (column + width) // ratio]
        out[:, : part.shape[1], : part.shape[2]] = part
        return out

    return Multispectral(cut(msi.b10, 1), cut(msi.b20, 2), cut(msi.b60, 6), msi.platform)


@pytest.fixture
def cut():
    return windowed
