"""Files of bands made from coefficients, and ENVI's: opened again by GDAL and compared."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from infra.compact import CompactProduct, OutsideProduct, Window
from infra.compact.expansion import expand_to_cog, parse_channels
from infra.compact.export import SpectraReader, export_envi
from infra.envi import EnviFileExists
from infra.storage import FileStore, ObjectExists
from model.bands import CENTRE_NM, CHANNELS, FWHM_NM
from tests.unit.infra.compact_factory import LEFT, TOP, make_product


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_product(tmp_path_factory.mktemp("product"), hsi=True)


@pytest.fixture
def product(made):
    with CompactProduct.open(made.folder) as opened:
        yield opened


def test_the_expanded_file_is_a_valid_cog_with_the_values_and_wavelengths_of_the_172_bands(made, product, tmp_path):
    seen = []
    written = expand_to_cog(
        product,
        FileStore(tmp_path),
        "hsi.tif",
        channels=range(172),
        window=Window(0, 0, 130, 150),
        progress=seen.append,
    )
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert written.size == (tmp_path / "hsi.tif").stat().st_size
    valid, errors, warnings = cog_validate(tmp_path / "hsi.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "hsi.tif") as new, rasterio.open(made.folder / "hsi.tif") as old:
        difference = np.abs(new.read().astype(int) - old.read())
        assert difference.max() <= 1
        assert np.percentile(difference, 99.9) <= 1
        assert (new.crs, new.transform, new.nodata, new.block_shapes) == (
            old.crs,
            old.transform,
            -32768,
            old.block_shapes,
        )
        assert new.descriptions == tuple(channel.description for channel in CHANNELS)
        assert [new.tags(b, ns="IMAGERY") for b in new.indexes] == [old.tags(b, ns="IMAGERY") for b in old.indexes]
        assert set(new.scales) == {1e-4}
        assert new.tags()["ITEM"] == "an-item"


@pytest.mark.parametrize("window", [Window(48, 96, 60, 54), Window(7, 5, 100, 3), Window(129, 149, 1, 1)])
def test_a_part_lies_where_it_belongs(product, tmp_path, window):
    expand_to_cog(product, FileStore(tmp_path), "part.tif", channels=[120, 7], window=window)
    with rasterio.open(tmp_path / "part.tif") as file:
        np.testing.assert_array_equal(file.read(), product.read(window, [120, 7], "int16"))
        assert (file.transform.c, file.transform.f) == (LEFT + 10 * window.column, TOP - 10 * window.row)
        assert float(file.tags(1, ns="IMAGERY")["CENTRAL_WAVELENGTH_UM"]) == pytest.approx(CENTRE_NM[120] / 1000)


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(product, tmp_path):
    store, part = FileStore(tmp_path), Window(0, 0, 10, 10)
    expand_to_cog(product, store, "a.tif", channels=[0], window=part)
    with pytest.raises(ObjectExists):
        expand_to_cog(product, store, "a.tif", channels=[0], window=part)

    def stop(_fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand_to_cog(product, store, "b.tif", channels=[0], window=part, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(("text", "expected"), [
    ("", list(range(172))),
    ("600nm", [int(np.abs(CENTRE_NM - 600).argmin())]),
    ("655.3 nm, 1650nm", [int(np.abs(CENTRE_NM - 655.3).argmin()), int(np.abs(CENTRE_NM - 1650).argmin())]),
    ("1,172", [0, 171]),
    ("3-6,h007", [2, 3, 4, 5, 6]),
])  # fmt: skip
def test_bands_are_chosen_by_wavelength_number_and_range(text, expected):
    assert parse_channels(text, CENTRE_NM) == expected


@pytest.mark.parametrize("text", ["0", "173", "5-2", "1850nm", "3000nm", "red", "1;2", "-4", "1-", "nm"])
def test_a_band_that_does_not_exist_is_refused(text):
    with pytest.raises(OutsideProduct, match=r"band|lies in no channel"):
        parse_channels(text, CENTRE_NM)


@given(st.lists(st.integers(1, 172), min_size=1))
@settings(max_examples=50)
def test_numbers_are_kept_in_their_order(numbers):
    assert parse_channels(",".join(map(str, numbers)), CENTRE_NM) == [number - 1 for number in numbers]


@pytest.mark.parametrize("name", ["hsi.tif", "compact.tif", ""])
def test_envi_is_opened_by_gdal_with_the_same_pixels_place_and_wavelengths(made, tmp_path, name):
    with SpectraReader(made.folder / name if name else made.folder) as reader:
        pixels, header = export_envi(
            reader.file, tmp_path / "scene.hdr", channels=range(172), window=Window(0, 0, 130, 150)
        )
    with rasterio.open(pixels) as new, rasterio.open(made.folder / "hsi.tif") as old:
        assert new.driver == "ENVI"
        assert np.abs(new.read().astype(int) - old.read()).max() <= (0 if name == "hsi.tif" else 1)
        assert new.transform == old.transform
        assert new.crs.to_epsg() == 32633
        assert new.nodata == -32768
        found = [float(new.tags(b)["wavelength"]) for b in new.indexes]
        np.testing.assert_allclose(found, CENTRE_NM, atol=1e-3)
        widths = [float(new.tags(b, ns="IMAGERY")["FWHM_UM"]) for b in new.indexes]
        np.testing.assert_allclose(widths, FWHM_NM / 1000, atol=5.1e-4)  # GDAL itself keeps three digits of them
    fields = dict(line.split(" = ", 1) for line in header.read_text().splitlines()[1:])
    np.testing.assert_allclose(np.fromstring(fields["fwhm"][1:-1], sep=","), FWHM_NM, atol=1e-4)
    assert fields["bbl"] == "{" + ", ".join(["1"] * 172) + "}"
    assert fields["interleave"] == "bip"
    assert len(fields["band names"].split(", ")) == 172


def test_a_part_as_envi_lies_where_it_belongs(made, tmp_path):
    window = Window(31, 50, 64, 70)
    with SpectraReader(made.folder / "hsi.tif") as reader:
        pixels, _header = export_envi(reader.file, tmp_path / "part.hdr", channels=[5, 90], window=window)
    with rasterio.open(pixels) as file:
        np.testing.assert_array_equal(file.read(), made.integers[[5, 90], 50:120, 31:95])
        assert (file.transform.c, file.transform.f) == (LEFT + 310, TOP - 500)


def test_envi_overwrites_nothing_and_leaves_nothing_behind(made, tmp_path):
    def stop(_fraction):
        raise KeyboardInterrupt

    with SpectraReader(made.folder / "hsi.tif") as reader:
        part = {"channels": [0], "window": Window(0, 0, 20, 20)}
        with pytest.raises(KeyboardInterrupt):
            export_envi(reader.file, tmp_path / "a.hdr", progress=stop, **part)
        assert list(tmp_path.iterdir()) == []
        export_envi(reader.file, tmp_path / "a.hdr", **part)
        with pytest.raises(EnviFileExists, match=r"a\.hdr"):
            export_envi(reader.file, tmp_path / "a.hdr", **part)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdr", "a.img"]
