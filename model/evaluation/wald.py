"""Real tier: real Sentinel-2 imagery judged at reduced resolution, where the truth is known (Wald's protocol).

Every band is degraded by 2 with the sensor's point-spread function, so that the 10 m bands become 20 m guides and the
20 m bands 40 m ones; a method sharpens those back to 20 m, and the real 20 m bands are the truth. Source: Wald,
Ranchin, Mangolini (1997), "Fusion of satellite images of different spatial resolutions: assessing the quality of
resulting images", PE&RS 63(6), second property; for Sentinel-2 and the signal-to-reconstruction error: Lanaras et al.
(2018), "Super-resolution of Sentinel-2 images: learning a globally applicable deep neural network", ISPRS J. 146.

What the figures can and cannot say: a method is assumed to behave at 20 m as it does at 10 m, and a method that knows
the point-spread function used here (`model.fusion.down`) has that advantage over one that does not. `reduce` takes
another modulation, to measure how much it matters. It does: guided injection with back-projection (`model.fusion.fuse`)
leads both pyramids below by 1-3 dB on real images degraded with the modulation it believes in, and is about level with
them on images degraded with 0.25 or 0.60 instead.

Two classical baselines stand beside bicubic interpolation, both with one gain for the whole image:

* GLP-CBD: ``Y = up(y) + g (G - up(down(G)))``, ``g = Cov(y, down(G)) / Var(down(G))`` (Aiazzi et al. 2002,
  "Context-driven fusion of high spatial and spectral resolution images based on oversampled multiresolution analysis",
  IEEE TGRS 40(10), with the context widened to the image as in Vivone et al. 2015, "A critical comparison among
  pansharpening algorithms", IEEE TGRS 53(5), section II.B). Of several guides each band takes the one it is most
  correlated with: the selected-band scheme of Selva et al. (2015), "Hyper-sharpening: a first approach on SIM-GA
  data", IEEE JSTARS 8(6).
* Its synthesised-band scheme (same paper): the guide of a band is its multiple linear regression on all guides.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypedDict

import numpy as np
import torch

from model.bands import BANDS_BY_RESOLUTION
from model.errors import InvalidImage
from model.evaluation.metrics import spectral_angle
from model.fusion import RELATIVE_MTF, down, fill_invalid, up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Method = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Guides (4, h, w) and coarse bands (6, h / 2, w / 2), float32 reflectance, nan = nodata -> (6, h, w), finite
    wherever both inputs are."""

RATIO: Final[int] = 2
SHARPENED: Final[tuple[str, ...]] = BANDS_BY_RESOLUTION[20]
"""The bands judged, in the order of every (6, ...) array here."""

MIN_COARSE: Final[int] = 8
"""Fewest 40 m pixels along a side: less leaves nothing but borders."""

_SMALLEST_MSE: Final[float] = 1e-16
"""Keeps the error of a perfect answer finite, reflectance squared: far below what single precision resolves."""


class Scene(TypedDict):
    """A real Sentinel-2 image at its native resolutions."""

    name: str
    """Of the file, without suffix."""
    platform: str
    """``sentinel-2a`` ... as STAC writes it; empty where the file's name does not say."""
    level: str
    """``L1C`` or ``L2A``."""
    b10: NDArray[np.float32]
    """(4, h, w) B02 B03 B04 B08, reflectance, nan = nodata."""
    b20: NDArray[np.float32]
    """(6, h / 2, w / 2) B05 B06 B07 B8A B11 B12, likewise."""
    b60: NDArray[np.float32]
    """(2, h / 6, w / 6) B01 B09, likewise."""


def _band_name(text: str) -> str:
    """ESA's two-digit name of a band written as ``B4``, ``B8a`` or ``B04``."""
    found = re.fullmatch(r"B0?(\d{1,2})(A?)", text.strip().upper())
    if found is None:
        return text
    number, letter = found.groups()
    return f"B{number}A" if letter else f"B{int(number):02d}"


def _order(arrays: Mapping[str, NDArray[Any]], resolution: int) -> list[str]:
    """The bands of one resolution as the file orders them: from its table of names, else from its note."""
    if f"names{resolution}" in arrays:
        return [_band_name(str(name)) for name in arrays[f"names{resolution}"]]
    noted = re.search(rf"{resolution}m \[([^\]]*)\]", str(arrays.get("note", "")))
    return [_band_name(name) for name in noted[1].split(",")] if noted else []


