"""The preview as a whole: windows in, thumbnail and page out."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from infra.preview import PreviewCollector, PreviewHeader, visual_rgb
from infra.preview.sample import PixelSample
from infra.preview.spectra import (
    INTERVAL_SIGMAS,
    WATER_VAPOUR_NM,
    Reliability,
    draw_sigma,
    draw_spectrum,
    unbroken_runs,
)
from infra.preview.typical import TypicalPixel
from model.bands import CENTRE_NM, SOURCE_BANDS
from model.layers import NODATA

HEADER = PreviewHeader("29UPU  2017-06-17  Ireland", ("model 1.0.0, grade B", "re-simulation RMSE 0.004"))
MEASURED = np.linspace(0, 1, 172, dtype=np.float32)


def sigma(uncertainty: np.ndarray) -> np.ndarray:
    """Calibrated 1-sigma of a model made for the tests: one stored layer, a shape over wavelength."""
    return ((0.5 + CENTRE_NM / 2400)[:, None] * uncertainty[0] * 1e-5).astype(np.float32)


def leaf(scale: float = 1.0) -> np.ndarray:
    """A crude leaf: (172,) reflectance."""
    return scale * np.where(
        CENTRE_NM < 700, 0.05, np.where(CENTRE_NM < 1350, 0.45, np.where(CENTRE_NM < 1900, 0.25, 0.1))
    )


def source_of(hsi: np.ndarray) -> np.ndarray:
    nearest = [int(np.argmin(np.abs(CENTRE_NM - band.centre_nm))) for band in SOURCE_BANDS]
    source = hsi[nearest].astype(np.float32) * np.float32(1e-4)
    source[:, hsi[0] == NODATA] = np.nan
    return source


def product(width: int, height: int, seed: int = 0, spectrum: np.ndarray | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    spectrum = leaf() if spectrum is None else spectrum
    hsi = np.rint(1e4 * spectrum[:, None, None] * (0.5 + rng.random((height, width)))).astype(np.int16)
    return {
        "hsi": hsi,
        "source": source_of(hsi),
        "residual_rms": (0.01 * rng.random((height, width))).astype(np.float32),
        "qa": rng.choice(np.array([0, 64, 128, 256], np.uint16), (height, width)),
        "uncertainty": rng.integers(100, 900, (1, height, width)).astype(np.int16),
    }


def without_data(layers: dict[str, np.ndarray], where: np.ndarray) -> dict[str, np.ndarray]:
    layers["hsi"][:, where] = NODATA
    layers["source"][:, where] = np.nan
    layers["residual_rms"][where] = np.nan
    layers["qa"][where] = 1
    return layers


def windows(width: int, height: int, edge: int) -> list[tuple[int, int]]:
    return [(column, row) for row in range(0, height, edge) for column in range(0, width, edge)]


def collect(layers: dict[str, np.ndarray], order: list[tuple[int, int]], edge: int) -> PreviewCollector:
    height, width = layers["qa"].shape
    collector = PreviewCollector(width, height)
    for column, row in order:
        window = {name: layer[..., row : row + edge, column : column + edge] for name, layer in layers.items()}
        collector.add(column, row, **window, channel_sigma=sigma, measured_fraction=MEASURED)
    return collector


def whole(layers: dict[str, np.ndarray]) -> PreviewCollector:
    return collect(layers, [(0, 0)], max(layers["qa"].shape))


def decode(png: bytes) -> np.ndarray:
    with warnings.catch_warnings(), MemoryFile(png) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open() as picture:
            return picture.read()


def size(png: bytes) -> tuple[int, int]:
    bands, height, width = decode(png).shape
    assert bands == 4
    return width, height


def test_page_and_thumbnail_do_not_depend_on_the_order_of_the_windows():
    layers = product(150, 100)
    order = windows(150, 100, 48)
    first = collect(layers, order, 48)
    np.random.default_rng(5).shuffle(order)
    second = collect(layers, order, 48)
    assert first.page(HEADER) == second.page(HEADER)
    assert first.thumbnail() == second.thumbnail()


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param(product(120, 120), id="patch"),
        pytest.param(product(600, 12), id="wide"),
        pytest.param(product(12, 600), id="tall"),
        pytest.param(product(1, 1), id="one pixel"),
        pytest.param(product(60, 60, spectrum=np.full(172, 0.9)), id="snow"),
        pytest.param(product(60, 60, spectrum=np.full(172, -0.002)), id="negative"),
    ],
)
def test_any_scene_gives_a_legible_page(layers):
    width, height = size(whole(layers).page(HEADER))
    assert width >= 1500
    assert 1000 < height < 3000


@pytest.mark.parametrize("valid_pixels", [0, 1])
def test_a_scene_with_next_to_nothing_valid_is_still_shown(valid_pixels):
    empty = np.ones((30, 30), bool)
    empty.flat[:valid_pixels] = False
    collector = whole(without_data(product(30, 30), empty))
    assert size(collector.page(HEADER))[0] >= 1500
    assert (decode(collector.thumbnail())[3] > 0).any() == bool(valid_pixels)
    assert (collector.spectrum() is not None) == bool(valid_pixels)


def test_a_typical_spectrum_alone_is_small_enough_for_a_runs_page():
    picture = whole(product(120, 120)).spectrum()
    assert size(picture) == (560, 240)
    assert len(picture) < 40_000


def test_a_lone_valid_pixel_of_a_large_scene_is_found():
    # It lies between the pixels that a thinned sample of so large a scene would look at.
    collector = PreviewCollector(10_980, 10_980)
    window = without_data(product(48, 48), ~np.pad([[True]], ((1, 46), (2, 45))))
    collector.add(4800, 2400, **window, channel_sigma=sigma)
    typical = collector._typical.chosen()
    assert [divmod(int(one.pixel.position[0]), 10_980) for one in typical] == [(2401, 4802)]


def test_memory_does_not_grow_with_the_scene():
    window = product(384, 384)
    tracemalloc.start()
    try:
        collector = PreviewCollector(10_980, 10_980)
        collector.add(0, 0, **window, channel_sigma=sigma, measured_fraction=MEASURED)
        after_one, _ = tracemalloc.get_traced_memory()
        for column in range(384, 3840, 384):
            collector.add(column, 384, **window, channel_sigma=sigma, measured_fraction=MEASURED)
        after_ten, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert after_ten - after_one < 5e6


def test_a_window_beyond_the_product_is_refused():
    collector = PreviewCollector(40, 40)
    with pytest.raises(ValueError, match="beyond the product of 40 x 40"):
        collector.add(6, 0, **product(36, 36), channel_sigma=sigma)


def test_header_text_is_never_taken_for_markup_and_long_lines_stay_on_the_page():
    collector = whole(product(20, 20))
    odd = PreviewHeader(r"$\frac{broken " + "x" * 300, ("50 $ of $ {a_b^c}", "word " * 200))
    assert size(collector.page(odd))[0] == size(collector.page(HEADER))[0]


def test_thumbnail_is_the_visual_picture_with_no_data_transparent():
    missing = np.zeros((64, 64), bool)
    missing[:10, :20] = True
    layers = without_data(product(64, 64), missing)
    shown = decode(whole(layers).thumbnail(edge=64))
    np.testing.assert_array_equal(shown[:3], visual_rgb(layers["hsi"]))
    np.testing.assert_array_equal(shown[3] == 0, missing)


@pytest.mark.parametrize(("width", "height"), [(120, 120), (700, 300), (64, 2000), (3, 1)])
def test_thumbnail_fits_its_edge_and_keeps_the_shape(width, height):
    collector = PreviewCollector(width, height)
    for column, row in windows(width, height, 500):
        part = product(min(500, width - column), min(500, height - row))
        collector.add(column, row, **part, channel_sigma=sigma)
    across, down = size(collector.thumbnail(edge=200))
    assert 100 < max(across, down) <= 200
    assert across / down == pytest.approx(width / height, rel=0.2)


def test_a_small_thumbnail_averages_and_does_not_pick():
    checks = product(512, 512, spectrum=np.full(172, 0.2))
    checks["hsi"][:] = np.where(np.indices((512, 512)).sum(axis=0) % 2, 1000, 3000)
    shown = decode(whole(checks).thumbnail(edge=128))
    even = np.full((172, 1, 1), 2000, np.int16)
    np.testing.assert_array_equal(np.unique(shown[:3]), np.unique(visual_rgb(even)))


# Diagrams


def one_pixel(spectrum: np.ndarray, uncertainty: int = 500) -> TypicalPixel:
    hsi = np.rint(1e4 * spectrum).astype(np.int16)[:, None, None]
    sample = PixelSample(
        np.array([7]),
        hsi[:, 0].T,
        np.array([[uncertainty]], np.int16),
        source_of(hsi)[:, 0].T,
        np.array([64], np.uint16),
    )
    return TypicalPixel("dense vegetation", "#009e73", 0.42, sample)


@pytest.fixture
def axes():
    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def spectra_lines(axes) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]


def crosses_a_gap(wavelengths: np.ndarray) -> bool:
    low, high = wavelengths.min(), wavelengths.max()
    return any(low < left and high > right for left, right in WATER_VAPOUR_NM)


def test_runs_hold_every_channel_once_in_order_of_wavelength_and_leave_gaps_open():
    runs = list(unbroken_runs())
    assert len(runs) == len(WATER_VAPOUR_NM) + 1
    np.testing.assert_array_equal(np.sort(np.concatenate(runs)), np.arange(172))
    for run in runs:
        assert (np.diff(CENTRE_NM[run]) >= 0).all()
        assert not crosses_a_gap(CENTRE_NM[run])


def test_spectrum_is_drawn_at_its_wavelengths_and_never_across_a_gap(axes):
    draw_spectrum(axes, 1, one_pixel(leaf()), np.full(172, 0.01))
    lines = spectra_lines(axes)
    assert not any(crosses_a_gap(line[:, 0]) for line in lines)
    drawn = np.concatenate(lines)
    order = np.argsort(CENTRE_NM)
    np.testing.assert_allclose(drawn[:, 0], CENTRE_NM[order])
    np.testing.assert_allclose(drawn[:, 1], leaf()[order], atol=6e-5)


def test_the_shaded_interval_holds_ninety_per_cent_of_a_normal_distribution(axes):
    one_sigma = np.linspace(0.005, 0.02, 172)
    draw_spectrum(axes, 1, one_pixel(leaf()), one_sigma)
    from matplotlib.collections import FillBetweenPolyCollection

    corners = np.concatenate(
        [
            path.vertices
            for part in axes.collections
            if isinstance(part, FillBetweenPolyCollection)
            for path in part.get_paths()
        ]
    )
    for channel in (3, 60, 120, 171):
        at_channel = corners[np.isclose(corners[:, 0], CENTRE_NM[channel]), 1]
        width = at_channel.max() - at_channel.min()
        assert width == pytest.approx(2 * 1.645 * one_sigma[channel], rel=1e-3)
    assert pytest.approx(1.6449, abs=1e-3) == INTERVAL_SIGMAS


def test_twelve_source_points_stand_at_their_centres_and_only_b01_is_hollow(axes):
    pixel = one_pixel(leaf())
    draw_spectrum(axes, 1, pixel, np.full(172, 0.01))
    found = {}
    for line in axes.lines:
        if line.get_linestyle() == "None":
            found.update({x: (y, line.get_markerfacecolor()) for x, y in line.get_xydata()})
    assert sorted(found) == sorted(band.centre_nm for band in SOURCE_BANDS)
    hollow = [band.name for band in SOURCE_BANDS if found[band.centre_nm][1] == "white"]
    assert hollow == ["B01"]
    drawn = [found[band.centre_nm][0] for band in SOURCE_BANDS]
    np.testing.assert_allclose(drawn, pixel.pixel.source[0], atol=1e-6)


def test_a_huge_interval_does_not_flatten_the_spectrum(axes):
    draw_spectrum(axes, 1, one_pixel(leaf()), np.full(172, 5.0))
    low, high = axes.get_ylim()
    assert high - low < 4 * leaf().max()


def test_diagrams_say_what_they_show_in_which_unit(axes):
    draw_spectrum(axes, 3, one_pixel(leaf()), np.full(172, 0.01))
    assert axes.get_xlabel() == "wavelength, nm"
    said = " ".join([axes.get_title(loc="left"), *(text.get_text() for text in axes.texts)])
    for words in ("3  dense vegetation", "42 %", "out of domain"):
        assert words in said


def test_reliability_keeps_gaps_open_too(axes):
    level = np.full(172, 0.01)
    draw_sigma(axes, Reliability(level, 0.5 * level, 2 * level, None))
    assert not any(crosses_a_gap(line[:, 0]) for line in spectra_lines(axes))
    assert axes.get_ylim()[1] > 0.02


def test_importing_the_preview_does_not_load_matplotlib_and_rendering_leaves_no_global_figure():
    code = (
        "import sys, infra.preview as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "p.PreviewCollector(4, 4).page(p.PreviewHeader('t', ()))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
