"""Card and weights: complete, checked, and readable without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from model.card import CARD_NAME, SHIPPED_WEIGHTS, WEIGHTS_NAME, ModelCard, load_card
from model.duality import load_model
from model.errors import WeightsCorrupted, WeightsMissing, WeightsVersionMismatch


@pytest.fixture
def weights(tmp_path):
    shutil.copytree(SHIPPED_WEIGHTS, tmp_path / "weights")
    return tmp_path / "weights"


def test_bands_layers_and_card_import_without_torch():
    code = (
        "import sys, model.bands, model.layers, model.card; model.card.load_card(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_model_needs_torch_numpy_and_safetensors_only():
    foreign = "rasterio scipy prefect sqlalchemy pyrsr flows infra catalog"
    code = f"import sys, model.bench; bad = set({foreign!r}.split()) & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_shipped_card_tells_where_the_weights_come_from():
    card = load_card()
    assert card.platforms == ("sentinel-2a", "sentinel-2b", "sentinel-2c")
    assert len(card.data) >= 10
    assert all(len(source.sha256) == 64 and source.licence for source in card.data)
    assert card.responses["sentinel-2c"]["borrowed"] == {"B01": "sentinel-2b", "B09": "sentinel-2b"}
    assert card.calibration
    assert any("B01" in limit for limit in card.limits)
    for row in card.metrics["left_out"]:
        beside = "wiener" if row["tier"] == "spectral" else "guided_wiener"
        assert row["rmse"] < row["baselines"][beside]["rmse"]
    assert {target["met"] for target in card.metrics["targets"]} >= {True, False}  # misses are told, too
    assert 0.87 <= card.metrics["coverage_in_domain"]["90"] <= 0.93
    assert card.metrics["coverage_in_domain"]["worst_split_90"] >= 0.80


def test_a_card_survives_json():
    card = load_card()
    assert ModelCard.from_json(card.to_json()) == card


def test_shipped_weights_are_small():
    assert (SHIPPED_WEIGHTS / WEIGHTS_NAME).stat().st_size < 4_000_000


def test_one_flipped_byte_is_noticed(weights):
    file = weights / WEIGHTS_NAME
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsCorrupted, match="SHA-256"):
        load_model(weights, "cpu")


def test_another_format_is_refused(weights):
    card = json.loads((weights / CARD_NAME).read_text())
    card["format"] = 99
    (weights / CARD_NAME).write_text(json.dumps(card))
    with pytest.raises(WeightsVersionMismatch, match="99"):
        load_model(weights, "cpu")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2}', "\x00"])
def test_a_broken_card_is_refused(weights, text):
    (weights / CARD_NAME).write_text(text)
    with pytest.raises(WeightsCorrupted):
        load_model(weights, "cpu")


def test_missing_files_are_named(tmp_path, weights):
    with pytest.raises(WeightsMissing, match=CARD_NAME):
        load_model(tmp_path / "nowhere", "cpu")
    (weights / WEIGHTS_NAME).unlink()
    with pytest.raises(WeightsMissing, match=WEIGHTS_NAME):
        load_model(weights, "cpu")


def test_weights_of_a_platform_they_lack_are_corrupted(weights):
    card = json.loads((weights / CARD_NAME).read_text())
    card["platforms"].append("sentinel-2z")
    (weights / CARD_NAME).write_text(json.dumps(card))
    with pytest.raises(WeightsCorrupted, match="sentinel-2z"):
        load_model(weights, "cpu")
