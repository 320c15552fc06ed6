"""Pictures of the evaluation: what is drawn and what is left out."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from model.bands import CENTRE_NM, SOURCE_BANDS, SPECTRAL_GROUPS
from model.evaluation.figures import (
    LARGEST_STEP_NM,
    OPAQUE_NM,
    PixelSpectrum,
    reference,
    skill,
    unbroken_runs,
    write_figures,
)
from model.evaluation.figures.spectra import draw_spectrum
from model.evaluation.figures.style import plain, short
from tests.unit.model.figure_rows import make_row, only, spectra


class TestRuns:
    def test_the_products_grid_has_three_detectors_and_two_gaps(self):
        runs = unbroken_runs(CENTRE_NM)
        assert [len(run) for run in runs] == [22, 64, 7, 35, 44]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(400, 2500), min_size=1, max_size=60))
    def test_every_channel_is_in_one_run_that_rises_without_a_gap(self, wavelengths):
        axis = np.array(wavelengths)
        runs = unbroken_runs(axis)
        assert sorted(np.concatenate(runs).tolist()) == list(range(axis.size))
        for run in runs:
            steps = np.diff(axis[run])
            assert (steps > 0).all()
            assert (steps <= LARGEST_STEP_NM).all()

    def test_a_grid_in_no_order_is_drawn_as_if_sorted(self):
        shuffled = np.random.default_rng(0).permutation(CENTRE_NM)
        longest = max(unbroken_runs(shuffled), key=len)
        assert np.array_equal(np.sort(shuffled[longest]), shuffled[longest])
        assert len(longest) > 90


class TestDrawing:
    def test_no_line_and_no_interval_crosses_a_gap(self):
        axes = Figure().add_subplot()
        rng = np.random.default_rng(0)
        x = spectra(rng, 1)[:, 0]
        draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, 0.01 + 0 * x, np.full(12, 0.2), x))
        drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) > 1]
        drawn += [np.unique(body.get_paths()[0].vertices[:, 0]) for body in axes.collections]
        assert len(drawn) == 2 * 5 + 3
        for xs in drawn:
            assert np.diff(xs).max() <= LARGEST_STEP_NM / 1e3
            for low, high in OPAQUE_NM:
                assert not ((xs > low / 1e3) & (xs < high / 1e3)).any()

    def test_all_source_bands_are_drawn_where_they_are(self):
        axes = Figure().add_subplot()
        x = np.full(172, 0.2)
        bands = np.linspace(0.1, 0.3, 12)
        bands[4] = np.nan
        draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, 0.01 * x, bands))
        points = {(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in axes.lines if len(p.get_xdata()) == 1}
        expected = {(b.centre_nm / 1e3, v) for b, v in zip(SOURCE_BANDS, bands, strict=True) if np.isfinite(v)}
        assert points == expected

    def test_a_hopeless_interval_does_not_flatten_the_spectrum(self):
        x = np.linspace(0.1, 0.4, 172)
        axes = Figure().add_subplot()
        draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, np.full(172, 9.0), np.full(12, 0.2)))
        low, high = axes.get_ylim()
        assert high - low < 1
        assert low < 0
        assert high > 0.4

    def test_names_are_taken_literally_and_in_glyphs_the_font_has(self):
        assert plain("a$b$ µ") == r"a\$b\$ µ"
        assert plain("日本\n") == "□□□"

    @given(st.text(max_size=80), st.integers(8, 40))
    def test_shortened_names_keep_their_ends(self, text, letters):
        shortened = short(text, letters)
        assert len(shortened) <= max(letters, 1) or shortened == text
        assert shortened[: letters // 2] == text[: letters // 2]


class TestSkill:
    @given(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
    def test_skill_is_the_share_of_wieners_squared_error_taken_away(self, rmse, wiener):
        row = {"rmse": rmse, "baselines": {"bicubic_wiener": {"rmse": 9.0}, "wiener": {"rmse": wiener}}}
        assert reference(row) == "wiener"
        assert skill(row) == pytest.approx((wiener**2 - rmse**2) / wiener**2, rel=1e-9, abs=1e-9)

    @pytest.mark.parametrize(
        "baselines", [None, {}, {"mean": {"rmse": 0.1}}, {"wiener": {"rmse": None}}, {"wiener": {}}]
    )
    def test_without_wiener_there_is_no_skill(self, baselines):
        row = {"rmse": 0.1, "baselines": baselines}
        assert reference(row) is None
        assert np.isnan(skill(row))


class TestFigures:
    @pytest.mark.parametrize(
        ("key", "stem"),
        [
            ("rmse", "rmse-by-file"),
            ("spectrum", "rmse-by-wavelength-spectral"),
            ("calibration", "calibration"),
            ("coverage", "calibration"),
            ("examples", "spectra-spectral-scene"),
            ("groups", "reliability-spectral"),
        ],
    )
    def test_a_figure_needs_its_own_keys_only_and_what_lacks_is_not_listed(self, tmp_path, key, stem):
        written = write_figures([only(make_row(), key)], tmp_path)
        assert written == [tmp_path / f"{stem}.png"] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("rows", [[], [{}], [{"file": "a.npz", "tier": "spectral", "rmse": None}]])
    def test_rows_without_numbers_give_no_figures(self, tmp_path, rows):
        assert write_figures(rows, tmp_path) == []

    def test_groups_of_bare_errors_give_no_reliability(self, tmp_path):
        row = only(make_row(), "coverage") | {"groups": {g.name: 0.01 for g in SPECTRAL_GROUPS}}
        assert [path.stem for path in write_figures([row], tmp_path)] == ["calibration"]

    def test_numbers_that_are_null_or_nan_or_of_the_wrong_length_do_not_stop_the_others(self, tmp_path):
        row = make_row()
        row["spectrum"]["rmse"][10:20] = [None] * 10
        row["spectrum"]["sigma"] = [float("nan")] * 172
        row["spectrum"]["truth_std"] = [0.1] * 3
        row["spectrum"]["wiener_rmse"][0] = 0.0
        row["examples"][0]["truth"] = None
        row["examples"][1]["bands"] = [None] * 12
        row["examples"][2]["sigma"] = [0.1]
        row["groups"]["blue"]["rmse"] = None
        row["groups"]["red"]["coverage_90"] = None
        row["baselines"]["mean"]["rmse"] = float("inf")
        row["coverage"]["90"] = None
        row["calibration"]["observed"][3] = None
        assert len(write_figures([row], tmp_path)) == 5

    def test_two_files_of_one_name_do_not_overwrite_each_other(self, tmp_path):
        rows = [only(make_row(f"/{folder}/scene.npz", seed=i), "examples") for i, folder in enumerate("ab")]
        for row in rows:
            del row["examples"][1:]
        assert [p.stem for p in write_figures(rows, tmp_path)] == [
            "spectra-spectral-scene",
            "spectra-spectral-scene-2",
        ]

    def test_the_same_rows_give_the_same_files(self, tmp_path):
        row = only(make_row(), "coverage")
        first, second = (write_figures([row], tmp_path / name) for name in "ab")
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]

    def test_drawing_touches_no_global_state(self, tmp_path, monkeypatch):
        monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
        assert write_figures([only(make_row(), "coverage")], tmp_path)
        assert "matplotlib.pyplot" not in sys.modules
