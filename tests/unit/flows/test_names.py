"""Names are made in one place and can be read back."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from flows.names import attempt_of, item_id, product_keys, product_revision
from infra.settings import ProductSettings, Region
from infra.sources.acquisition import Acquisition, AcquisitionKey, SourceRevision

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
REGION = Region(id="mine", geometry=SQUARE)


def acquisition(baseline="05.11", generated=None):
    key = AcquisitionKey("sentinel-2a", datetime(2017, 6, 17, 11, 33, 21, tzinfo=UTC), "29UPU", 80)
    revision = SourceRevision(baseline, generated, "provider")
    return Acquisition(
        key, revision, "source", "id", {}, SQUARE, (0, 0, 1, 1), key.sensed, None, None, None, {}
    )  # fmt: skip


def revision(region=REGION, product=None, model="m", **changes):
    return product_revision(acquisition(**changes), region, product or ProductSettings(), model)


def test_the_item_is_named_by_acquisition_and_region_alone():
    assert item_id(acquisition(), REGION) == "S2A_20170617T113321_29UPU_R080_mine"
    assert item_id(acquisition(baseline="04.00"), REGION) == item_id(acquisition(), REGION)


def test_whatever_changes_pixels_changes_the_revision_and_nothing_else_does():
    same = revision()
    moved = {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2], [0, 0]]]}
    others = {
        revision(baseline="04.00"),
        revision(generated=datetime(2020, 1, 1, tzinfo=UTC)),
        revision(region=REGION.model_copy(update={"geometry": moved})),
        revision(product=ProductSettings(hsi=False)),
        revision(model="other"),
    }
    assert len(others | {same}) == 6
    assert revision(region=REGION.model_copy(update={"title": "x", "cloud_limit": 0.1})) == same
    whole = REGION.model_copy(update={"crop": False})
    assert revision(region=whole) == revision(region=whole.model_copy(update={"geometry": moved}))


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.sampled_from(["hsi.tif", "report.json"]))
def test_a_key_tells_its_attempt(token, name):
    key = product_keys(acquisition(), REGION, revision(), token).file(name)
    found = attempt_of(key)
    assert (found.revision, found.token) == (revision(), token[:8])


def test_other_peoples_files_are_nobodys_attempt():
    for key in ("precious.txt", "other/precious.txt", "29UPU/2017/06/item/notes/readme.txt", "a/b/c/d/e/f"):
        assert attempt_of(key) is None
