"""The streaming writer beside GDAL's COG driver, in one run on the same pixels with the same codec and overviews."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import psutil
import rasterio
import rasterio.shutil

from infra.cog import CogBand, CogProfile, CogWriter
from infra.storage import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BLOCK: Final = 192
_NODATA: Final = -32768
_ENDMEMBERS: Final = 6
_SAMPLE_SECONDS: Final = 0.02
_CHECKED_BLOCKS: Final = 4


@dataclass
class _Cost:
    """What one writer took; a context manager measures it."""

    core_seconds: float = 0.0
    """Processor time of all threads."""
    wall_seconds: float = 0.0
    peak_rss_bytes: int = 0
    """Most resident memory above the start, file pages not counted."""

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._floor = _resident()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._wall, self._core = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.core_seconds = time.process_time() - self._core
        self.wall_seconds = time.perf_counter() - self._wall
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak_rss_bytes = max(self.peak_rss_bytes, _resident() - self._floor)


def _resident() -> int:
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def bench_writer(
    *,
    size: int = 2048,
    bands: int = 172,
    threads: int = 2,
    folder: Path,
    seed: int = 0,
    progress: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Write one synthetic scene with both writers and compare what they cost.

    The pixels lie in a raw band-sequential file, which both read from the page cache: GDAL needs no temporary copy of
    its input, which is its best case. Both use ZSTD level 1, predictor 2, 192 pixel blocks and averaged overviews. The
    streaming writer's time includes the store's sync to the disk; GDAL does none.

    Args:
        size: Edge of the scene, pixels.
        bands: Number of bands.
        threads: For each writer.
        folder: An existing folder; what is written there is removed.
        seed: Of the scene.
        progress: Told what is being done.

    Returns:
        Figures of both, prefixed ``writer_`` and ``gdal_``: core-seconds, wall seconds, MB/s of raw pixels per core,
        file size, compression ratio (overviews counted), peak resident memory; whether both files hold the scene's
        values; and the ratios.
    """
    tell = progress or (lambda _text: None)
    with tempfile.TemporaryDirectory(prefix="bench-writer-", dir=folder) as name:
        work = Path(name)
        tell(f"making a scene of {size} x {size} x {bands}")
        raw = _make_scene(work / "scene.img", size, bands, seed)
        scene = np.memmap(raw, np.int16, "r", shape=(bands, size, size))
        profile = _profile(size, bands)
        tell("writing with the streaming writer")
        ours, our_cost = _write_streaming(scene, profile, work, threads)
        tell("writing with GDAL's COG driver")
        theirs, their_cost = _write_gdal(raw, work / "gdal.tif", threads)
        equal = all(_same_blocks(path, scene) for path in (ours, theirs))
        figures = {
            "size": size, "bands": bands, "block": _BLOCK, "threads": threads, "seed": seed, "raw_bytes": scene.nbytes,
            **_figures("writer", our_cost, ours, scene.nbytes),
            **_figures("gdal", their_cost, theirs, scene.nbytes),
            "values_equal": equal,
            "ratio_per_core": round(their_cost.core_seconds / our_cost.core_seconds, 2),
            "ratio_wall": round(their_cost.wall_seconds / our_cost.wall_seconds, 2),
            "machine": _machine(),
        }  # fmt: skip
        del scene
    return figures


def _figures(name: str, cost: _Cost, path: Path, raw_bytes: int) -> dict[str, float]:
    size = path.stat().st_size
    figures = {
        "core_seconds": round(cost.core_seconds, 2),
        "wall_seconds": round(cost.wall_seconds, 2),
        "mb_per_s_per_core": round(raw_bytes / 1e6 / cost.core_seconds, 1),
        "file_bytes": size,
        "compression_ratio": round(raw_bytes * 4 / 3 / size, 2),
        "peak_rss_bytes": cost.peak_rss_bytes,
    }
    return {f"{name}_{figure}": value for figure, value in figures.items()}