def _reflectance(arrays: Mapping[str, NDArray[Any]], resolution: int, source: str) -> NDArray[np.float32]:
    """Bands of one resolution in our order, reflectance; a digital number of 0 is nodata (ESA, PSD)."""
    wanted, found = BANDS_BY_RESOLUTION[resolution], _order(arrays, resolution)
    numbers = arrays[f"b{resolution}"]
    if sorted(found) != sorted(wanted) or numbers.ndim != 3 or len(numbers) != len(wanted):
        raise InvalidImage(
            f"{source}: the {resolution} m array of shape {numbers.shape} holds the bands {found}, expected {wanted}"
        )
    ordered = numbers[[found.index(name) for name in wanted]].astype(np.float32)
    scaled = ordered * np.float32(arrays["scale"]) + np.float32(arrays["offset"])
    return np.where(ordered > 0, scaled, np.float32(np.nan)).astype(np.float32)


def read_sentinel2(path: Path) -> Scene:
    """Read an image at its native resolutions.

    Args:
        path: ``.npz`` with digital numbers ``b10`` (4, h, w), ``b20`` (6, h / 2, w / 2), ``b60`` (2, h / 6, w / 6),
            ``scale``, ``offset``, ``level``, and the bands' order in ``names10`` ... or in ``note``.

    Returns:
        Reflectance, bands in wavelength order.

    Raises:
        InvalidImage: if the file cannot be read, an array is missing, or the bands are not those of the sensor.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except (OSError, ValueError) as error:
        raise InvalidImage(f"{path} cannot be read as .npz: {error}") from error
    missing = {"b10", "b20", "b60", "scale", "offset"} - set(arrays)
    if missing:
        raise InvalidImage(f"{path} lacks {sorted(missing)}; it holds {sorted(arrays)}")
    unit = re.search(r"S2([A-D])_", path.stem)
    return Scene(
        name=path.stem,
        platform=f"sentinel-2{unit[1].lower()}" if unit else "",
        level=str(arrays.get("level", "")),
        b10=_reflectance(arrays, 10, str(path)),
        b20=_reflectance(arrays, 20, str(path)),
        b60=_reflectance(arrays, 60, str(path)),
    )


def _cut(bands: NDArray[np.floating], height: int, width: int) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(bands[:, :height, :width]), dtype=torch.float32)


def _degrade(bands: torch.Tensor, mtf: float) -> torch.Tensor:
    """(b, h, w) to (b, h / 2, w / 2); nan where one of the four pixels below is invalid in any band."""
    valid = torch.isfinite(bands).all(dim=0)
    seen = down(torch.nan_to_num(bands), RATIO, None if bool(valid.all()) else valid.to(bands.dtype), mtf)
    whole = valid.unfold(0, RATIO, RATIO).unfold(1, RATIO, RATIO).all(dim=-1).all(dim=-1)
    return torch.where(whole, seen, torch.nan)


def reduce(scene: Scene, mtf: float = RELATIVE_MTF) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Degrade an image by 2.

    Args:
        scene: the image. Sides that are no multiple of 40 m lose their last rows and columns: what remains is the
            largest rectangle from the upper left corner that both resolutions cover in whole 40 m pixels.
        mtf: modulation of the point-spread function at the coarse Nyquist frequency.

    Returns:
        Guides (4, h, w) at 20 m, coarse bands (6, h / 2, w / 2) at 40 m, and the true bands (6, h, w) at 20 m;
        float32 reflectance, nan = nodata.

    Raises:
        InvalidImage: if fewer than `MIN_COARSE` 40 m pixels remain along a side.
    """
    fine, middle = scene["b10"].shape[-2:], scene["b20"].shape[-2:]
    rows, columns = (min(f // (2 * RATIO), m // RATIO) for f, m in zip(fine, middle, strict=True))
    if min(rows, columns) < MIN_COARSE:
        raise InvalidImage(
            f"{scene['name']}: {rows} x {columns} pixels of 40 m, at least {MIN_COARSE} along each side are needed"
        )
    b10 = _cut(scene["b10"], rows * 2 * RATIO, columns * 2 * RATIO)
    truth = _cut(scene["b20"], rows * RATIO, columns * RATIO)
    return _degrade(b10, mtf), _degrade(truth, mtf), truth


def bicubic(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Interpolation alone: the guides are not looked at.

    Args:
        guides: (4, h, w) reflectance, nan = nodata.
        coarse: (6, h / 2, w / 2) likewise.

    Returns:
        (6, h, w) reflectance, finite.
    """
    return up(fill_invalid(coarse), guides.shape[-1] // coarse.shape[-1])


FLAT: Final[float] = 1e-5
"""Standard deviation of a guide below which it shows nothing but rounding, reflectance."""


def _details(guides: torch.Tensor, coarse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centred guides (4, n) and bands (6, n) over valid coarse pixels, float64, and what guides show below them."""
    ratio = guides.shape[-1] // coarse.shape[-1]
    filled = fill_invalid(guides)
    low = down(filled, ratio)
    both = torch.isfinite(coarse).all(dim=0)
    g, y = low[:, both].double(), coarse[:, both].double()
    detail = filled - up(low, ratio)
    return g - g.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True), detail


def glp_cbd(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Generalised Laplacian pyramid, each band sharpened by its most correlated guide with one regression gain.

    Args:
        guides: (4, h, w) reflectance, nan = nodata.
        coarse: (6, h / 2, w / 2) likewise.

    Returns:
        (6, h, w) reflectance, finite.
    """
    g, y, detail = _details(guides, coarse)
    covariance = y @ g.T  # (6, 4)
    energy = g.square().sum(dim=1).clamp_min(g.shape[1] * FLAT**2)
    # |correlation| orders the guides of one band as |covariance| / sqrt(energy) does: the band's own energy is common.
    chosen = (covariance.abs() / energy.sqrt()).argmax(dim=1)
    gain = covariance.gather(1, chosen[:, None])[:, 0] / energy[chosen]
    return bicubic(guides, coarse) + gain.to(guides.dtype)[:, None, None] * detail[chosen]


def glp_synthesised(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Generalised Laplacian pyramid, each band sharpened by its multiple linear regression on all guides.

    Args:
        guides: (4, h, w) reflectance, nan = nodata.
        coarse: (6, h / 2, w / 2) likewise.

    Returns:
        (6, h, w) reflectance, finite.
    """
    g, y, detail = _details(guides, coarse)
    flat = g.shape[1] * FLAT**2
    G = y @ g.T @ torch.linalg.pinv(g @ g.T, hermitian=True, atol=flat, rtol=1e-10)  # collinear guides share the gain
    return bicubic(guides, coarse) + torch.einsum("bg,ghw->bhw", G.to(guides.dtype), detail)


BASELINES: Final[Mapping[str, Method]] = MappingProxyType(
    {"bicubic": bicubic, "glp_cbd": glp_cbd, "glp_synthesised": glp_synthesised}
)
"""Untrained methods to put beside any other."""


def _errors(sharp: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    """Figures of merit of (6, n) against (6, n)."""
    mse = ((sharp - truth) ** 2).mean(axis=1)
    sre = 10.0 * np.log10(truth.mean(axis=1) ** 2 / np.maximum(mse, _SMALLEST_MSE))
    rmse = np.sqrt(mse)
    return {
        "sre_db": float(sre.mean()),
        "sam_deg": float(spectral_angle(sharp, truth).mean()),
        "rmse": float(np.sqrt(mse.mean())),
        "per_band": {
            name: {"sre_db": float(s), "rmse": float(e)} for name, s, e in zip(SHARPENED, sre, rmse, strict=True)
        },
    }


def judge_wald(scene: Scene, methods: Mapping[str, Method], mtf: float = RELATIVE_MTF) -> dict[str, dict[str, Any]]:
    """Sharpen a reduced image by several methods and compare each with the real 20 m bands.

    Args:
        scene: the image.
        methods: name -> callable of guides (4, h, w) and coarse bands (6, h / 2, w / 2), float32 reflectance with
            nan = nodata, that returns sharp bands (6, h, w), finite wherever the inputs are.
        mtf: modulation of the point-spread function at the coarse Nyquist frequency.

    Returns:
        Of each method, over the pixels where everything is valid, the same for all: ``sre_db``, the mean over bands of
        ``10 log10(mean(truth)^2 / MSE)`` (Lanaras et al. 2018); ``sam_deg``, the mean spectral angle over the six
        bands; ``rmse``, reflectance; ``per_band``, band name -> ``sre_db`` and ``rmse``.

    Raises:
        InvalidImage: if the image is too small or has no valid pixel, or a method returns another shape or anything
            that is not finite on a valid pixel.
    """
    guides, coarse, truth = reduce(scene, mtf)
    below = torch.isfinite(coarse).all(dim=0).repeat_interleave(RATIO, 0).repeat_interleave(RATIO, 1)
    keep = below & torch.isfinite(guides).all(dim=0) & torch.isfinite(truth).all(dim=0)
    if not bool(keep.any()):
        raise InvalidImage(f"{scene['name']}: no pixel is valid in all ten bands at 10 and 20 m")
    known = truth[:, keep].double().numpy()
    judged: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        with torch.inference_mode():
            sharp = method(guides.clone(), coarse.clone())
        if sharp.shape != truth.shape:
            found, expected = tuple(sharp.shape), tuple(truth.shape)
            raise InvalidImage(f"{name} returned the shape {found} for {scene['name']}, expected {expected}")
        values = sharp.cpu()[:, keep].double().numpy()
        if not np.isfinite(values).all():
            raise InvalidImage(f"{name} returned values that are not finite on valid pixels of {scene['name']}")
        judged[name] = _errors(values, known)
    return judged
