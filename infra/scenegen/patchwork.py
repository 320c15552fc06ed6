"""Ground grown from real chips: turned, brightened and laid over each other with ragged borders, never one repeated.

The idea is that of image quilting (Efros and Freeman 2001, doi:10.1145/383259.383296): overlapping pieces of real
texture. Instead of a cut of least error, every piece has a random relief, and where pieces overlap the higher one
shows; so any window can be made by itself. Each piece has its own brightness and colour, and a smooth illumination runs
over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.scene import Window
from infra.scene.grid import ALIGNMENT
from infra.scenegen.fields import smooth_field, uniform
from infra.scenegen.ground import GroundPixels, area_mean
from model.bands import BANDS_BY_RESOLUTION, SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from infra.scenegen.chips import Chip

EDGE: Final = 120
"""Edge of a chip, 10 m pixels; a multiple of 60 m pixels."""

_STRIDE: Final = EDGE // 2
_ASIDE: Final = 18
"""A piece lies up to so many pixels beside its place, in steps of 60 m pixels; four neighbours still meet."""

_RELIEFS: Final = 64
_RELIEF_SPACING: Final = 9.0
_RELIEF_HEIGHT: Final = 1.5
_SHARPNESS: Final = 4
"""How clearly the higher piece wins; 1 would average all of them and wash the texture out."""

_BRIGHTNESS: Final = 0.08
"""Standard deviation of a piece's brightness, relative."""
_TINT: Final = 0.05
"""The same of its slope over the wavelengths."""
_ILLUMINATION: Final = ((300.0, 0.06), (1100.0, 0.08))
_KIND: Final = ((15.0, 1.0), (5.5, 0.5))
"""Landscapes change over kilometres, given in strides; single pieces differ from them by `_STRAY`."""
_STRAY: Final = 0.5

_STREAM_KIND, _STREAM_STRAY, _STREAM_TURN, _STREAM_RELIEF, _STREAM_RELIEF_TURN = 100, 300, 400, 401, 402
_STREAM_BRIGHT, _STREAM_TINT, _STREAM_RIGHT, _STREAM_DOWN, _STREAM_LIGHT, _STREAM_RELIEFS = 403, 404, 405, 406, 410, 500


@dataclass(frozen=True)
class _Piece:
    """One chip at its place."""

    column: int
    row: int
    chip: int
    turn: int
    """0-7: quarter turns, and a mirror from 4 on."""
    weight: NDArray[np.float32]
    """(EDGE, EDGE) how high it lies."""
    gain: NDArray[np.float32]
    """(12,) factors of its bands."""


