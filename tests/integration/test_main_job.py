"""The main job over the six real patches, without any server: watch, process, publish, read back."""

import json
from collections import Counter

import numpy as np
import pytest
import rasterio

from flows.assembly import assemble
from flows.processing import Stage, process_scene
from flows.watching import watch_sources
from model.bands import CENTRE_NM


@pytest.fixture(scope="module")
def finished(tmp_path_factory, demo_scenes):
    """Everything the job leaves behind, made once for the module."""
    from infra.settings import load_settings

    folder = tmp_path_factory.mktemp("job")
    settings = load_settings(
        home=folder,
        regions_file=demo_scenes.regions_file,
        sources=({"kind": "folder", "name": "patches", "path": str(demo_scenes.items)},),
        processing={"first_look_back_days": 36500},
    )
    with assemble(settings) as assembly:
        report = watch_sources(assembly, actor="test")
        outcomes = [process_scene(assembly, row.id, actor="test") for row in assembly.ledger.due(100)]
        yield assembly, report, outcomes


def items(assembly):
    found = (assembly.published_item(row) for row in assembly.ledger.scenes(limit=100))
    return [item for item in found if item]


def test_six_are_published_one_is_rejected_and_the_doubled_delivery_is_recognised(finished):
    assembly, report, outcomes = finished
    assert Counter(outcome.state for outcome in outcomes) == {"published": 6, "rejected": 1}
    assert report.outcomes == {"new": 7, "duplicate": 1}
    assert len({row.acquisition for row in assembly.ledger.scenes(state="published", limit=100)}) == 5


def test_a_second_look_finds_nothing_new(finished):
    assembly, _, _ = finished
    report = watch_sources(assembly, actor="test")
    assert report.new_scenes == []
    assert set(report.outcomes) <= {"known"}
    assert assembly.ledger.due(100) == []


def test_the_rejection_says_gate_value_and_limit(finished):
    _, _, outcomes = finished
    (rejected,) = [outcome for outcome in outcomes if outcome.state == "rejected"]
    (gate,) = [gate for gate in rejected.gates if gate.verdict == "reject"]
    assert gate.gate == "valid_fraction"
    assert gate.measured < gate.limit
    assert rejected.reason


def test_every_file_of_an_item_is_there_with_its_stated_size_and_hash(finished):
    import hashlib
    from urllib.parse import urlparse

    assembly, _, _ = finished
    for item in items(assembly):
        for asset in item["assets"].values():
            path = urlparse(asset["href"]).path
            with open(path, "rb") as file:  # noqa: PTH123 - read as a consumer would
                content = file.read()
            assert len(content) == asset["file:size"]
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def test_grades_are_capped_because_cloud_and_sun_are_unknown(finished):
    assembly, _, _ = finished
    for item in items(assembly):
        assert item["properties"]["explains2a:grade"] != "A"
        reasons = " ".join(item["properties"]["explains2a:grade_reasons"])
        assert "cloud" in reasons
        assert "sun_zenith" in reasons


def test_the_source_bands_come_back_from_the_product_within_their_noise(finished):
    assembly, _, _ = finished
    for item in items(assembly):
        assert item["properties"]["explains2a:within_noise_fraction"] >= 0.99, item["id"]


def spectra(item):
    with rasterio.open(item["assets"]["hsi"]["href"].removeprefix("file://")) as file:
        cube = file.read().reshape(file.count, -1)
    return cube[:, cube[0] != -32768] * np.float32(1e-4)


def near(cube, low, high):
    return cube[(low <= CENTRE_NM) & (high >= CENTRE_NM)].mean(axis=0)


def test_plants_water_and_snow_look_like_themselves_in_numbers(finished):
    """The physical facts that a reader checks first, on the pixels that are surely one material."""
    assembly, _, _ = finished
    seen = Counter()
    for item in items(assembly):
        cube = spectra(item)
        red, nir, green, swir = (near(cube, *r) for r in ((655, 675), (855, 875), (550, 570), (1600, 1640)))
        ndvi = (nir - red) / np.maximum(nir + red, 1e-3)
        plants, water, snow = (ndvi > 0.7) & (nir > 0.2), (nir < 0.03) & (green < 0.08), (green > 0.6) & (swir < 0.3)
        if plants.sum() > 200:
            edge = (CENTRE_NM >= 680) & (CENTRE_NM <= 760)
            slope = np.gradient(np.asarray(cube[:, plants].mean(axis=1)), CENTRE_NM)
            position = CENTRE_NM[edge][np.argmax(slope[edge])]
            assert 700 <= position <= 740, (item["id"], position)
            seen["plants"] += 1
        if water.sum() > 200:
            assert np.median(cube[CENTRE_NM > 900][:, water]) < 0.05
            seen["water"] += 1
        if snow.sum() > 200:
            assert np.median(near(cube, 1590, 1650)[snow]) < 0.2
            seen["snow"] += 1
    assert seen["plants"] >= 2
    assert seen["water"] >= 1
    assert seen["snow"] >= 1


def test_a_finished_scene_cannot_be_claimed_again(finished):
    from catalog.ledger import NotClaimable

    assembly, _, _ = finished
    published = assembly.ledger.scenes(state="published", limit=1)[0]
    with pytest.raises(NotClaimable):
        process_scene(assembly, published.id, actor="test")


def test_the_report_names_gates_versions_and_hashes(finished):
    assembly, _, _ = finished
    item = items(assembly)[0]
    with open(item["assets"]["report"]["href"].removeprefix("file://"), encoding="utf-8") as file:  # noqa: PTH123
        report = json.load(file)
    assert {gate["gate"] for gate in report["gates"]} == {"valid_fraction", "cloud", "sun_zenith"}
    assert report["model"]["digest"]
    assert report["files"]["hsi"]["sha256"]


def test_stages_are_told_in_order(operator_settings):
    stages = []
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        process_scene(assembly, assembly.ledger.due(1)[0].id, actor="test", on_stage=stages.append)
    assert stages == list(Stage)
