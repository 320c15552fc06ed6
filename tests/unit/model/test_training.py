"""The training command on a small synthetic data folder, and what its weights then do."""

from __future__ import annotations

import numpy as np
import pytest

from model.bands import SOURCE_BANDS
from model.card import load_card
from model.duality import load_model
from model.errors import DataMissing
from model.evaluation import evaluate
from model.inference import Halo
from model.training import train
from model.training.chips import ChipSettings
from model.training.corpus import RESPONSE_FILE, SOURCES, TEXTURE_FILE, judging_splits, read_corpus
from model.training.refinement import RefinementSettings
from model.training.statistics import FitSettings
from model.training.unfolding import UnfoldingSettings
from model.training.units import TrainingSettings

AXIS = np.arange(400.0, 2500.0, 12.0)
SMALL = TrainingSettings(
    fit=FitSettings(dimension=8, classes=2, iterations=3),
    unfolding=UnfoldingSettings(hidden=8, steps=20, snapshots=2),
    refinement=RefinementSettings(hidden=8, chips=6, steps=6, batch=2, chip=ChipSettings(size=24)),
    nested=False,
)


def materials() -> np.ndarray:
    red_edge = 0.04 + 0.4 / (1 + np.exp(-(AXIS - 715) / 12)) * np.exp(-(((AXIS - 900) / 1200) ** 2))
    soil = 0.1 + 0.3 * (1 - np.exp(-(AXIS - 380) / 600))
    snow = 0.9 / (1 + np.exp((AXIS - 1250) / 120)) + 0.04
    water = 0.06 * np.exp(-(AXIS - 400) / 200) + 0.002
    return np.stack([red_edge, soil, snow, water])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with every file the command needs, filled with mixtures of four smooth materials."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for source in SOURCES:
        path = folder / source.path
        path.parent.mkdir(exist_ok=True)
        parts = rng.dirichlet(np.full(4, 0.5), size=30 * 30)
        spectra = parts @ materials() * rng.uniform(0.5, 1.2, size=(900, 1)) + rng.normal(
            scale=1e-3, size=(900, AXIS.size)
        )
        if source.path.startswith("cubes/"):
            cube = (spectra.T.reshape(-1, 30, 30) * 10_000).astype(np.int16)
            np.savez(path, cube=cube, wavelength_nm=AXIS)
        else:
            np.savez(path, reflectance=spectra.clip(0.005), wavelength_nm=AXIS)
    fine = np.arange(300.0, 2601.0)
    responses = np.stack([np.exp(-0.5 * ((fine - b.centre_nm) / (b.fwhm_nm / 2.35)) ** 2) for b in SOURCE_BANDS])
    names = np.array([b.name for b in SOURCE_BANDS])
    keep = [i for i, n in enumerate(names) if n not in {"B01", "B09"}]
    (folder / RESPONSE_FILE).parent.mkdir()
    np.savez(
        folder / RESPONSE_FILE,
        bands=names,
        bands_S2C=np.array([n.replace("B0", "B") for n in names[keep]]),
        **{f"wl_S2{p}": fine for p in "ABC"},
        srf_S2A=responses,
        srf_S2B=responses,
        srf_S2C=responses[keep],
    )
    (folder / TEXTURE_FILE).parent.mkdir()
    sizes = {"b10": (4, 60, 60), "b20": (6, 30, 30), "b60": (2, 10, 10)}
    image = {name: rng.integers(300, 3000, size=size).astype(np.uint16) for name, size in sizes.items()}
    note = "DSen2 order: 10m [B4,B3,B2,B8]; 20m [B5,B6,B7,B8a,B11,B12]; 60m [B1,B9]"
    np.savez(folder / TEXTURE_FILE, **image, scale=1e-4, offset=0.0, level="L1C", note=note)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("weights")
    told: list[float] = []
    card = train(data, out, seed=3, progress=lambda _, done: told.append(done), settings=SMALL, jobs=2)
    return out, card, told