class Patchwork:
    """Ground of real texture, without end."""

    noise_free = False

    def __init__(self, chips: Sequence[Chip], seed: int) -> None:
        """Prepare the pieces.

        Args:
            chips: At least one.
            seed: Everything follows from it.
        """
        self._seed = seed
        self._turned = [[_turn_chip(chip.pixels, turn) for turn in range(8)] for chip in chips]
        self._weights = [_weight(seed, number) for number in range(_RELIEFS)]
        wavelength = np.array([band.centre_nm for band in SOURCE_BANDS])
        self._slope = (wavelength - wavelength.mean()) / wavelength.std()
        order = [band.name for band in SOURCE_BANDS]
        self._rows = {metres: [order.index(name) for name in names] for metres, names in BANDS_BY_RESOLUTION.items()}

    def look(self, window: Window) -> GroundPixels:
        """Return what lies in a window aligned to 60 m."""
        pieces = list(self._pieces(window))
        total: NDArray[np.float32] = np.zeros((window.height, window.width), np.float32)
        for piece in pieces:
            inside, own = _overlap(piece, window, 1)
            total[inside] += piece.weight[own]
        light = smooth_field(self._seed, _STREAM_LIGHT, window, _ILLUMINATION)
        light = np.asarray(np.exp(light) / total, np.float32)
        out = {
            metres: np.zeros((len(rows), window.height // (metres // 10), window.width // (metres // 10)), np.float32)
            for metres, rows in self._rows.items()
        }
        for piece in pieces:
            inside, own = _overlap(piece, window, 1)
            share = piece.weight[own] * light[inside]
            for metres, rows in self._rows.items():
                step = metres // 10
                there, mine = _overlap(piece, window, step)
                part = self._turned[piece.chip][piece.turn][metres][:, mine[0], mine[1]]
                out[metres][:, there[0], there[1]] += part * piece.gain[rows, None, None] * area_mean(share, step)
        return GroundPixels(out[10], out[20], out[60])

    def _pieces(self, window: Window) -> Iterator[_Piece]:
        """Return every piece that reaches into a window, in one order whatever the window."""
        i = _lattice(window.column, window.width)
        j = _lattice(window.row, window.height)
        lattice = Window(int(i[0]), int(j[0]), len(i), len(j))

        def drawn(stream: int) -> NDArray[np.float64]:
            return uniform(self._seed, stream, i[None, :], j[:, None])  # (j, i)

        kind = self._kinds(lattice, drawn)
        turn, relief, relief_turn = drawn(_STREAM_TURN), drawn(_STREAM_RELIEF), drawn(_STREAM_RELIEF_TURN)
        bright, tint = 2 * drawn(_STREAM_BRIGHT) - 1, 2 * drawn(_STREAM_TINT) - 1
        log_gain = np.sqrt(3) * (_BRIGHTNESS * bright[..., None] + _TINT * tint[..., None] * self._slope)
        gain = np.exp(log_gain).astype(np.float32)  # (j, i, 12)
        column = i[None, :] * _STRIDE + _aside(drawn(_STREAM_RIGHT))
        row = j[:, None] * _STRIDE + _aside(drawn(_STREAM_DOWN))
        for at in np.argwhere(
            (column < window.column + window.width) & (column + EDGE > window.column)
            & (row < window.row + window.height) & (row + EDGE > window.row)
        ):  # fmt: skip
            y, x = (int(number) for number in at)
            weight = _turn(self._weights[int(relief[y, x] * _RELIEFS)], int(relief_turn[y, x] * 8))
            place = int(column[y, x]), int(row[y, x])
            yield _Piece(*place, int(kind[y, x]), int(turn[y, x] * 8), weight, gain[y, x])

    def _kinds(self, lattice: Window, drawn: Callable[[int], NDArray[np.float64]]) -> NDArray[np.int64]:
        """Choose each piece's chip: the one whose own landscape is highest there, give or take."""
        scores = [
            smooth_field(self._seed, _STREAM_KIND + 2 * chip, lattice, _KIND) + _STRAY * drawn(_STREAM_STRAY + chip)
            for chip in range(len(self._turned))
        ]
        highest: NDArray[np.int64] = np.argmax(scores, axis=0)
        return highest


def _lattice(start: int, length: int) -> NDArray[np.int64]:
    """Return the numbers of the pieces that may reach into a stretch of pixels."""
    return np.arange((start - EDGE - _ASIDE) // _STRIDE + 1, (start + length + _ASIDE - 1) // _STRIDE + 1)


def _aside(drawn: NDArray[np.float64]) -> NDArray[np.int64]:
    """Turn numbers in 0-1 into distances from a piece's place, pixels."""
    steps = _ASIDE // ALIGNMENT
    distance: NDArray[np.int64] = (np.floor(drawn * (2 * steps + 1)).astype(np.int64) - steps) * ALIGNMENT
    return distance


def _overlap(piece: _Piece, window: Window, step: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part that a piece and a window share: in the window's pixels, and in the piece's."""
    top, left = max(piece.row, window.row), max(piece.column, window.column)
    bottom = min(piece.row + EDGE, window.row + window.height)
    right = min(piece.column + EDGE, window.column + window.width)

    def part(row: int, column: int) -> tuple[slice, slice]:
        rows = slice((top - row) // step, (bottom - row) // step)
        return rows, slice((left - column) // step, (right - column) // step)

    return part(window.row, window.column), part(piece.row, piece.column)


def _turn_chip(chip: GroundPixels, turn: int) -> dict[int, NDArray[np.float32]]:
    return {10: _turn(chip.b10, turn), 20: _turn(chip.b20, turn), 60: _turn(chip.b60, turn)}


def _turn(array: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """Turn the last two axes: 0-3 quarter turns, and mirrored from 4 on."""
    turned = np.rot90(array, turn % 4, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if turn >= 4 else turned)


def _weight(seed: int, number: int) -> NDArray[np.float32]:
    """Return how high a piece lies: nothing at its edge, most in its middle, rough between."""
    ramp = np.sin(np.pi * (np.arange(EDGE) + 0.5) / EDGE) ** 2
    place = Window(number * EDGE, 0, EDGE, EDGE)
    relief = smooth_field(seed, _STREAM_RELIEFS, place, [(_RELIEF_SPACING, _RELIEF_HEIGHT / 2), (2.5, 0.3)])
    weight: NDArray[np.float32] = ((ramp[:, None] * ramp) * np.exp(relief)).astype(np.float32) ** _SHARPNESS
    return weight
