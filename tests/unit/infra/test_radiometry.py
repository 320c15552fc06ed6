"""The offset is applied once: never twice, never forgotten, never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.scene.errors import RadiometryContradiction, RadiometryUnknown, SceneRefused
from infra.scene.radiometry import decide_radiometry
from infra.sources.items import read_item
from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from infra.sources.acquisition import Acquisition

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
APPLIED = "earthsearch:boa_offset_applied"


def acquisition(
    baseline: str = "0511", declare: dict | None = None, collection: str = "some-collection", **properties: object
) -> Acquisition:
    """An item of a given baseline whose bands all declare the same."""
    name = f"S2A_MSIL2A_20230617T113321_N{baseline}_R080_T29UPU_20230617T150000"
    assets = {band: {"href": f"{band}.tif", **(declare or {})} for band in SOURCE_BAND_NAMES}
    item = {
        "type": "Feature",
        "id": "an-item",
        "collection": collection,
        "geometry": SQUARE,
        "properties": {"datetime": "2023-06-17T11:33:21Z", "s2:product_uri": name, **properties},
        "assets": assets,
    }
    return read_item(item, "made")


def decided(*args: object, **kwargs: object) -> tuple[float, float]:
    """Scale and offset, the same for all twelve bands."""
    radiometry = decide_radiometry(acquisition(*args, **kwargs))
    assert set(radiometry.scale) == set(radiometry.offset) == set(SOURCE_BAND_NAMES)
    [scale], [offset] = set(radiometry.scale.values()), set(radiometry.offset.values())
    return scale, offset


@pytest.mark.parametrize("baseline", ["0400", "0509", "0511", "0600"])
def test_since_baseline_four_a_thousand_is_taken_off(baseline: str):
    assert decided(baseline) == (1e-4, -0.1)


@pytest.mark.parametrize("baseline", ["0205", "0214", "0301"])
def test_before_baseline_four_nothing_is_taken_off(baseline: str):
    assert decided(baseline) == (1e-4, 0.0)


def test_what_the_item_declares_wins_over_the_baseline():
    assert decided("0511", {"raster:scale": 2e-4, "raster:offset": -0.05}) == (2e-4, -0.05)
    assert decided("0511", {"raster:scale": 1e-4, "raster:offset": 0}) == (1e-4, 0.0)


def test_declared_scale_alone_leaves_the_offset_to_the_baseline():
    assert decided("0511", {"raster:scale": 1e-4}) == (1e-4, -0.1)


def test_applied_flag_wins_over_the_declared_offset():
    """Earth Search's older collection says both; taking the offset off again would be the second time."""
    declare = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    assert decided("0509", declare, "sentinel-2-l2a", **{APPLIED: True}) == (1e-4, 0.0)


def test_flag_that_says_not_applied_leaves_the_declared_offset():
    declare = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    assert decided("0509", declare, "sentinel-2-l2a", **{APPLIED: False}) == (1e-4, -0.1)
    assert decided("0301", {"raster:offset": 0}, "sentinel-2-l2a", **{APPLIED: False}) == (1e-4, 0.0)


def test_flag_of_an_unknown_collection_is_not_trusted():
    with pytest.raises(RadiometryUnknown, match="somebody-s-copy"):
        decide_radiometry(acquisition("0509", collection="somebody-s-copy", **{APPLIED: True}))


def test_refusals_are_rejections_at_the_radiometry_gate():
    for error in (RadiometryContradiction, RadiometryUnknown):
        assert issubclass(error, SceneRefused)
        assert error.gate == "radiometry"
        assert not error.transient


def test_flag_that_is_no_truth_value_is_refused():
    with pytest.raises(RadiometryUnknown, match="'yes'"):
        decide_radiometry(acquisition("0509", collection="sentinel-2-l2a", **{APPLIED: "yes"}))


def test_offset_before_baseline_four_is_a_contradiction():
    with pytest.raises(RadiometryContradiction, match=r"although baseline 02\.14 knows none"):
        decide_radiometry(acquisition("0214", {"raster:offset": -0.1}))


def test_offset_neither_applied_nor_declared_is_a_contradiction():
    with pytest.raises(RadiometryContradiction, match="not applied"):
        decide_radiometry(acquisition("0509", {"raster:offset": 0}, "sentinel-2-l2a", **{APPLIED: False}))


def test_name_and_stated_baseline_must_agree():
    with pytest.raises(RadiometryContradiction, match=r"'02\.14'"):
        decide_radiometry(acquisition("0511", **{"s2:processing_baseline": "02.14"}))


def test_two_statements_about_one_band_are_a_contradiction():
    with pytest.raises(RadiometryContradiction, match="offset is stated as"):
        decide_radiometry(acquisition("0511", {"raster:offset": 0, "raster:bands": [{"offset": -0.1}]}))


@pytest.mark.parametrize("field", ["scale", "offset"])
def test_bands_that_declare_and_bands_that_do_not_are_a_contradiction(field: str):
    whole = acquisition("0511", {"raster:scale": 1e-4, "raster:offset": -0.1})
    assets = {name: dict(asset) for name, asset in whole.item["assets"].items()}
    del assets["B11"][f"raster:{field}"]
    with pytest.raises(RadiometryContradiction, match="B11"):
        decide_radiometry(read_item(whole.item | {"assets": assets}, "made"))


@pytest.mark.parametrize("declare", [{"raster:scale": -1e-4}, {"raster:scale": 1}, {"raster:offset": -1000}])
def test_numbers_that_are_no_reflectance_are_refused(declare: dict):
    with pytest.raises(RadiometryContradiction, match="no reflectance"):
        decide_radiometry(acquisition("0511", declare))


@pytest.mark.parametrize("baseline", ["9999"])
def test_unknown_baseline_without_a_declaration_is_refused(baseline: str):
    with pytest.raises(RadiometryUnknown, match="declare raster:scale"):
        decide_radiometry(acquisition(baseline))


def test_item_that_says_nothing_at_all_is_refused():
    silent = acquisition("0511")
    item = silent.item | {"properties": {"datetime": "2023-06-17T11:33:21Z", "platform": "sentinel-2a"}}
    item["properties"]["grid:code"] = "MGRS-29UPU"
    with pytest.raises(RadiometryUnknown, match="unknown"):
        decide_radiometry(read_item(item, "made", sensed_from_datetime=True))


@settings(deadline=None)
@given(
    st.sampled_from(["0205", "0301", "0400", "0511", "9999"]),
    st.sampled_from([None, 0, -0.1]),
    st.sampled_from([None, True, False]),
)
def test_every_answer_is_one_of_the_two_or_a_refusal(baseline: str, offset: float | None, flag: bool | None):
    declare = {} if offset is None else {"raster:offset": offset}
    flags = {} if flag is None else {APPLIED: flag}
    try:
        scale, found = decided(baseline, declare, "sentinel-2-l2a", **flags)
    except (RadiometryContradiction, RadiometryUnknown):
        return
    assert scale == 1e-4
    assert found in {0.0, -0.1}
    if flag:
        assert found == 0.0
    if baseline < "0400":
        assert found == 0.0