def test_training_writes_loadable_weights_and_tells_its_progress(trained):
    out, card, told = trained
    assert load_card(out) == card
    assert told == sorted(told)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert {row["split"] for row in card.metrics["left_out"]} == set(judging_splits())
    assert {row["tier"] for row in card.metrics["left_out"]} == {"spectral", "full"}
    assert all(row["met"] in {True, False, None} for row in card.metrics["targets"])
    assert not (out / ".training").exists()


def test_the_same_seed_gives_the_same_weights_with_any_number_of_processes(data, trained, tmp_path):
    again = train(data, tmp_path / "again", seed=3, progress=lambda *_: None, settings=SMALL, jobs=1)
    assert again.digest == trained[1].digest


def test_a_run_that_was_broken_off_goes_on_where_it_was(data, trained, tmp_path):
    """What is done is not done again: the second attempt finds the fits of the first and ends with the same weights."""
    seen: list[str] = []

    def broken(what: str, done: float) -> None:
        seen.append(what)
        if done > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, seed=3, progress=broken, settings=SMALL, jobs=2)
    kept = sorted((tmp_path / ".training").glob("fit-*.safetensors"))
    assert len(kept) == 1 + len(judging_splits())
    before = {file: file.stat().st_mtime_ns for file in kept}
    changed: list[bool] = []

    def watched(_: str, done: float) -> None:
        if 0.4 < done < 0.9:
            changed.extend(file.exists() and file.stat().st_mtime_ns != before[file] for file in kept)

    card = train(data, tmp_path, seed=3, progress=watched, settings=SMALL, jobs=2)
    assert changed
    assert not any(changed)
    assert card.digest == trained[1].digest


def test_left_out_scenes_are_covered_as_promised(trained):
    coverage = trained[1].metrics["coverage_in_domain"]
    assert coverage["90"] == pytest.approx(0.90, abs=0.05)
    assert coverage["50"] < coverage["80"] < coverage["90"] < coverage["95"]


def test_fresh_weights_estimate_a_scene(trained, scene):
    model = load_model(trained[0], "cpu")
    estimate = model.estimate(scene(), Halo(0, 0, 0, 0))
    assert estimate.compact.shape[0] == SMALL.fit.dimension
    assert 0.0 < estimate.hsi.mean() * 1e-4 < 0.6


@pytest.mark.parametrize("tier", ["spectral", "full"])
def test_evaluation_beats_the_mean_and_writes_its_keys(data, trained, tmp_path, tier):
    rows = evaluate([data / SOURCES[0].path], tier=tier, json_out=tmp_path / "out.json", weights=trained[0])
    (row,) = rows
    keys = {"rmse", "sam_deg", "sam_bright_deg", "psnr_db", "coverage", "interval_width", "consistency_within_noise"}
    assert keys | {"ood_fraction", "baselines", "groups", "file", "tier"} <= set(row)
    assert set(row["coverage"]) == {"50", "80", "90", "95"}
    assert row["rmse"] < row["baselines"]["mean"]["rmse"]
    assert row["in_training"]
    assert (tmp_path / "out.json").stat().st_size > 500


def test_missing_files_are_all_named(tmp_path):
    with pytest.raises(DataMissing) as caught:
        read_corpus(tmp_path)
    assert all(source.path in str(caught.value) for source in SOURCES)


def test_a_split_never_stands_on_both_sides():
    places = {source.path: source.split for source in SOURCES}
    assert places["cubes/aviris_sandiego_a.npz"] == places["cubes/aviris_sandiego_b.npz"]
    assert places["cubes/gamsberg_mine.npz"] == places["libraries/gamsberg_field_speclib.npz"]


def test_shipped_weights_come_from_the_shared_data(shared_data):
    from model.spectra import sha256_file

    for source in load_card().data:
        assert sha256_file(shared_data / source.file) == source.sha256
