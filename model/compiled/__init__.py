"""The per-pixel mathematics as compiled code, for processors.

`spectra.c` does what `model.unfolding`, the last rounding of `model.solution`, the expansion to 172 channels and the
layers of `model.duality` do, several times faster: what lies between two matrix products never leaves the first cache.
The torch code stays the reference, runs on accelerators, and everywhere that this library was not built (it is an
optional part of the installation: a C compiler is all it takes). The two agree to single precision; which of them
made a number never depends on the window, the order or the number of threads.
"""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, Structure, c_float, c_int, c_long, c_short, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

VERSION: Final[int] = 3
"""Of what this file and `spectra.c` agree on; a library of another one is left aside."""

_INSTRUCTION_SETS: Final[dict[str, int]] = {"AVX2": 1, "AVX512": 1}
"""By the name that torch gives the processor's capability; any other runs what the compiler takes for granted."""


@lru_cache(maxsize=1)
def _load() -> ctypes.CDLL | None:
    spec = find_spec("model.compiled._spectra")
    if spec is None or spec.origin is None:
        logger.info("the compiled part of the model was not built; torch does its work, more slowly")
        return None
    try:
        library = ctypes.CDLL(spec.origin)
        found = int(library.spectra_version())
    except (OSError, AttributeError) as error:
        logger.warning("the compiled part of the model cannot be used (%s); torch does its work; install again", error)
        return None
    if found != VERSION:
        logger.warning(
            "the compiled part of the model is of version %d, this code is of %d; torch does its work; install again",
            found, VERSION,
        )  # fmt: skip
        return None
    return library


def keep_memory() -> None:
    """Let this process keep what a cell frees for the next one, where the library and the C library can.

    For processes that make products. Training leaves it alone: memory that is always fresh lies on a page's border, and
    numpy's sums, whose order depends on that, then repeat to the last bit.
    """
    library = _load()
    if library is not None and not library.spectra_keep_memory():
        logger.debug("freed memory cannot be kept here")


