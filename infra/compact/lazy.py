"""A product as an array that reads only what is indexed, for numpy and, where it is installed, for xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from infra.compact.product import CompactProduct, Dtype


class LazyCube:
    """Values (channels, height, width) of a product.

    Each axis takes a number, a slice or a list of numbers; lists on several axes select their crossings, as with
    `numpy.ix_`. Memory is what the result takes and one piece of bounded size.
    """

    ndim = 3

    def __init__(self, product: CompactProduct, dtype: Dtype) -> None:
        """Wrap an open product; nothing is read."""
        self._product, self._kind = product, dtype
        self.shape = product.shape
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"LazyCube(shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part.

        Raises:
            IndexError: an index lies beyond its axis, or there are too many.
        """
        keys = _three(key)
        chosen = [_selected(one, size, axis) for axis, (one, size) in enumerate(zip(keys, self.shape, strict=True))]
        values = self._crossings(*chosen)
        numbers = tuple(0 if isinstance(one, int | np.integer) else slice(None) for one in keys)
        return values[numbers]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything, as `numpy.asarray` asks."""
        if copy is False:
            raise ValueError("a lazy array cannot be had without reading it; leave copy out")
        return np.asarray(self[:], dtype)

    def _crossings(
        self, channels: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[Any]:
        out = np.empty((channels.size, rows.size, columns.size), self.dtype)
        if not out.size:
            return out
        top, left = int(rows.min()), int(columns.min())
        window = (left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        wanted = channels.tolist()
        for part in self._product.parts(window, wanted):
            r = np.flatnonzero((rows >= part.row) & (rows < part.row + part.height))
            c = np.flatnonzero((columns >= part.column) & (columns < part.column + part.width))
            if r.size and c.size:
                piece = self._product.piece(part, wanted, self._kind)
                out[:, r[:, None], c] = piece[:, (rows[r] - part.row)[:, None], columns[c] - part.column]
        return out


def _three(key: Any) -> tuple[Any, Any, Any]:
    """Fill an index up to three axes; an ellipsis stands for what is left out."""
    keys = list(key) if isinstance(key, tuple) else [key]
    gaps = [position for position, one in enumerate(keys) if one is Ellipsis]
    if len(gaps) > 1 or len(keys) - len(gaps) > 3:
        raise IndexError(f"index has {len(keys)} parts; the array has 3 axes")
    at = gaps[0] if gaps else len(keys)
    rest = keys[at + 1 :] if gaps else []
    filled = keys[:at] + [slice(None)] * (3 - at - len(rest)) + rest
    return filled[0], filled[1], filled[2]


def _selected(key: Any, size: int, axis: int) -> NDArray[np.int64]:
    """Return the indices that one part of an index selects."""
    if isinstance(key, slice):
        return np.arange(size, dtype=np.int64)[key]
    chosen = np.atleast_1d(np.asarray(key))
    if chosen.dtype == np.bool_ and chosen.shape == (size,):
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise IndexError(f"axis {axis} is indexed by {key!r}; expected a number, a slice or a list of numbers")
    chosen = chosen.astype(np.int64)
    beyond = (chosen < -size) | (chosen >= size)
    if beyond.any():
        raise IndexError(f"index {int(chosen[beyond][0])} lies beyond axis {axis}, which has {size}")
    return np.where(chosen < 0, chosen + size, chosen)


def lazy_xarray(product: CompactProduct, dtype: Dtype) -> Any:
    """Wrap a product for xarray.

    Args:
        product: An open product; it must stay open while values are read.
        dtype: As of `CompactProduct.read`.

    Returns:
        A `DataArray` (wavelength, y, x) with pixel centres in the product's CRS; nothing is read. Channels are in order
        of wavelength, so that ``sel(wavelength=850, method="nearest")`` works; the product's own order, which detector
        overlaps break, is the coordinate ``band``, counted from one.

    Raises:
        ModuleNotFoundError: xarray is not installed.
    """
    import xarray
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Values(BackendArray):
        def __init__(self, cube: LazyCube, order: NDArray[np.intp]) -> None:
            self._cube, self._order = cube, order
            self.shape, self.dtype = cube.shape, cube.dtype

        def __getitem__(self, key: Any) -> Any:
            support = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, self.shape, support, self._ordered)

        def _ordered(self, key: tuple[Any, ...]) -> NDArray[Any]:
            return self._cube[(self._order[key[0]], *key[1:])]

    basis, info = product.basis, product.info
    a, _b, left, _d, e, top = info.transform
    order = np.argsort(basis.centre_nm, kind="stable")
    attributes: dict[str, Any] = {"crs": info.crs, "transform": list(info.transform), **info.tags}
    if dtype == "float32":
        attributes |= {"long_name": "surface reflectance", "units": "1"}
    else:
        attributes |= {"long_name": "surface reflectance x 10 000", "scale_factor": 1e-4, "_FillValue": -32768}
    return xarray.DataArray(
        indexing.LazilyIndexedArray(Values(product.lazy(dtype), order)),
        dims=("wavelength", "y", "x"),
        coords={
            "wavelength": ("wavelength", basis.centre_nm[order], {"units": "nm"}),
            "fwhm": ("wavelength", basis.fwhm_nm[order], {"units": "nm"}),
            "band": ("wavelength", order + 1),
            "y": top + e * (np.arange(info.height) + 0.5),
            "x": left + a * (np.arange(info.width) + 0.5),
        },
        name="reflectance",
        attrs=attributes,
    )
