"""Reading products from their compact file, against float64 and numpy's own indexing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from infra.compact import BasisMismatch, CompactProduct, OutsideProduct, ProductMissing, ProductUnreadable, ReadingError
from tests.unit.infra.compact_factory import LEFT, TOP, make_product, write_cog

WIDTH, HEIGHT = 130, 150


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_product(tmp_path_factory.mktemp("product"), WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def product(made):
    with CompactProduct.open(made.folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(product):
    return product.read(dtype="int16")


def test_a_spectrum_and_its_sigma_are_those_of_the_coefficients(made, product):
    np.testing.assert_allclose(product.spectrum(101, 77), made.reflectance[:, 101, 77], atol=1e-6)
    np.testing.assert_allclose(product.sigma(101, 77), made.sigma[:, 101, 77], rtol=1e-5)
    assert np.isnan(product.spectrum(3, 4)).all()
    assert np.isnan(product.sigma(3, 4)).all()


def test_integers_are_those_of_the_172_band_file(made, product):
    found = product.read(dtype="int16")
    difference = np.abs(found.astype(int) - made.integers)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert (found[:, :20, :30] == -32768).all()


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_window_is_that_part_of_the_whole(made, product, data):
    column, row = data.draw(st.integers(0, WIDTH - 1)), data.draw(st.integers(0, HEIGHT - 1))
    width, height = data.draw(st.integers(1, WIDTH - column)), data.draw(st.integers(1, HEIGHT - row))
    channels = data.draw(st.lists(st.integers(0, 171), min_size=1, max_size=4))
    part = np.s_[channels, row : row + height, column : column + width]
    window = (column, row, width, height)
    np.testing.assert_allclose(product.read(window, channels), made.reflectance[part], atol=2e-6)
    np.testing.assert_allclose(product.read_sigma(window, channels), made.sigma[part], rtol=1e-5)


def test_places_are_found_in_the_products_and_in_any_other_crs(made, product):
    rows, columns = np.array([0, 33, 149, 120]), np.array([129, 0, 12, 120])
    x, y = LEFT + 10 * columns + 3.0, TOP - 10 * rows - 9.9
    np.testing.assert_allclose(product.spectra(np.c_[x, y]), made.reflectance[:, rows, columns], atol=1e-6)
    degrees = np.c_[Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)]
    np.testing.assert_allclose(product.spectra(degrees, "EPSG:4326"), made.reflectance[:, rows, columns], atol=1e-6)
    np.testing.assert_allclose(product.sigmas(degrees, "EPSG:4326"), made.sigma[:, rows, columns], rtol=1e-5)


@pytest.mark.parametrize(
    "point", [(LEFT - 0.1, TOP - 5), (LEFT + 10 * WIDTH, TOP - 5), (LEFT + 5, TOP + 0.1), (np.nan, TOP), (np.inf, TOP)]
)
def test_a_place_beside_the_product_is_refused(product, point):
    with pytest.raises(OutsideProduct, match="point 1 does not lie on the product"):
        product.spectra([(LEFT + 5, TOP - 5), point])


def test_a_crs_that_is_none_is_refused_by_name(product):
    with pytest.raises(ReadingError, match="EPSG:9"):
        product.spectra([(1, 2)], "EPSG:999999")


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, 0, 131, 5), (0, 149, 1, 2), (3, 3, 0, 4)])
def test_a_window_beyond_the_product_is_refused(product, window):
    with pytest.raises(OutsideProduct, match="expected a part of 130 x 150"):
        product.read(window, [0])


@pytest.mark.parametrize("place", [(-1, 0), (0, 130), (150, 0)])
def test_a_pixel_beyond_the_product_is_refused(product, place):
    with pytest.raises(OutsideProduct, match="lies outside"):
        product.spectrum(*place)


def test_a_channel_that_does_not_exist_is_refused(product):
    with pytest.raises(OutsideProduct, match="channel 172"):
        product.read((0, 0, 1, 1), [0, 172])


def test_threads_share_a_product(made, product):
    places = [(row, column) for row in range(25, 140, 31) for column in range(35, 120, 23)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: product.spectrum(*place), places * 3))
    for (row, column), spectrum in zip(places * 3, found, strict=True):
        np.testing.assert_allclose(spectrum, made.reflectance[:, row, column], atol=1e-6)


AXIS = {size: st.one_of(
    st.integers(-size, size - 1),
    st.slices(size),
    st.lists(st.integers(-size, size - 1), max_size=4),
) for size in (172, HEIGHT, WIDTH)}  # fmt: skip


@given(keys=st.tuples(*AXIS.values()), parts=st.integers(1, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_lazy_array_indexes_as_numpy_does(product, whole, keys, parts):
    """Axis by axis, which is numpy's meaning as long as only one list stands in the index, and `ix_` otherwise."""
    expected, removed = whole, 0
    for axis, key in enumerate(keys[:parts]):
        expected = expected[(slice(None),) * (axis - removed) + (np.array(key, int) if isinstance(key, list) else key,)]
        removed += isinstance(key, int)
    np.testing.assert_array_equal(product.lazy("int16")[keys[:parts]], expected)


