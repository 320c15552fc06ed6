"""What the model learns from: which file belongs to which split, its licence, and balanced draws from them.

A split is left out as a whole: files of one place never stand on both sides. Each split gives a bounded number of
spectra, so that a large scene does not outvote a small one; half as many linear mixtures and changes of illumination
are added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM
from model.card import DataSource
from model.errors import DataMissing
from model.evaluation.wald import read_sentinel2
from model.spectra import Spectra, read_spectra, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

RESPONSE_FILE: Final[str] = "srf/s2_srf_1nm.npz"
TEXTURE_FILE: Final[str] = "sentinel2/dsen2_S2A_MSIL1C_20170527_T33UUB.npz"
"""A real Sentinel-2 image whose 10 m bands lend their texture to the chips the fusion learns from."""
TEXTURE_LICENCE: Final[str] = "CC BY 4.0 (Copernicus Sentinel data)"
RESPONSE_LICENCE: Final[str] = "ESA COPE-GSEG-EOPG-TN-15-0007"


@dataclass(frozen=True)
class SourceFile:
    """One file of spectra."""

    path: str
    """Below the data folder."""
    split: str
    """Splits are left out as a whole."""
    licence: str
    """As found at its source."""
    draws: int
    """Largest number of spectra taken from it."""
    judges: bool
    """Whether it is left out in turn to judge and calibrate (real scenes and field spectra; laboratory libraries are
    not)."""


SOURCES: Final[tuple[SourceFile, ...]] = (
    SourceFile("cubes/aviris_sandiego_a.npz", "san_diego", "none stated", 1500, judges=True),
    SourceFile("cubes/aviris_sandiego_b.npz", "san_diego", "none stated (MIT repository)", 1500, judges=True),
    SourceFile("cubes/enmap_potsdam.npz", "potsdam", "GPL-3 repository, DLR data", 3000, judges=True),
    SourceFile("cubes/neon_idtrees_mlbs.npz", "neon_mlbs", "none stated (NEON data)", 2000, judges=True),
    SourceFile("cubes/neon_idtrees_osbs.npz", "neon_osbs", "none stated (NEON data)", 2000, judges=True),
    SourceFile("cubes/neon_harv_crown.npz", "neon_harv", "MIT repository", 267, judges=True),
    SourceFile("cubes/avirisng_pycoal.npz", "pycoal", "GPL-2 repository, JPL data", 240, judges=True),
    SourceFile("cubes/gamsberg_mine.npz", "gamsberg", "GPL-3 repository", 250, judges=True),
    SourceFile("libraries/gamsberg_field_speclib.npz", "gamsberg", "GPL-3 repository", 27, judges=False),
    SourceFile("libraries/bioscape_avirisng_fynbos_points.npz", "fynbos", "see source", 102, judges=True),
    SourceFile("libraries/isofit_ecostress_snow.npz", "snow", "Apache-2.0", 500, judges=False),
    SourceFile("libraries/isofit_ecostress_mixtures.npz", "mixtures", "Apache-2.0", 2016, judges=False),
    SourceFile("libraries/earthlib_400_2450.npz", "earthlib", "MIT", 3000, judges=False),
    SourceFile("libraries/usgs_splib07_av95.npz", "usgs", "public domain (USGS)", 1600, judges=False),
)

ATMOSPHERE_NM: Final[tuple[tuple[float, float], ...]] = ((754.0, 773.0), (1108.0, 1165.0))
"""Oxygen A and water vapour, as seen in the residues of the cubes used here."""

DRAWS_PER_FILE: Final[int] = 2000
RARE_REPEATS: Final[int] = 4
"""A file with few spectra counts at most this many times each."""

MIXED_PART: Final[float] = 0.5
"""Number of mixtures as a part of the number of spectra."""

ILLUMINATION_SPREAD: Final[float] = 0.3
"""Standard deviation of the logarithm of the illumination change."""


@dataclass(frozen=True)
class Corpus:
    """All spectra of a data folder."""

    files: dict[str, Spectra]
    """Path -> its spectra."""
    sources: tuple[DataSource, ...]
    """For the card."""

    def split(self, name: str) -> list[Spectra]:
        """The files of a split."""
        return [self.files[source.path] for source in SOURCES if source.split == name]


def judging_splits() -> tuple[str, ...]:
    """Splits left out in turn."""
    return tuple(dict.fromkeys(source.split for source in SOURCES if source.judges))


def read_corpus(data: Path) -> Corpus:
    """Read every source file.

    Args:
        data: folder with ``cubes/``, ``libraries/`` and ``srf/``.

    Raises:
        DataMissing: naming every file that is not there.
    """
    missing = [source.path for source in SOURCES if not (data / source.path).is_file()]
    missing += [name for name in (RESPONSE_FILE, TEXTURE_FILE) if not (data / name).is_file()]
    if missing:
        raise DataMissing(f"{data} lacks {', '.join(missing)}; give the folder of cubes/, libraries/, sentinel2/, srf/")
    files = {source.path: without_atmosphere(read_spectra(data / source.path)) for source in SOURCES}
    described = [
        DataSource(
            source.path,
            sha256_file(data / source.path),
            source.licence,
            "fit, left out in turn to judge and calibrate" if source.judges else "fit",
            source.split,
            len(files[source.path].reflectance),
        )
        for source in SOURCES
    ]
    response = DataSource(RESPONSE_FILE, sha256_file(data / RESPONSE_FILE), RESPONSE_LICENCE, "responses", "none", 0)
    texture = DataSource(
        TEXTURE_FILE, sha256_file(data / TEXTURE_FILE), TEXTURE_LICENCE, "texture of the fusion's chips", "none", 0
    )
    return Corpus(files, (*described, response, texture))


def read_texture(data: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Reflectance of a real Sentinel-2 image: (4, h, w) B02 B03 B04 B08 and (6, h / 2, w / 2) the 20 m bands."""
    scene = read_sentinel2(data / TEXTURE_FILE)
    return scene["b10"], scene["b20"]


