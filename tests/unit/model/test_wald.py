"""Real tier: reading, reducing, classical baselines, figures of merit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model.bands import BANDS_BY_RESOLUTION
from model.errors import InvalidImage
from model.evaluation.wald import (
    BASELINES,
    SHARPENED,
    Scene,
    bicubic,
    glp_cbd,
    glp_synthesised,
    judge_wald,
    read_sentinel2,
    reduce,
)
from model.fusion import RELATIVE_MTF, down, fuse, psf_sigma, up


def make(height: int = 96, width: int = 96, seed: int = 0) -> Scene:
    """Fields with sharp borders; every 20 m band a mixture of the 10 m bands and something of its own."""
    rng = np.random.default_rng(seed)
    fields = rng.random((4, height // 5 + 1, width // 5 + 1)).repeat(5, 1).repeat(5, 2)[:, :height, :width]
    b10 = 0.05 + 0.3 * fields
    mixture = rng.random((6, 4)) / 4
    own = rng.random((6, height // 9 + 1, width // 9 + 1)).repeat(9, 1).repeat(9, 2)[:, :height, :width]
    fine = 0.05 + np.einsum("bg,ghw->bhw", mixture, b10) + 0.02 * own

    def mean(bands: np.ndarray, ratio: int) -> np.ndarray:
        h, w = height // ratio, width // ratio
        cut = bands[:, : h * ratio, : w * ratio].reshape(len(bands), h, ratio, w, ratio)
        return cut.mean(axis=(2, 4)).astype(np.float32)

    return Scene(
        name="made",
        platform="sentinel-2a",
        level="L2A",
        b10=b10.astype(np.float32),
        b20=mean(fine, 2),
        b60=mean(fine[:2], 6),
    )


def write(path, **changed) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "b10": rng.integers(1, 5000, (4, 48, 48), dtype=np.uint16),
        "b20": rng.integers(1, 5000, (6, 24, 24), dtype=np.uint16),
        "b60": rng.integers(1, 5000, (2, 8, 8), dtype=np.uint16),
        "scale": np.float64(1e-4),
        "offset": np.float64(0.0),
        "level": np.array("L2A"),
        **{f"names{r}": np.array(BANDS_BY_RESOLUTION[r]) for r in (10, 20, 60)},
        **changed,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


class TestReading:
    def test_numbers_become_reflectance_and_zero_becomes_nodata(self, tmp_path):
        b20 = np.full((6, 24, 24), 2000, np.uint16)
        b20[3, 5, 7] = 0
        write(tmp_path / "S2B_MSIL2A_20240101.npz", b20=b20, offset=np.float64(-0.1))
        scene = read_sentinel2(tmp_path / "S2B_MSIL2A_20240101.npz")
        assert scene["platform"] == "sentinel-2b"
        assert scene["level"] == "L2A"
        assert np.isnan(scene["b20"][3, 5, 7])
        assert np.nanmin(scene["b20"]) == pytest.approx(0.1, abs=1e-6)
        assert np.nanmax(scene["b20"]) == pytest.approx(0.1, abs=1e-6)

    def test_bands_come_in_wavelength_order_whatever_the_files_order(self, tmp_path):
        b10 = np.arange(1, 5, dtype=np.uint16)[:, None, None] * np.ones((4, 48, 48), np.uint16) * 1000
        write(tmp_path / "a.npz", b10=b10, names10=np.array(["B04", "B03", "B02", "B08"]))
        note = np.array("DSen2 order: 10m [B4,B3,B2,B8]; 20m [B5,B6,B7,B8a,B11,B12]; 60m [B1,B9]")
        write(tmp_path / "b.npz", b10=b10, names10=None, names20=None, names60=None, note=note)
        for name in ("a", "b"):
            scene = read_sentinel2(tmp_path / f"{name}.npz")
            np.testing.assert_allclose(scene["b10"][:, 0, 0], [0.3, 0.2, 0.1, 0.4], rtol=1e-6)
            assert scene["platform"] == ""

    @pytest.mark.parametrize(
        "changed",
        [
            {"b20": None},
            {"scale": None},
            {"names10": np.array(["B02", "B03", "B04", "B05"])},
            {"names20": None},
            {"b10": np.ones((3, 48, 48), np.uint16)},
            {"b60": np.ones((2, 8), np.uint16)},
        ],
    )
    def test_a_file_that_is_no_image_of_the_sensor_is_refused(self, tmp_path, changed):
        write(tmp_path / "odd.npz", **changed)
        with pytest.raises(InvalidImage, match=r"odd\.npz"):
            read_sentinel2(tmp_path / "odd.npz")

    def test_something_else_than_npz_is_refused(self, tmp_path):
        (tmp_path / "text.npz").write_text("no archive")
        with pytest.raises(InvalidImage, match="cannot be read"):
            read_sentinel2(tmp_path / "text.npz")
        with pytest.raises(InvalidImage, match="cannot be read"):
            read_sentinel2(tmp_path / "absent.npz")


class TestReducing:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(32, 79), st.integers(32, 79))
    def test_any_size_gives_aligned_arrays_of_whole_coarse_pixels(self, height, width):
        scene = make(height, width)
        guides, coarse, truth = reduce(scene)
        h, w = coarse.shape[-2:]
        assert (h, w) == (height // 4, width // 4)
        assert guides.shape == (4, 2 * h, 2 * w)
        assert truth.shape == (6, 2 * h, 2 * w)
        assert torch.equal(truth, torch.as_tensor(scene["b20"])[:, : 2 * h, : 2 * w])

    def test_a_reduced_pixel_is_the_gaussian_average_of_its_surroundings(self):
        scene = make()
        guides, _, _ = reduce(scene)
        row, column = 17, 30
        # Oracle: the continuous point-spread function sampled at the 10 m pixels around the 20 m pixel's centre.
        y, x = np.mgrid[:96, :96]
        dy, dx = y - (2 * row + 0.5), x - (2 * column + 0.5)
        near = (np.abs(dy) <= 3.4) & (np.abs(dx) <= 3.4)
        weight = np.exp(-0.5 * (dy**2 + dx**2) / psf_sigma(2, RELATIVE_MTF) ** 2) * near
        expected = (scene["b10"] * weight).sum(axis=(1, 2)) / weight.sum()
        np.testing.assert_allclose(guides[:, row, column].numpy(), expected, rtol=1e-5)

    def test_nodata_spreads_to_the_pixels_it_lies_under_and_not_further(self):
        scene = make()
        scene["b10"][2, 41, 20] = np.nan
        scene["b20"][4, 31, 10] = np.nan
        guides, coarse, _ = reduce(scene)
        assert torch.isnan(guides).all(dim=0).nonzero().tolist() == [[20, 10]]
        assert torch.isnan(coarse).all(dim=0).nonzero().tolist() == [[15, 5]]
        whole_guides, whole_coarse, _ = reduce(make())
        far = torch.isfinite(guides)
        far[:, 18:23, 8:13] = False
        torch.testing.assert_close(guides[far], whole_guides[far])
        assert (coarse - whole_coarse)[torch.isfinite(coarse)].abs().max() < 0.05

    def test_a_sharper_instrument_keeps_more_contrast(self):
        contrast = [reduce(make(), mtf)[1].std().item() for mtf in (0.2, 0.4, 0.6)]
        assert contrast == sorted(contrast)

    def test_an_image_of_borders_only_is_refused(self):
        with pytest.raises(InvalidImage, match="7 x 24 pixels"):
            reduce(make(31, 96))


class TestBaselines:
    def test_the_gain_is_the_regression_slope_on_the_most_correlated_guide(self):
        guides, coarse, _ = reduce(make(seed=3))
        sharp = glp_cbd(guides, coarse)
        low = down(guides, 2)
        detail = guides - up(low, 2)
        for band in range(6):
            fits = [stats.linregress(low[g].flatten().numpy(), coarse[band].flatten().numpy()) for g in range(4)]
            best = int(np.argmax([abs(fit.rvalue) for fit in fits]))
            expected = up(coarse, 2)[band] + fits[best].slope * detail[best]
            torch.testing.assert_close(sharp[band], expected, rtol=1e-4, atol=1e-5)

    def test_the_synthesised_guide_is_the_least_squares_fit_of_all_guides(self):
        guides, coarse, _ = reduce(make(seed=4))
        low = down(guides, 2)
        A = np.c_[low.reshape(4, -1).T.double().numpy(), np.ones(low[0].numel())]
        W = np.linalg.lstsq(A, coarse.reshape(6, -1).T.double().numpy(), rcond=None)[0][:4]
        detail = (guides - up(low, 2)).double().numpy()
        expected = up(coarse, 2).double().numpy() + np.einsum("gb,ghw->bhw", W, detail)
        np.testing.assert_allclose(glp_synthesised(guides, coarse).numpy(), expected, rtol=1e-4, atol=1e-5)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 3), st.floats(-2.0, 2.0), st.floats(0.0, 0.5))
    def test_a_band_that_is_a_guide_in_disguise_gets_all_its_detail(self, guide, gain, offset):
        guides, _, _ = reduce(make(seed=1))
        low = down(guides, 2)
        coarse = gain * low[[guide] * 6] + offset
        expected = gain * guides[[guide] * 6] + offset
        for method in (glp_cbd, glp_synthesised):
            torch.testing.assert_close(method(guides, coarse), expected, rtol=1e-3, atol=2e-4)

    @pytest.mark.parametrize("method", [glp_cbd, glp_synthesised])
    def test_guides_that_show_nothing_add_nothing(self, method):
        _, coarse, _ = reduce(make())
        flat = torch.full((4, 48, 48), 0.2)
        torch.testing.assert_close(method(flat, coarse), bicubic(flat, coarse), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("method", BASELINES.values())
    def test_nodata_in_gives_finite_values_out(self, method):
        scene = make()
        scene["b10"][:, :10, :10] = np.nan
        scene["b20"][:, 20:25, 20:25] = np.nan
        guides, coarse, _ = reduce(scene)
        assert torch.isfinite(method(guides, coarse)).all()


class TestJudging:
    def test_the_truth_is_a_perfect_answer(self):
        scene = make()
        truth = reduce(scene)[2]
        judged = judge_wald(scene, {"truth": lambda g, c: truth})["truth"]
        assert judged["rmse"] == 0
        assert judged["sam_deg"] == pytest.approx(0, abs=1e-4)
        assert judged["sre_db"] > 100

    @settings(max_examples=20, deadline=None)
    @given(st.floats(1e-4, 0.1), st.integers(0, 5))
    def test_a_known_error_is_reported_as_it_is(self, error, band):
        scene = make()
        truth = reduce(scene)[2]
        wrong = truth.clone()
        wrong[band] += error
        judged = judge_wald(scene, {"wrong": lambda g, c: wrong})["wrong"]
        per_band = judged["per_band"]
        assert tuple(per_band) == SHARPENED
        name = SHARPENED[band]
        assert per_band[name]["rmse"] == pytest.approx(error, rel=1e-3)
        expected = 20 * np.log10(truth[band].mean().item() / error)
        assert per_band[name]["sre_db"] == pytest.approx(expected, abs=0.01)
        assert judged["rmse"] == pytest.approx(error / np.sqrt(6), rel=1e-3)
        assert judged["sre_db"] == pytest.approx(np.mean([b["sre_db"] for b in per_band.values()]))

    def test_a_scaled_answer_keeps_its_angle_and_loses_its_ratio(self):
        scene = make()
        truth = reduce(scene)[2]
        judged = judge_wald(scene, {"bright": lambda g, c: 1.1 * truth})["bright"]
        assert judged["sam_deg"] == pytest.approx(0, abs=1e-3)
        second_moment = (truth.double() ** 2).mean(dim=(1, 2)) / truth.double().mean(dim=(1, 2)) ** 2
        assert judged["sre_db"] == pytest.approx(float((20 - 10 * second_moment.log10()).mean()), abs=1e-3)

    def test_invalid_pixels_are_not_judged_for_any_method(self):
        scene = make()
        truth = reduce(scene)[2]
        scene["b10"][:, 40:60, 12:24] = np.nan
        wrong = truth.clone()
        wrong[:, 20:30, 6:12] = 7.0
        assert judge_wald(scene, {"wrong": lambda g, c: wrong})["wrong"]["rmse"] == 0

    def test_a_method_cannot_spoil_the_inputs_of_the_next(self):
        def spoil(guides, coarse):
            sharp = bicubic(guides, coarse)
            coarse.zero_()
            guides.zero_()
            return sharp

        judged = judge_wald(make(), {"spoil": spoil, "bicubic": bicubic})
        assert judged["spoil"] == judged["bicubic"]

    def test_wrong_answers_are_refused_by_name(self):
        scene = make()
        with pytest.raises(InvalidImage, match="coarse_again returned the shape"):
            judge_wald(scene, {"coarse_again": lambda g, c: c})
        with pytest.raises(InvalidImage, match="holes returned values"):
            judge_wald(scene, {"holes": lambda g, c: torch.full((6, 48, 48), torch.nan)})
        scene["b20"][:] = np.nan
        with pytest.raises(InvalidImage, match="no pixel is valid"):
            judge_wald(scene, {"bicubic": bicubic})

    def test_guides_help_where_they_show_the_borders(self):
        judged = judge_wald(make(seed=2), BASELINES)
        assert judged["glp_cbd"]["sre_db"] > judged["bicubic"]["sre_db"] + 1
        assert judged["glp_synthesised"]["rmse"] < judged["glp_cbd"]["rmse"]


def guided(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """The product's untrained fusion; 60 m bands do not enter the 20 m ones."""
    nothing = torch.zeros(2, guides.shape[-2] // 6, guides.shape[-1] // 6)
    return fuse(guides, coarse, nothing).bands[[4, 5, 6, 8, 10, 11]]


@pytest.mark.parametrize(
    "name",
    [
        "ben_S2A_MSIL2A_20170613T101031_87_48",
        "ben_S2A_MSIL2A_20170617T113321_36_85",
        "ben_S2A_MSIL2A_20170617T113321_4_55",
        "ben_S2A_MSIL2A_20171221T112501_56_35",
        "ben_S2B_MSIL2A_20170924T93020_69_24",
        "ben_S2B_MSIL2A_20180204T94161_57_38",
        "dsen2_S2A_MSIL1C_20170527_T33UUB",
    ],
)
def test_on_real_imagery_guides_help_and_local_gains_help_more(shared_data, name):
    scene = read_sentinel2(shared_data / "sentinel2" / f"{name}.npz")
    b8a = scene["b20"][3].repeat(2, 0).repeat(2, 1)
    likeness = [np.corrcoef(band.flatten(), b8a.flatten())[0, 1] for band in scene["b10"]]
    assert int(np.argmax(likeness)) == 3  # the bands are what their names say
    judged = judge_wald(scene, {**BASELINES, "guided": guided})
    assert judged["glp_cbd"]["sre_db"] > judged["bicubic"]["sre_db"] + 5
    assert judged["glp_synthesised"]["sre_db"] > judged["bicubic"]["sre_db"] + 5
    assert judged["guided"]["sre_db"] > max(judged[name]["sre_db"] for name in BASELINES)
    assert judged["guided"]["rmse"] < min(judged[name]["rmse"] for name in BASELINES)
