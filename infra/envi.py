"""Spectra as ENVI writes them: raw pixels and a text header, for software that knows nothing newer.

Pixels lie band-interleaved by pixel (BIP): a pixel's spectrum is one stretch of the file, and a piece of the image is
written in few long stretches wherever it lies, so memory stays bounded. Fields: ENVI header format (NV5 Geospatial).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import pyproj

from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NORTH: Final = range(32601, 32661)
_SOUTH: Final = range(32701, 32761)


class EnviFileExists(FileExistsError):
    """A file of that name is there already."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class EnviImage:
    """What the header tells."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    crs: str
    """Such as ``EPSG:32633``."""
    transform: tuple[float, ...]
    """Pixel to CRS, (a, b, c, d, e, f), north up."""
    centre_nm: Sequence[float]
    """Centre wavelength of every band, nm."""
    fwhm_nm: Sequence[float]
    """Full width at half maximum of every band, nm."""
    names: Sequence[str]
    good: Sequence[int]
    """ENVI's bad band list: 1 good, 0 bad."""
    description: str


def envi_header(image: EnviImage) -> str:
    """Write the header of int16 reflectance x 10 000."""
    lines = [
        "ENVI",
        f"description = {{{_plain(image.description, allowed=',')}}}",
        f"samples = {image.width}",
        f"lines = {image.height}",
        f"bands = {len(image.names)}",
        "header offset = 0",
        "file type = ENVI Standard",
        "data type = 2",
        "interleave = bip",
        "byte order = 0",
        f"data ignore value = {NODATA}",
        "reflectance scale factor = 10000",
        *_place(image),
        "wavelength units = Nanometers",
        _list("wavelength", (f"{value:.4f}" for value in image.centre_nm)),
        _list("fwhm", (f"{value:.4f}" for value in image.fwhm_nm)),
        _list("bbl", map(str, image.good)),
        _list("band names", map(_plain, image.names)),
    ]
    return "\n".join(lines) + "\n"


def write_envi(
    image: EnviImage,
    pieces: Iterator[tuple[tuple[int, int, int, int], NDArray[np.int16]]],
    target: Path,
    progress: Callable[[float], object] = lambda _fraction: None,
) -> tuple[Path, Path]:
    """Write pixels and header; they appear when whole, the header last.

    Args:
        image: What the header tells.
        pieces: (column, row, width, height) and (bands, height, width) stored values; together they tile the image.
        target: The header's path; the pixels lie beside it with the suffix ``.img``.
        progress: Told the fraction written, 0-1.

    Returns:
        The paths of pixels and header.

    Raises:
        EnviFileExists: one of the two is there already.
        ValueError: the pieces do not fill the image.
    """
    header, pixels = target.with_suffix(".hdr"), target.with_suffix(".img")
    for path in (header, pixels):
        if path.exists():
            raise EnviFileExists(f"{path} exists already; choose another name")
    header.parent.mkdir(parents=True, exist_ok=True)
    partial = pixels.with_name(f".{pixels.name}.{secrets.token_hex(4)}")
    try:
        _write_pixels(image, pieces, partial, progress)
        os.link(partial, pixels)
    except FileExistsError as error:
        raise EnviFileExists(f"{pixels} appeared meanwhile; choose another name") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    with header.open("x", encoding="utf-8") as file:
        file.write(envi_header(image))
    return pixels, header


def _write_pixels(
    image: EnviImage,
    pieces: Iterator[tuple[tuple[int, int, int, int], NDArray[np.int16]]],
    path: Path,
    progress: Callable[[float], object],
) -> None:
    pixel, total, done = 2 * len(image.names), image.width * image.height, 0
    with path.open("xb") as file:
        for (column, row, width, height), values in pieces:
            spectra = np.ascontiguousarray(
                values.transpose(1, 2, 0).astype("<i2", copy=False)
            )  # (height, width, bands)
            for offset, line in enumerate(spectra):
                file.seek(((row + offset) * image.width + column) * pixel)
                file.write(line.data)
            done += width * height
            progress(done / total)
    if done != total:
        raise ValueError(f"{done} of {total} pixels were given; the image would have holes")


def _place(image: EnviImage) -> Iterator[str]:
    a, _b, left, _d, e, top = image.transform
    code = int(image.crs.rpartition(":")[2])
    for zones, side in ((_NORTH, "North"), (_SOUTH, "South")):
        if code in zones:
            zone = zones.index(code) + 1
            yield f"map info = {{UTM, 1, 1, {left!r}, {top!r}, {a!r}, {-e!r}, {zone}, {side}, WGS-84, units=Meters}}"
    yield f"coordinate system string = {{{pyproj.CRS.from_user_input(image.crs).to_wkt('WKT1_ESRI')}}}"


def _list(name: str, values: Iterator[str]) -> str:
    return f"{name} = {{{', '.join(values)}}}"


def _plain(text: str, allowed: str = "") -> str:
    """Leave out what the header's braces and lists would trip over."""
    return "".join(" " if sign in "{},\n\r" and sign not in allowed else sign for sign in text)
