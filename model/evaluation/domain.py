"""Does the model notice ground it does not know? A score for it, and a set of foreign surfaces fixed beforehand.

The surfaces are analytic curves with a physical reason each, written down before any model was judged by them and
changed for none. `FOREIGN_SET` names the set: figures are comparable only for one name. A few of them turned out to lie
within `HELD_DEG` of some spectrum of the training corpus (a flat bright curve is aluminium, but also grey paint): they
stay in the set, marked `ForeignKind.held`, and are told apart, for a model may rightly take them for known.

Curves are functions of wavelength, so that B01, which lies below the product's grid, gets its value too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.bands import CENTRE_NM, SOURCE_BAND_NAMES, SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping

FOREIGN_SET: Final[str] = "foreign-1"
"""Name of the set below; any change of a curve or of its jitter is a new name."""

HELD_DEG: Final[float] = 3.0
"""Spectral angle below which two spectra are alike, degrees: what a linear estimate of a known surface errs by anyway
(1.4-2.6 degrees, scenes left out)."""

Family = Literal["material", "light", "damage"]
"""What is foreign: the surface itself, the light on it, or the numbers delivered for it."""

Curve = Callable[[NDArray[np.float64], np.random.Generator, int], NDArray[np.float64]]
"""(w,) wavelengths in nm, a source of jitter and n -> (n, w) reflectance."""


def auroc(inside: NDArray[np.floating], outside: NDArray[np.floating]) -> float:
    """Area under the receiver operating characteristic: the chance that a foreign pixel scores above a known one.

    The rank statistic of Mann & Whitney (Hanley & McNeil, Radiology 143, 1982, 29-36); a tie counts one half.

    Args:
        inside: (n,) scores of known pixels, higher is more foreign.
        outside: (m,) scores of foreign pixels.

    Returns:
        0-1; 0.5 is chance.

    Raises:
        ValueError: if either is empty or holds nan.
    """
    known, foreign = np.ravel(np.asarray(inside, np.float64)), np.ravel(np.asarray(outside, np.float64))
    if not known.size or not foreign.size or np.isnan(known).any() or np.isnan(foreign).any():
        raise ValueError(f"{known.size} known and {foreign.size} foreign scores; some of each are needed, none nan")
    ordered = np.sort(known)
    below, upto = np.searchsorted(ordered, foreign, "left"), np.searchsorted(ordered, foreign, "right")
    return float((below + upto).mean() / (2 * known.size))


def auroc_by_kind(inside: NDArray[np.floating], outside: Mapping[str, NDArray[np.floating]]) -> dict[str, float]:
    """The score of every kind, with their plain mean (``mean``: every kind counts alike) and the ``worst``.

    Args:
        inside: (n,) scores of known pixels, higher is more foreign.
        outside: kind -> (m,) scores; no kind is called ``mean`` or ``worst``.
    """
    each = {name: auroc(inside, scores) for name, scores in outside.items()}
    values = list(each.values())
    return each | {"mean": float(np.mean(values)), "worst": min(values)}


@dataclass(frozen=True)
class ForeignKind:
    """A kind of foreign surface."""

    name: str
    reason: str
    """What it is physically, and what in it is foreign."""
    family: Family
    curve: Curve
    held: bool = False
    """Whether the training corpus holds a spectrum within `HELD_DEG`: not foreign, whatever it is called."""


@dataclass(frozen=True)
class ForeignSurface:
    """Spectra of one kind."""

    kind: ForeignKind
    spectra: NDArray[np.float64]
    """(172, n) apparent surface reflectance on the product's grid; a hot or fluorescent surface may exceed 1."""
    coastal: NDArray[np.float64]
    """(n,) the same in B01, which the grid does not reach."""


@dataclass(frozen=True)
class ForeignBands:
    """Source bands that no ground can have given: damage on the way."""

    name: str
    reason: str
    bands: NDArray[np.float64]
    """(12, n) reflectance in the order of `model.bands.SOURCE_BANDS`."""
    family: Family = "damage"