def test_the_lazy_array_says_what_it_is(product, whole):
    cube = product.lazy()
    assert (cube.shape, cube.ndim, cube.dtype, len(cube)) == ((172, HEIGHT, WIDTH), 3, np.float32, 172)
    np.testing.assert_array_equal(cube[..., 5], cube[:, :, 5])
    np.testing.assert_array_equal(cube[3, ...], cube[3])
    mask = np.zeros(172, bool)
    mask[[4, 9]] = True
    np.testing.assert_array_equal(cube[mask, 50, 60], cube[[4, 9], 50, 60])
    np.testing.assert_array_equal(np.asarray(product.lazy("int16")), whole)


@pytest.mark.parametrize("key", [172, (0, 150), (0, 0, 0, 0), ([0.5],), (0, [[1, 2]]), (Ellipsis, Ellipsis)])
def test_an_impossible_index_is_an_index_error(product, key):
    with pytest.raises(IndexError):
        product.lazy()[key]


def test_xarray_reads_lazily_and_finds_wavelengths(made, product):
    array = product.to_xarray()
    assert array.dims == ("wavelength", "y", "x")
    near = array.sel(wavelength=850, method="nearest")
    assert abs(float(near.wavelength) - 850) < 6
    spectrum = array.sel(x=LEFT + 1234.0, y=TOP - 777.0, method="nearest")
    order = array.band.values - 1
    np.testing.assert_array_equal(np.diff(array.wavelength) > 0, True)
    np.testing.assert_allclose(spectrum.values, made.reflectance[order, 77, 123], atol=1e-6)
    part = array.isel(wavelength=[3, 90], y=slice(140, 100, -7), x=slice(5, 60, 11))
    np.testing.assert_allclose(part.values, made.reflectance[order[[3, 90]], 140:100:-7, 5:60:11], atol=1e-6)
    assert array.attrs["crs"] == "EPSG:32633"
    assert product.to_xarray("int16").dtype == np.int16


def edited(made, folder, **changes):
    """Copy a product with another basis."""
    folder.mkdir(exist_ok=True)
    for name in ("compact.tif", "uncertainty.tif"):
        (folder / name).write_bytes((made.folder / name).read_bytes())
    basis = json.loads((made.folder / "basis.json").read_text()) | changes
    (folder / "basis.json").write_text(json.dumps({key: value for key, value in basis.items() if value is not None}))
    return folder


@pytest.mark.parametrize(("changes", "told"), [
    ({"components": None}, "no basis"),
    ({"mean": [1, 2]}, "components is"),
    ({"mean": ["x"] * 172}, "no basis"),
    ({"scales": [1e-4] * 6}, "not of one product"),
    ({"scales": [1e-4] * 5}, "components is"),
    ({"sigma_profile": [1.0]}, "sigma_profile is"),
    ({"sigma_bands": [0] * 172}, "bands from 1"),
    ({"mean": [float("nan")] * 172}, "finite"),
])  # fmt: skip
def test_a_basis_that_does_not_fit_is_refused(made, tmp_path, changes, told):
    with pytest.raises(BasisMismatch, match=told):
        CompactProduct.open(edited(made, tmp_path, **changes))


def test_an_early_product_has_spectra_but_no_sigma(made, tmp_path):
    with CompactProduct.open(edited(made, tmp_path, sigma_profile=None, sigma_bands=None)) as early:
        assert np.isfinite(early.spectrum(100, 100)).all()
        with pytest.raises(BasisMismatch, match="earlier version"):
            early.sigma(100, 100)


def test_uncertainty_of_another_product_is_refused(made, tmp_path):
    edited(made, tmp_path)
    (tmp_path / "uncertainty.tif").unlink()
    write_cog(tmp_path, "uncertainty.tif", np.zeros((9, 40, 40), np.int16), _bands(9), 96)
    with CompactProduct.open(tmp_path) as product, pytest.raises(BasisMismatch, match="not of one product"):
        product.sigma(10, 10)


def _bands(number):
    from infra.cog import CogBand

    return tuple(CogBand(str(n)) for n in range(number))


def test_what_is_missing_or_broken_is_named(made, tmp_path):
    with pytest.raises(ProductMissing, match=r"compact\.tif"):
        CompactProduct.open(tmp_path)
    edited(made, tmp_path)
    (tmp_path / "basis.json").unlink()
    with pytest.raises(ProductMissing, match=r"basis\.json"):
        CompactProduct.open(tmp_path)
    (tmp_path / "basis.json").write_text("[]")
    with pytest.raises(BasisMismatch, match="no basis"):
        CompactProduct.open(tmp_path)
    content = (tmp_path / "compact.tif").read_bytes()
    (tmp_path / "compact.tif").write_bytes(b"not a tiff" * 100)
    with pytest.raises(ProductUnreadable, match="cannot be opened"):
        CompactProduct.open(tmp_path)
    (tmp_path / "compact.tif").write_bytes(content[: len(content) // 2])
    (tmp_path / "basis.json").write_bytes((made.folder / "basis.json").read_bytes())
    with CompactProduct.open(tmp_path) as cut, pytest.raises(ProductUnreadable, match="truncated or corrupt"):
        cut.read()


@pytest.mark.parametrize("address", ["ftp://host/x.tif", "s3://", "https://user:secret@host/a.tif"])
def test_addresses_of_other_kinds_are_refused_without_their_secrets(address):
    with pytest.raises(ReadingError) as refused:
        CompactProduct.open(address)
    assert "secret" not in str(refused.value)
