"""Reading cubes and tables of any instrument."""

from __future__ import annotations

import numpy as np
import pytest

from model.bands import CENTRE_NM, FWHM_NM
from model.errors import InvalidSpectra
from model.spectra import read_spectra, resampling_matrix

FINE = np.arange(400.0, 2500.0, 5.0)


def curve(wavelength: np.ndarray) -> np.ndarray:
    return 0.2 + 0.1 * np.sin(wavelength / 200)


def test_resampling_keeps_smooth_spectra_whatever_the_sampling():
    for axis in (FINE, FINE[::2], FINE[::4]):
        got = resampling_matrix(axis, CENTRE_NM, FWHM_NM) @ curve(axis)
        np.testing.assert_allclose(got, curve(CENTRE_NM), atol=1e-3)


def test_unsorted_wavelengths_give_the_same_spectra(tmp_path):
    order = np.random.default_rng(0).permutation(FINE.size)
    for name, index in (("sorted", np.arange(FINE.size)), ("jagged", order)):
        np.savez(tmp_path / f"{name}.npz", reflectance=curve(FINE)[index][None], wavelength_nm=FINE[index])
    straight, jagged = (read_spectra(tmp_path / f"{name}.npz") for name in ("sorted", "jagged"))
    np.testing.assert_allclose(straight.reflectance, jagged.reflectance, atol=1e-6)


def test_nodata_pixels_are_dropped_and_remembered(tmp_path):
    cube = np.tile((curve(FINE) * 10_000).astype(np.int16)[:, None, None], (1, 3, 4))
    cube[:, 1, 2] = -9999
    np.savez(tmp_path / "cube.npz", cube=cube, wavelength_nm=FINE)
    spectra = read_spectra(tmp_path / "cube.npz")
    assert spectra.shape == (3, 4)
    assert len(spectra.reflectance) == 11
    assert 6 not in spectra.index


def test_opaque_windows_are_never_used(tmp_path):
    values = curve(FINE)
    values[(FINE >= 1340) & (FINE <= 1450)] = 90.0
    values[(FINE >= 1800) & (FINE <= 1955)] = -90.0
    np.savez(tmp_path / "table.npz", reflectance=values[None], wavelength_nm=FINE)
    np.testing.assert_allclose(read_spectra(tmp_path / "table.npz").reflectance[0], curve(CENTRE_NM), atol=5e-3)


def test_a_short_instrument_marks_what_it_did_not_see(tmp_path):
    axis = FINE[FINE < 2300]
    np.savez(tmp_path / "short.npz", reflectance=curve(axis)[None], wavelength_nm=axis)
    covered = read_spectra(tmp_path / "short.npz").covered
    assert not covered[-1]
    assert covered[:160].all()


def test_a_single_missing_sample_does_not_lose_the_spectrum(tmp_path):
    values = curve(FINE)
    values[100] = np.nan
    np.savez(tmp_path / "table.npz", reflectance=values[None], wavelength_nm=FINE)
    assert np.isfinite(read_spectra(tmp_path / "table.npz").reflectance).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"reflectance": np.ones((1, 5)), "wavelength_nm": np.linspace(400, 2400, 5)}, "3 usable bands"),
        ({"reflectance": curve(FINE)[None], "wavelength_nm": FINE[:-1]}, "wavelengths for an array"),
        ({"wavelength_nm": FINE}, "expected wavelength_nm and either"),
        ({"reflectance": np.full((2, FINE.size), np.nan), "wavelength_nm": FINE}, "none of its 2"),
        ({"reflectance": curve(FINE[:120])[None], "wavelength_nm": FINE[:120]}, "at least 80%"),
    ],
)
def test_unusable_files_say_why(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InvalidSpectra, match=message):
        read_spectra(tmp_path / "bad.npz")


def test_a_file_that_is_no_npz_says_so(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(InvalidSpectra, match="cannot be read"):
        read_spectra(tmp_path / "bad.npz")