def foreign_spectra(n: int = 200, seed: int = 0) -> tuple[ForeignSurface, ...]:
    """The fixed set of foreign surfaces, ``n`` of each kind with jitter.

    Args:
        n: spectra per kind.
        seed: of the jitter; every kind has its own stream.

    Returns:
        One entry per kind, in the order of `FOREIGN`.
    """
    axis = np.r_[SOURCE_BANDS[0].centre_nm, CENTRE_NM]
    surfaces = []
    for number, kind in enumerate(FOREIGN):
        curves = kind.curve(axis, np.random.default_rng([seed, number]), n).T  # (173, n)
        surfaces.append(ForeignSurface(kind, np.ascontiguousarray(curves[1:]), curves[0].copy()))
    return tuple(surfaces)


def foreign_bands(bands: NDArray[np.floating], seed: int = 0) -> tuple[ForeignBands, ...]:
    """Known pixels damaged in the space of the bands.

    A swap of two bands that are alike on some ground is no damage there, so these scores cannot reach 1 on every scene.

    Args:
        bands: (12, n) reflectance of known pixels.
        seed: of the choice which band of a pixel is hit, where one of eleven is (B01 constrains nothing).

    Returns:
        One entry per kind of damage, float64; the input is left alone.
    """
    good = np.array(bands, dtype=np.float64)
    row = {name: i for i, name in enumerate(SOURCE_BAND_NAMES)}
    hit = np.random.default_rng(seed).integers(1, good.shape[0], size=(2, good.shape[1]))
    pixel = np.arange(good.shape[1])

    def swapped(a: str, b: str) -> NDArray[np.float64]:
        out = good.copy()
        out[[row[a], row[b]]] = good[[row[b], row[a]]]
        return out

    def scaled(which: NDArray[np.int64], gain: float) -> NDArray[np.float64]:
        out = good.copy()
        out[which, pixel] *= gain
        return out

    return (
        ForeignBands("offset_missed", "the offset of baseline 04.00 was not taken off: all bands 0.1 high", good + 0.1),
        ForeignBands("offset_twice", "the offset was taken off twice: all bands 0.1 low", good - 0.1),
        ForeignBands("swap_b05_b06", "two neighbouring red-edge bands changed places", swapped("B05", "B06")),
        ForeignBands("swap_b11_b12", "the two short-wave infrared bands changed places", swapped("B11", "B12")),
        ForeignBands("dead_band", "one band of the pixel was lost and filled with zero", scaled(hit[0], 0.0)),
        ForeignBands("gain_band", "one band of the pixel was calibrated half as high again", scaled(hit[1], 1.5)),
    )


# The curves. Shapes: w (w,), every jittered parameter (n, 1), so results are (n, w).

_COLUMN = NDArray[np.float64]


def _draw(rng: np.random.Generator, low: float, high: float, n: int) -> _COLUMN:
    return rng.uniform(low, high, size=(n, 1))


def _peak(w: NDArray[np.float64], centre: float | _COLUMN, width: float) -> NDArray[np.float64]:
    """Gaussian of unit height; ``width`` is its standard deviation, nm."""
    return np.asarray(np.exp(-0.5 * ((w - centre) / width) ** 2))


def _step(w: NDArray[np.float64], edge: float | _COLUMN, width: float) -> NDArray[np.float64]:
    """Logistic rise from 0 to 1 at ``edge``."""
    return np.asarray(0.5 * (1 + np.tanh((w - edge) / (2 * width))))