class Kernels:
    """The library and the instruction set to use of it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        capability = torch.backends.cpu.get_cpu_capability()
        self.instruction_set = min(_INSTRUCTION_SETS.get(capability, 0), library.spectra_widest())
        self._library = library

    def __call__(self, name: str, *arguments: object) -> None:
        """Run a function; the interpreter's lock is released meanwhile.

        Raises:
            MemoryError: if there is none for its scratch rows.
        """
        if getattr(self._library, name)(c_int(self.instruction_set), *arguments):
            raise MemoryError(f"{name}: no memory for one block of pixels")


@lru_cache(maxsize=8)
def kernels(device: torch.device) -> Kernels | None:
    """The compiled code for a device; ``None`` on an accelerator and where it was not built."""
    if device.type != "cpu":
        return None
    library = _load()
    return Kernels(library) if library is not None else None


class _Arguments(Structure):
    """A structure of the library that keeps the arrays which its pointers lead to."""

    def __init__(self, **values: float | NDArray[np.floating] | torch.Tensor) -> None:
        super().__init__()
        expected = {entry[0] for entry in self._fields_}
        if values.keys() != expected:
            raise TypeError(f"{type(self).__name__} takes {sorted(expected)}; found {sorted(values)}")
        self._kept = []
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, _address(value))
                self._kept.append(value)
            elif isinstance(value, np.ndarray):
                kind = np.int32 if value.dtype.kind == "i" else np.float32
                kept = torch.as_tensor(np.ascontiguousarray(value, dtype=kind))
                setattr(self, name, _address(kept))
                self._kept.append(kept)
            else:
                setattr(self, name, value)


def _fields(integers: str, floats: str, arrays: str) -> list[tuple[str, type]]:
    return [
        *((name, c_int) for name in integers.split()),
        *((name, c_float) for name in floats.split()),
        *((name, c_void_p) for name in arrays.split()),
    ]


def _address(tensor: torch.Tensor) -> int:
    """Where the numbers of a contiguous tensor begin.

    Raises:
        ValueError: if they are of another kind; the library would read something else.
    """
    if tensor.dtype not in {torch.float32, torch.int32} or not tensor.is_contiguous() or tensor.device.type != "cpu":
        layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
        raise ValueError(
            f"expected a contiguous float32 or int32 tensor on the processor; found {tensor.dtype}, {layout}, on "
            f"{tensor.device}"
        )
    return tensor.data_ptr()


def pointer(tensor: torch.Tensor) -> c_void_p:
    """Where the numbers of a contiguous float32 tensor begin, as an argument of the library."""
    return c_void_p(_address(tensor))


def banded(matrix: NDArray[np.float64]) -> BandedMatrix:
    """A banded matrix (rows, columns) with what lies outside of its bands left out."""
    used = matrix != 0
    first = np.where(used.any(axis=1), used.argmax(axis=1), 0)
    last = matrix.shape[1] - used[:, ::-1].argmax(axis=1)
    taps = int((last - first).max())
    first = np.minimum(first, matrix.shape[1] - taps)
    weights = np.take_along_axis(matrix, first[:, None] + np.arange(taps), axis=1)
    return BandedMatrix(rows=matrix.shape[0], columns=matrix.shape[1], taps=taps, first=first, weights=weights)


class UnfoldingMatrices(_Arguments):
    """``struct unfolding``: prior, networks and data steps of one platform."""

    _fields_ = _fields(
        "bands k classes hidden stages",
        "floor2 relaxation per_channel",
        "whitener log_normaliser class_width gain inner middle middle_bias outer outer_bias data_step passing",
    )


class UnfoldedPlanes(_Arguments):
    """``struct unfolded``: where the estimate of N pixels goes."""

    _fields_ = _fields("", "", "coefficients weights scale distance learned changes")


class FinishingMatrices(_Arguments):
    """``struct finishing``: the last correction, the steps of storage, the bands of coefficients."""

    _fields_ = _fields("bands k judged", "", "correction steps observation")


class BandedMatrix(_Arguments):
    """``struct banded``: a matrix of which each row holds a few numbers side by side."""

    _fields_ = _fields("rows columns taps", "", "first weights")


class GivingWayMatrices(_Arguments):
    """``struct giving_way``: what a correction of the bands shows in the bands."""

    _fields_ = _fields("bands fine", "", "response")


class ExpansionMatrices(_Arguments):
    """``struct expansion``: channels from stored coefficients."""

    _fields_ = _fields("channels k", "", "components steps")


class ExplainingMatrices(_Arguments):
    """``struct explaining``: what uncertainty and explanation are made with."""

    _fields_ = _fields(
        "bands k classes groups guides stages stages_run layers",
        "distance_limit",
        "group_gain within alpha2 beta20 beta60 measured attribution band_mean to_groups noise_absolute "
        "noise_relative per_step",
    )


class ExplainedPlanes(_Arguments):
    """``struct columns``: planes of a window that uncertainty and explanation are made from."""

    _fields_ = _fields(
        "", "", "bands simulated weights scale distance detail20 detail60 gains learned changes corrected"
    )


class CompiledFrame(Structure):
    """``struct frame``: the part of a window's planes that is kept."""

    _fields_: ClassVar = [
        ("plane", c_long), ("stride", c_long), ("left", c_int), ("top", c_int), ("width", c_int), ("height", c_int),
    ]  # fmt: skip


def integers_of(array: NDArray[np.int16]) -> object:
    """The library's view of an array that it fills: contiguous int16.

    Raises:
        ValueError: if it is another kind.
    """
    if array.dtype != np.int16 or not array.flags.c_contiguous:
        raise ValueError(f"expected a contiguous int16 array; found {array.dtype}")
    return array.ctypes.data_as(POINTER(c_short))