def without_atmosphere(spectra: Spectra) -> Spectra:
    """Bridge the channels where air's own absorptions leave their mark on imaging spectrometers' reflectance.

    Oxygen at 0.76 um and water vapour at 1.13 um are narrow and strong: what atmospheric correction misses there stands
    as a bump on every spectrum of a scene. No surface has a feature that narrow at these places, so the truth used to
    fit and to calibrate runs straight across.
    """
    reflectance = spectra.reflectance.copy()
    for low, high in ATMOSPHERE_NM:
        within = np.flatnonzero((low <= CENTRE_NM) & (high >= CENTRE_NM))
        left, right = within[0] - 1, within[-1] + 1
        part = (CENTRE_NM[within] - CENTRE_NM[left]) / (CENTRE_NM[right] - CENTRE_NM[left])
        ends = reflectance[:, [left, right]]
        reflectance[:, within] = ends[:, :1] * (1 - part) + ends[:, 1:] * part
    return replace(spectra, reflectance=reflectance)


def draw(
    corpus: Corpus, left_out: Iterable[str], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A balanced pool of spectra.

    Args:
        corpus: everything there is.
        left_out: splits that must not take part.
        rng: source of randomness.

    Returns:
        (n, 172) reflectance and (n,) reflectance in B01 (nan where unknown).
    """
    excluded = set(left_out)
    spectra, coastal = [], []
    for source in SOURCES:
        if source.split in excluded:
            continue
        file = corpus.files[source.path]
        count = len(file.reflectance)
        wanted = min(DRAWS_PER_FILE, source.draws, count * RARE_REPEATS)
        index = rng.permutation(np.resize(rng.permutation(count), max(wanted, count)))[:wanted]
        light = np.exp(rng.normal(0.0, ILLUMINATION_SPREAD, size=(wanted, 1)))
        spectra.append(file.reflectance[index] * light)
        coastal.append(file.coastal[index] * light[:, 0])
    pool, blue = np.concatenate(spectra).astype(np.float64), np.concatenate(coastal).astype(np.float64)
    mixed, mixed_blue = _mixtures(pool, blue, [len(part) for part in spectra], rng)
    return np.concatenate([pool, mixed]), np.concatenate([blue, mixed_blue])


def _mixtures(
    pool: NDArray[np.float64], blue: NDArray[np.float64], sizes: list[int], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear mixtures of two spectra whose files are drawn alike: snow meets forest as often as soil meets soil."""
    n = int(len(pool) * MIXED_PART)
    start = np.r_[0, np.cumsum(sizes)[:-1]]
    file = rng.integers(len(sizes), size=(2, n))
    first, second = start[file] + (rng.random((2, n)) * np.asarray(sizes)[file]).astype(int)
    part = rng.beta(0.5, 0.5, size=(n, 1))
    mixed = part * pool[first] + (1 - part) * pool[second]
    return mixed, part[:, 0] * blue[first] + (1 - part[:, 0]) * blue[second]