def _write_streaming(scene: NDArray[np.int16], profile: CogProfile, work: Path, threads: int) -> tuple[Path, _Cost]:
    store, key, cell = FileStore(work.resolve()), "streaming.tif", 2 * _BLOCK
    cells = [(row, column) for row in range(0, profile.height, cell) for column in range(0, profile.width, cell)]
    cells.sort(key=lambda at: _z_order(at[0] // cell, at[1] // cell))
    with _Cost() as cost, ThreadPoolExecutor(threads) as pool, CogWriter(profile, store, key, pool=pool) as writer:
        for row, column in cells:
            writer.write(column, row, scene[:, row : row + cell, column : column + cell], lent=True)
        writer.finish()
    return Path(store.gdal_path(key)), cost


def _z_order(row: int, column: int) -> int:
    return int(f"{row:016b}", 4) * 2 + int(f"{column:016b}", 4)


def _write_gdal(raw: Path, target: Path, threads: int) -> tuple[Path, _Cost]:
    with _Cost() as cost:
        rasterio.shutil.copy(
            raw, target, driver="COG", COMPRESS="ZSTD", LEVEL="1", PREDICTOR="STANDARD", BLOCKSIZE=str(_BLOCK),
            OVERVIEW_RESAMPLING="AVERAGE", OVERVIEWS="IGNORE_EXISTING", NUM_THREADS=str(threads), BIGTIFF="YES",
        )  # fmt: skip
    return target, cost


def _same_blocks(path: Path, scene: NDArray[np.int16]) -> bool:
    """Compare some blocks of a written file with the scene."""
    _bands, height, width = scene.shape
    with rasterio.open(path) as source:
        for at in np.linspace(0, 1, _CHECKED_BLOCKS):
            row, column = int(at * max(0, height - _BLOCK)), int(at * max(0, width - _BLOCK))
            window = rasterio.windows.Window(column, row, min(_BLOCK, width), min(_BLOCK, height))
            rows, columns = window.toslices()
            if not np.array_equal(source.read(window=window), scene[:, rows, columns]):
                return False
    return True


def _profile(size: int, bands: int) -> CogProfile:
    described = tuple(CogBand(f"band {number}", 1e-4, 0.0, "1", 460.0 + 11.0 * number, 10.0) for number in range(bands))
    transform = (10.0, 0.0, 600000.0, 0.0, -10.0, 5300040.0)
    return CogProfile(size, size, "int16", "EPSG:32633", transform, _NODATA, described, _BLOCK, "mean")


def _make_scene(path: Path, size: int, bands: int, seed: int) -> Path:
    """Write reflectance x 10 000 of textured mixtures of smooth spectra with sensor noise, band after band."""
    generator = np.random.default_rng(seed)
    shares = np.stack([_texture(generator, size) for _member in range(_ENDMEMBERS)])  # (K, H, W)
    shares = np.exp(2 * shares)
    shares /= shares.sum(axis=0)
    spectra = _smooth_spectra(generator, bands)  # (K, bands)
    noise = generator.normal(0, 1, (size, size)).astype(np.float32)
    with path.open("wb") as file:
        for band in range(bands):
            reflectance = np.einsum("k,khw->hw", spectra[:, band], shares)
            moved = np.roll(noise, tuple(generator.integers(0, size, 2)), (0, 1))
            reflectance += (0.003 + 0.01 * reflectance) * moved
            np.rint(reflectance * 10_000).astype("<i2").tofile(file)
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {size}\nlines = {size}\nbands = {bands}\nheader offset = 0\ndata type = 2\ninterleave = bsq\n"
        f"byte order = 0\ndata ignore value = {_NODATA}\n"
        "map info = {UTM, 1, 1, 600000, 5300040, 10, 10, 33, North, WGS-84}\n",
        encoding="ascii",
    )
    return path


def _texture(generator: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Make a field whose power falls with frequency, as that of land cover does; zero mean, unit variance."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(generator.normal(size=(size, size))) / frequency**1.2
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (size, size))
    return (field / (field.std() or 1)).astype(np.float32)


def _smooth_spectra(generator: np.random.Generator, bands: int) -> NDArray[np.float32]:
    """Make endmember spectra of broad features, 0-1."""
    place = np.linspace(0, 1, bands)
    spectra = np.full((_ENDMEMBERS, bands), 0.1, np.float32)
    for member in range(_ENDMEMBERS):
        for _feature in range(5):
            centre, breadth, height = generator.uniform((0, 0.05, -0.1), (1, 0.3, 0.3))
            spectra[member] += height * np.exp(-0.5 * ((place - centre) / breadth) ** 2)
    np.clip(spectra, 0.01, 0.9, out=spectra)
    return spectra


def _machine() -> str:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        f"GDAL {rasterio.__gdal_version__}, numpy {np.__version__}"
    )
