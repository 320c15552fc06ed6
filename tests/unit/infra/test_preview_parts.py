"""The parts of the preview: colours, the small picture, the sample of pixels, names of surfaces, typical pixels."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.preview import hsi_style, visual_rgb
from infra.preview.colour import INFRARED, TRUE_COLOUR, scene_limits
from infra.preview.mosaic import EDGE, Mosaic
from infra.preview.quality import FLAGS
from infra.preview.sample import PixelSample, Reservoir
from infra.preview.surfaces import SURFACES, classify
from infra.preview.typical import MOST_SHOWN, TypicalPixels
from model.bands import CENTRE_NM
from model.layers import NODATA

# B01, B02, B03, B04, B05, B06, B07, B08, B8A, B09, B11, B12: medians of real places, L2A reflectance.
PLACES = {
    "snow": (0.52, 0.53, 0.49, 0.48, 0.53, 0.55, 0.54, 0.55, 0.53, 0.54, 0.07, 0.08),
    "water or deep shade": (0.003, 0.013, 0.010, 0.009, 0.010, 0.012, 0.014, 0.014, 0.014, 0.018, 0.011, 0.008),
    "snow in shade or under trees": (0.26, 0.22, 0.19, 0.16, 0.20, 0.24, 0.23, 0.24, 0.24, 0.27, 0.03, 0.03),
    "dense vegetation": (0.03, 0.03, 0.07, 0.035, 0.12, 0.39, 0.46, 0.46, 0.49, 0.48, 0.18, 0.08),
    "dense vegetation, dark": (0.007, 0.019, 0.036, 0.028, 0.061, 0.145, 0.175, 0.183, 0.193, 0.192, 0.09, 0.045),
    "open vegetation": (0.05, 0.05, 0.09, 0.08, 0.16, 0.30, 0.36, 0.37, 0.40, 0.43, 0.27, 0.16),
    "bare or dry ground": (0.08, 0.10, 0.15, 0.175, 0.23, 0.25, 0.27, 0.27, 0.28, 0.33, 0.33, 0.27),
    "bright surface": (0.30, 0.34, 0.36, 0.37, 0.38, 0.39, 0.40, 0.41, 0.41, 0.41, 0.36, 0.30),
    "dark surface": (0.09, 0.10, 0.10, 0.10, 0.11, 0.12, 0.12, 0.12, 0.12, 0.12, 0.11, 0.09),
}


def flat_hsi(reflectance: float, shape: tuple[int, int] = (2, 3)) -> np.ndarray:
    return np.full((len(CENTRE_NM), *shape), round(reflectance * 10_000), np.int16)


# Colour


def test_true_colour_is_taken_at_the_centres_of_the_sensors_red_green_and_blue():
    np.testing.assert_allclose(CENTRE_NM[list(TRUE_COLOUR)], (665, 560, 490), atol=5)
    assert CENTRE_NM[INFRARED] == pytest.approx(842, abs=5)


def test_a_red_surface_is_red():
    hsi = flat_hsi(0.05)
    hsi[CENTRE_NM > 600] = 4000
    red, green, blue = visual_rgb(hsi)[:, 0, 0]
    assert red > green == blue


@given(st.integers(-32767, 32767))
def test_zero_in_the_picture_means_no_data_and_nothing_else(stored):
    hsi = np.full((len(CENTRE_NM), 1, 2), stored, np.int16)
    hsi[:, 0, 1] = NODATA
    picture = visual_rgb(hsi)
    assert (picture[:, 0, 0] >= 1).all()
    assert (picture[:, 0, 1] == 0).all()


@given(st.integers(-500, 12_000), st.integers(-500, 12_000))
def test_brighter_ground_is_never_drawn_darker(one, other):
    low, high = sorted((one, other))
    drawn = [int(visual_rgb(np.full((len(CENTRE_NM), 1, 1), value, np.int16))[0, 0, 0]) for value in (low, high)]
    assert drawn[0] <= drawn[1]


def test_a_pixel_is_drawn_the_same_whatever_lies_around_it():
    scene = flat_hsi(0.08, (4, 4))
    scene[:, 2:] = 9000
    np.testing.assert_array_equal(visual_rgb(scene)[:, :2], visual_rgb(scene[:, :2]))


def test_dark_land_and_snow_both_keep_contrast():
    levels = [int(visual_rgb(flat_hsi(value, (1, 1)))[0, 0, 0]) for value in (0.02, 0.05, 0.1, 0.3, 0.8, 0.95)]
    assert np.diff(levels).min() >= 8


@given(st.lists(st.floats(-0.25, 1.5, width=32), max_size=30), st.floats(0.01, 0.5))
def test_contrast_limits_are_ordered_and_never_too_narrow(values, narrowest):
    low, high = scene_limits(np.array([*values, np.nan], np.float32), narrowest=narrowest)
    assert high - low >= narrowest * (1 - 1e-6)


def test_one_odd_pixel_does_not_spoil_the_contrast():
    quiet = np.linspace(0.02, 0.3, 10_000, dtype=np.float32)
    odd = np.concatenate([quiet, np.float32([12.0])])
    np.testing.assert_allclose(scene_limits(odd, narrowest=0.1), scene_limits(quiet, narrowest=0.1), atol=1e-3)


def test_qgis_style_names_the_bands_of_true_colour():
    renderer = ET.fromstring(hsi_style()).find("pipe/rasterrenderer")  # noqa: S314 - our own text
    bands = [int(renderer.get(f"{colour}Band")) - 1 for colour in ("red", "green", "blue")]
    assert bands == list(TRUE_COLOUR)


# Mosaic


def windows(width: int, height: int, edge: int):
    return [
        (c, r, min(edge, width - c), min(edge, height - r))
        for r in range(0, height, edge)
        for c in range(0, width, edge)
    ]


def scene(width: int, height: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "hsi": rng.integers(-300, 12_000, (len(CENTRE_NM), height, width)).astype(np.int16),
        "residual_rms": rng.random((height, width)).astype(np.float32) * 0.02,
        "qa": rng.choice([0, 1 << 1, 1 << 6, 1 << 7], (height, width)).astype(np.uint16),
        "valid": rng.random((height, width)) > 0.3,
    }


def filled(mosaic: Mosaic, layers: dict[str, np.ndarray], order) -> Mosaic:
    for c, r, w, h in order:
        mosaic.add(c, r, **{name: layer[..., r : r + h, c : c + w] for name, layer in layers.items()})
    return mosaic


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(3, 17), st.randoms(use_true_random=False))
def test_small_picture_is_the_mean_of_the_valid_whatever_the_windows(width, height, edge, random):
    layers = scene(width, height)
    order = windows(width, height, edge)
    random.shuffle(order)
    mosaic = Mosaic(width, height)
    mosaic.step = step = -(-max(width, height) // 7)
    filled(mosaic, layers, order)
    for row in range(-(-height // step)):
        for column in range(-(-width // step)):
            cell = np.s_[..., row * step : (row + 1) * step, column * step : (column + 1) * step]
            valid = layers["valid"][cell]
            found = mosaic.reflectance()[:, row, column]
            if not valid.any():
                assert np.isnan(found).all()
                assert mosaic.state()[row, column] == -1
                continue
            stored = layers["hsi"][[INFRARED, *TRUE_COLOUR]][cell][:, valid].astype(np.float64)
            np.testing.assert_allclose(found, stored.mean(axis=1) * 1e-4, rtol=1e-5, atol=1e-7)
            residual = layers["residual_rms"][cell][valid].astype(np.float64).mean()
            assert mosaic.residual()[row, column] == pytest.approx(residual, abs=1e-5)


def test_the_brightest_full_tile_does_not_overflow():
    mosaic = Mosaic(10_980, 10_980)
    edge = mosaic.step * 4
    hsi = np.full((len(CENTRE_NM), edge, edge), 32_767, np.int16)
    full = np.ones((edge, edge), bool)
    mosaic.add(
        0, 0, hsi=hsi, residual_rms=np.full(full.shape, 9.0, np.float32), qa=np.zeros(full.shape, np.uint16), valid=full
    )
    assert mosaic.shape[0] <= EDGE
    np.testing.assert_allclose(mosaic.reflectance()[:, :4, :4], 3.2767, rtol=1e-6)
    np.testing.assert_allclose(mosaic.residual()[:4, :4], 1.0, rtol=1e-6)  # as far as the sums reach


def test_a_cell_is_flagged_when_half_of_its_valid_pixels_are():
    mosaic = Mosaic(4, 1)
    mosaic.step = 4
    qa = np.array([[1 << 6, 0, 1 << 6, 1]], np.uint16)
    valid = np.array([[True, True, True, False]])
    mosaic.add(0, 0, hsi=flat_hsi(0.1, (1, 4)), residual_rms=np.zeros((1, 4), np.float32), qa=qa, valid=valid)
    assert FLAGS[mosaic.state()[0, 0] - 1].label == "out of domain"
    assert dict(zip([flag.label for flag in FLAGS], mosaic.flag_shares(), strict=True))[
        "out of domain"
    ] == pytest.approx(2 / 3)


def test_unknown_residuals_do_not_count_as_zero():
    mosaic = Mosaic(2, 1)
    mosaic.step = 2
    residual = np.array([[0.004, np.nan]], np.float32)
    qa = np.zeros((1, 2), np.uint16)
    mosaic.add(0, 0, hsi=flat_hsi(0.1, (1, 2)), residual_rms=residual, qa=qa, valid=qa == 0)
    assert mosaic.residual()[0, 0] == pytest.approx(0.004, abs=1e-5)


# Sample


def sample_of(positions, source=None, qa=0) -> PixelSample:
    positions = np.asarray(positions, np.int64)
    n = len(positions)
    source = np.tile(np.float32(PLACES["bare or dry ground"]), (n, 1)) if source is None else np.float32(source)
    return PixelSample(
        positions, np.zeros((n, 172), np.int16), np.zeros((n, 1), np.int16), source, np.full(n, qa, np.uint16)
    )


def offer(reservoir: Reservoir, sample: PixelSample) -> None:
    chosen = reservoir.choose(sample.position)
    if chosen.size:
        reservoir.add(sample.take(chosen))


@given(st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_what_a_reservoir_keeps_does_not_depend_on_order_or_portions(positions, random):
    whole = Reservoir(20)
    offer(whole, sample_of(positions))
    random.shuffle(positions)
    portions = Reservoir(20)
    while positions:
        size = random.randint(1, len(positions))
        offer(portions, sample_of(positions[:size]))
        positions = positions[size:]
    np.testing.assert_array_equal(whole.kept.position, portions.kept.position)
    assert portions.offered == whole.offered


def test_a_reservoir_is_a_fair_sample_of_the_whole_scene():
    reservoir = Reservoir(2000)
    for start in range(0, 1_000_000, 50_000):
        offer(reservoir, sample_of(range(start, start + 50_000)))
    kept = reservoir.kept.position
    assert len(np.unique(kept)) == 2000
    counts, _ = np.histogram(kept, bins=10, range=(0, 1_000_000))
    assert ((counts > 140) & (counts < 260)).all()  # 200 expected, four standard deviations


# Surfaces


@pytest.mark.parametrize("label", PLACES)
def test_real_places_get_their_name(label):
    found = classify(np.float32(PLACES[label])[:, None])
    assert SURFACES[found[0]].label == label


def test_every_surface_was_tried_on_a_real_place():
    assert {surface.label for surface in SURFACES} == set(PLACES)


@given(st.lists(st.floats(-0.125, 1.5, width=32), min_size=12, max_size=12))
def test_every_pixel_gets_some_name(source):
    assert classify(np.float32(source)[:, None])[0] >= 0


# Typical pixels


def scene_of(counts: dict[str, int], seed: int = 0, qa: int = 0) -> PixelSample:
    rng = np.random.default_rng(seed)
    source = np.concatenate([np.tile(np.float32(PLACES[label]), (n, 1)) for label, n in counts.items()])
    source = source * (1 + 0.01 * rng.standard_normal(source.shape))
    return sample_of(np.arange(len(source)), source, qa)


def test_frequent_surfaces_are_shown_with_their_share_and_rare_ones_are_not():
    typical = TypicalPixels()
    typical.add(scene_of({"dense vegetation": 600, "water or deep shade": 200, "bare or dry ground": 197, "snow": 3}))
    shares = {one.label: one.share for one in typical.chosen()}
    assert shares == pytest.approx({"dense vegetation": 0.6, "water or deep shade": 0.2, "bare or dry ground": 0.197})


def test_at_most_six_spectra_are_shown():
    typical = TypicalPixels()
    typical.add(scene_of(dict.fromkeys(PLACES, 50)))
    assert len(typical.chosen()) == MOST_SHOWN


def test_the_pixel_shown_is_in_the_middle_of_its_kind():
    typical = TypicalPixels()
    grass = np.float32(PLACES["dense vegetation"])
    source = grass * np.linspace(0.9, 1.3, 101, dtype=np.float32)[:, None]
    typical.add(sample_of(np.arange(101), source))
    assert typical.chosen()[0].pixel.position[0] == 50


def test_a_uniform_scene_also_shows_its_extremes():
    typical = TypicalPixels()
    typical.add(scene_of({"snow": 500}))
    labels = [one.label for one in typical.chosen()]
    assert labels == ["snow", "brightest", "darkest"]
    brightness = {one.label: one.pixel.source.mean() for one in typical.chosen()}
    assert brightness["darkest"] < brightness["snow"] < brightness["brightest"]


def test_one_pixel_is_shown_once():
    typical = TypicalPixels()
    typical.add(scene_of({"snow": 1}))
    assert [one.label for one in typical.chosen()] == ["snow"]


def test_clouds_and_saturated_pixels_are_no_typical_surface():
    for flag in (FLAGS[0], FLAGS[1], FLAGS[2]):
        typical = TypicalPixels()
        typical.add(scene_of({"snow": 50}, qa=flag.bit))
        assert all(one.share is None for one in typical.chosen())