def _carbon_hydrogen(w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absorbance of the overtones of the C-H bond in polymers, 1.21, 1.73 and 2.31 um (relative to 1 at 2.31)."""
    return 0.25 * _peak(w, 1210, 18) + 0.6 * _peak(w, 1730, 22) + _peak(w, 2310, 25) + 0.6 * _peak(w, 2355, 20)


def _vegetation(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A green canopy: what the light falls on in the kinds where only the light is foreign."""
    plateau, water = _draw(rng, 0.35, 0.5, n), _draw(rng, 0.7, 1.2, n)
    visible = 0.035 + _draw(rng, 0.03, 0.06, n) * _peak(w, 552, 30)
    leaf = visible + plateau * _step(w, 718, 12)
    bands = 0.12 * _peak(w, 975, 25) + 0.3 * _peak(w, 1200, 45) + 1.6 * _peak(w, 1450, 70) + 2.0 * _peak(w, 1940, 90)
    return np.asarray(leaf * np.exp(-water * (bands + 0.4 * _step(w, 1380, 40) + 0.7 * _step(w, 1870, 40))))


def _blue_plastic(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    dye = 0.05 + _draw(rng, 0.35, 0.5, n) * _peak(w, _draw(rng, 450, 465, n), 35)
    return np.asarray(
        (dye + _draw(rng, 0.5, 0.65, n) * _step(w, _draw(rng, 730, 760, n), 15))
        * np.exp(-_draw(rng, 0.4, 0.8, n) * _carbon_hydrogen(w))
    )


def _green_plastic(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    dye = 0.04 + _draw(rng, 0.12, 0.25, n) * _peak(w, _draw(rng, 515, 530, n), 28)
    return np.asarray(
        (dye + _draw(rng, 0.4, 0.55, n) * _step(w, _draw(rng, 770, 800, n), 20))
        * np.exp(-_draw(rng, 0.4, 0.8, n) * _carbon_hydrogen(w))
    )


def _red_plastic(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    dye = 0.05 + _draw(rng, 0.6, 0.75, n) * _step(w, _draw(rng, 595, 610, n), 7)
    return np.asarray(dye * np.exp(-_draw(rng, 0.4, 0.8, n) * _carbon_hydrogen(w)))


def _bare_metal(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    slope = 1 + _draw(rng, 0.02, 0.06, n) * (w - 1400) / 1000
    return np.asarray(_draw(rng, 0.7, 0.95, n) * slope * (1 - _draw(rng, 0.06, 0.1, n) * _peak(w, 825, 55)))


def _solar_panel(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    front = 0.03 + _draw(rng, 0.02, 0.05, n) * _peak(w, 440, 60)
    back = _draw(rng, 0.25, 0.45, n) * _step(w, _draw(rng, 1090, 1110, n), 18)
    return np.asarray((front + back) * np.exp(-_draw(rng, 0.3, 0.6, n) * _carbon_hydrogen(w)))


def _sulphur(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return np.asarray(0.08 + _draw(rng, 0.7, 0.85, n) * _step(w, _draw(rng, 468, 482, n), 8))


def _gypsum(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    water = 1.0 * _peak(w, 1446, 14) + 0.6 * _peak(w, 1490, 12) + 0.5 * _peak(w, 1535, 14) + 0.45 * _peak(w, 1750, 18)
    water += 1.4 * _peak(w, 1943, 25) + 0.4 * _peak(w, 2217, 18) + 0.3 * _peak(w, 2268, 15) + 0.6 * _step(w, 2380, 30)
    return np.asarray(_draw(rng, 0.75, 0.9, n) * np.exp(-_draw(rng, 0.6, 1.1, n) * water))


_WATER_NM: Final = (440, 480, 500, 520, 560, 580, 600, 640, 680, 700, 720, 740, 760, 800, 850, 900, 950, 1000, 1070)
_WATER_PER_M: Final = (
    *(0.0064, 0.013, 0.020, 0.041, 0.062, 0.090, 0.22, 0.31, 0.47, 0.62),
    *(1.2, 2.4, 2.6, 2.1, 4.3, 6.5, 39.0, 36.0, 15.0),
)
"""Absorption of pure water, 1/m, to two figures: Pope & Fry, Appl. Opt. 36, 1997, to 700 nm; Kou, Labrie & Chylek,
Appl. Opt. 32, 1993, above. Beyond the table a metre of water is black; its last value is used."""


def _swimming_pool(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    path = 2.2 * _draw(rng, 1.0, 2.2, n)  # down and up, slanted, m
    floor = _draw(rng, 0.45, 0.65, n) * (1 - _draw(rng, 0.3, 0.6, n) * _step(w, 560, 25))  # light blue paint
    return np.asarray(0.02 + floor * np.exp(-path * np.interp(w, _WATER_NM, _WATER_PER_M)))


def _bloom_on_sand(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    sand = _draw(rng, 0.5, 0.65, n) * (0.75 + 0.25 * np.tanh((w - 500) / 300))
    pigments = 1.3 * _peak(w, 435, 35) + 0.5 * _peak(w, 490, 25) + 0.7 * _peak(w, 625, 18) + 1.4 * _peak(w, 676, 12)
    return np.asarray(sand * np.exp(-_draw(rng, 0.6, 1.2, n) * pigments))


def _red_snow(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    ice = 0.25 * _peak(w, 1030, 45) + 0.5 * _peak(w, 1260, 60) + 1.9 * _step(w, 1400, 25) + 1.0 * _step(w, 1930, 30)
    ice += 0.9 * _peak(w, 1500, 60) + 1.0 * _peak(w, 2030, 60)
    algae = _peak(w, 470, 45) + 0.6 * _peak(w, 535, 30) + 0.45 * _peak(w, 680, 12)
    return np.asarray(
        _draw(rng, 0.75, 0.9, n) * np.exp(-_draw(rng, 0.8, 1.2, n) * ice - _draw(rng, 0.6, 1.2, n) * algae)
    )


def _fluorescent_orange(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    dye = 0.06 + _draw(rng, 0.65, 0.75, n) * _step(w, _draw(rng, 578, 588, n), 6)
    glow = _draw(rng, 0.25, 0.5, n) * _peak(w, 612, 16)
    return np.asarray((dye + glow) * np.exp(-_draw(rng, 0.2, 0.5, n) * _carbon_hydrogen(w)))


def _planck(w: NDArray[np.float64], kelvin: float | _COLUMN) -> NDArray[np.float64]:
    """Spectral radiance of a black body, W / m2 / sr / um."""
    micron = w / 1000
    return np.asarray(1.191043e8 / micron**5 / np.expm1(14387.77 / (micron * kelvin)))


_SUN_KELVIN: Final[float] = 5772.0
_SUN_STERADIAN: Final[float] = 6.794e-5


def _hot_spot(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    kelvin, glow = _draw(rng, 700, 1000, n), _draw(rng, 0.15, 0.7, n)
    # What flames radiate, divided by what the sun at 45 degrees sends, looks like reflectance; the burning part of the
    # pixel is such that this amounts to `glow` at 2.2 um.
    apparent = np.pi * _planck(w, kelvin) / (np.cos(np.pi / 4) * _SUN_STERADIAN * _planck(w, _SUN_KELVIN))
    at_2200 = np.array([2200.0])
    reference = np.pi * _planck(at_2200, kelvin) / (np.cos(np.pi / 4) * _SUN_STERADIAN * _planck(at_2200, _SUN_KELVIN))
    return np.asarray(_vegetation(w, rng, n) + glow * apparent / reference)


def _cloud_edge(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    ice = 0.9 * _peak(w, 1500, 55) + 1.3 * _peak(w, 2020, 55) + 0.25 * _step(w, 1420, 25) + 0.4 * _step(w, 1930, 30)
    cloud = _draw(rng, 0.6, 0.8, n) * np.exp(-_draw(rng, 0.5, 1.0, n) * ice)
    part = _draw(rng, 0.3, 0.6, n)
    return np.asarray(part * cloud + (1 - part) * _vegetation(w, rng, n))


def _cloud_shadow(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    light = _draw(rng, 0.03, 0.1, n) + _draw(rng, 0.3, 0.5, n) * (w / 450) ** -_draw(rng, 3.0, 4.0, n)
    haze = _draw(rng, 0.03, 0.06, n) * (w / 450) ** -4.0  # scattered into the line of sight from the lit surroundings
    return np.asarray(light * _vegetation(w, rng, n) + haze)


def _sun_glint(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    water = 0.03 * np.exp(-1.5 * np.interp(w, _WATER_NM, _WATER_PER_M))
    fresnel = 1 - _draw(rng, 0.08, 0.14, n) * (w - 1400) / 1000  # the refractive index falls towards 2.4 um
    return np.asarray(water + _draw(rng, 0.1, 0.5, n) * fresnel)


def _smoke(w: NDArray[np.float64], rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    depth = _draw(rng, 1.0, 2.0, n) * (w / 550) ** -_draw(rng, 1.6, 2.2, n)
    return np.asarray(0.3 * (1 - np.exp(-depth)) + np.exp(-depth) * _vegetation(w, rng, n))


FOREIGN: Final[tuple[ForeignKind, ...]] = (
    ForeignKind(
        "blue_plastic",
        "woven tarpaulin: a blue dye that turns transparent in the near infrared, C-H overtones, no water",
        "material",
        _blue_plastic,
    ),
    ForeignKind(
        "green_plastic",
        "artificial turf: green, but its edge stands at 0.79 um instead of 0.72 and it holds no water",
        "material",
        _green_plastic,
    ),
    ForeignKind(
        "red_plastic",
        "red polymer: a step at 0.60 um steeper than any iron oxide's, then flat but for C-H overtones",
        "material",
        _red_plastic,
    ),
    ForeignKind(
        "bare_metal",
        "aluminium roof: bright and flat to 2.4 um, with the interband transition of the metal at 0.83 um",
        "material",
        _bare_metal,
        held=True,
    ),
    ForeignKind(
        "solar_panel",
        "silicon under glass: black to its band gap at 1.1 um, the bright back sheet beyond",
        "material",
        _solar_panel,
    ),
    ForeignKind(
        "sulphur",
        "native sulphur: a band edge at 0.475 um and no feature beyond",
        "material",
        _sulphur,
        held=True,
    ),
    ForeignKind(
        "gypsum",
        "salt crust: bright, with the water of crystallisation at 1.45-1.54, 1.75 and 2.22 um",
        "material",
        _gypsum,
    ),
    ForeignKind(
        "swimming_pool",
        "clear water over a light blue floor: vivid blue, black from 0.75 um on",
        "material",
        _swimming_pool,
    ),
    ForeignKind(
        "bloom_on_sand",
        "algal mat on bright sand: chlorophyll and phycocyanin absorb, but beyond 0.75 um it is flat, dry sand",
        "material",
        _bloom_on_sand,
    ),
    ForeignKind(
        "red_snow",
        "snow with algae: carotenoids and chlorophyll on a spectrum of ice",
        "material",
        _red_snow,
    ),
    ForeignKind(
        "fluorescent_orange",
        "safety paint: the dye returns blue and green light at 0.61 um, where it seems brighter than white",
        "material",
        _fluorescent_orange,
    ),
    ForeignKind(
        "hot_spot",
        "vegetation with a fire inside the pixel: Planck's law at 700-1000 K lifts the short-wave infrared",
        "light",
        _hot_spot,
    ),
    ForeignKind(
        "cloud_edge",
        "vegetation under the thin edge of an ice cloud: white light with ice at 1.5 and 2.0 um over a red edge",
        "light",
        _cloud_edge,
    ),
    ForeignKind(
        "cloud_shadow",
        "vegetation lit by the blue sky alone, taken for sunlit: Rayleigh's slope over a red edge",
        "light",
        _cloud_shadow,
    ),
    ForeignKind(
        "sun_glint",
        "the sun mirrored on waves: a nearly flat gleam over water",
        "light",
        _sun_glint,
        held=True,
    ),
    ForeignKind(
        "smoke",
        "fresh smoke over vegetation: fine particles hide the visible and leave the short-wave infrared clear",
        "light",
        _smoke,
    ),
)
"""The set, fixed beforehand."""
