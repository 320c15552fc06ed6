"""The past of an item on both databases: versions, deprecation, retention, and what they leave of the collection."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from catalog.api.links import linked_item
from catalog.boxes import joined
from catalog.changes import ChangeKind, read_changes
from catalog.coverage import covered
from catalog.deprecation import UnknownVersion, UnusableReason, deprecate
from catalog.publishing import published_hrefs, published_item
from catalog.retention import expired_versions, remove_version
from catalog.search.collections import collection as stored_collection
from catalog.search.items import Query, search_items
from catalog.tables import CollectionRecord, ItemRecord
from catalog.versions import REASON, item_version, item_versions
from tests.contract.stac_schemas import problems, require_schemas
from tests.unit.catalog import products
from tests.unit.catalog.products import discovery, put_online, take

COLLECTION = "explains2a-l3-hsi"
K = ChangeKind
NOW = timedelta(0)


@pytest.fixture
def publish(database, ledger, tmp_path):
    """Publish a version of the item of the number-th acquisition."""

    def do(number=0, version=1, **changes):
        revision = changes.pop("revision", f"r{number}-{version}")
        again = discovery(number, baseline=f"05.{version:02d}", source_item_id=f"{number}-{version}")
        (found,) = ledger.discover([again], actor="watch")
        item = products.item(f"item-{number}", revision, **changes)
        put_online(database, ledger, take(ledger, found.scene_id, revision), item, products.settings(tmp_path))
        return item

    return do


@pytest.fixture
def four(publish):
    """An item in four versions."""
    return [publish(version=version) for version in (1, 2, 3, 4)]


def links(item):
    return {link["rel"]: link["href"] for link in item["links"]}


def faults(item):
    """What the published schemas find wrong with an item as it is served."""
    require_schemas()
    return problems(linked_item(item, "https://catalog.example.org/", version=1))


def feed(database):
    return [(change.kind, change.version) for change in read_changes(database).changes]


def collection_of(database):
    return stored_collection(database, COLLECTION)


def test_versions_are_listed_newest_first_page_by_page(database, four):
    first = item_versions(database, COLLECTION, "item-0", limit=3)
    assert ([version.number for version in first.versions], first.next, first.matched) == ([4, 3, 2], 2, 4)
    rest = item_versions(database, COLLECTION, "item-0", limit=3, before=first.next)
    assert ([version.number for version in rest.versions], rest.next, rest.matched) == ([1], None, 4)
    for version in (*first.versions, *rest.versions):
        assert version.body == item_version(database, COLLECTION, "item-0", version.number)
        assert version.body["assets"] == four[version.number - 1]["assets"]


@pytest.mark.usefixtures("four")
def test_there_are_no_versions_of_what_is_not_there(database):
    for collection, item in ((COLLECTION, "none"), ("none", "item-0"), (COLLECTION, "a\0b"), ("a\0b", "item-0")):
        assert item_versions(database, collection, item) is None
        assert item_version(database, collection, item, 1) is None
    assert item_version(database, COLLECTION, "item-0", 5) is None


@pytest.mark.usefixtures("four")
def test_every_version_leads_to_its_neighbours_and_to_the_latest(database):
    rels = [links(item_version(database, COLLECTION, "item-0", version)) for version in (1, 2, 3, 4)]
    assert [rel.get("predecessor-version") for rel in rels] == [
        None, "./item-0/versions/1", "./item-0/versions/2", "./item-0/versions/3",
    ]  # fmt: skip
    assert [rel.get("successor-version") for rel in rels] == [
        "./item-0/versions/2", "./item-0/versions/3", "./item-0/versions/4", None,
    ]  # fmt: skip
    assert {rel["latest-version"] for rel in rels} == {"./item-0"}
    for version in (1, 2, 3, 4):
        assert faults(item_version(database, COLLECTION, "item-0", version)) == []


@pytest.mark.usefixtures("four")
def test_what_was_replaced_is_deprecated_and_the_latest_is_not(database):
    said = [item_version(database, COLLECTION, "item-0", version)["properties"] for version in (1, 3, 4)]
    assert [properties["deprecated"] for properties in said] == [True, True, False]
    assert [properties.get(REASON) for properties in said] == ["replaced by version 2", "replaced by version 4", None]


def test_a_deprecated_item_says_so_wherever_it_is_read(database, publish):
    publish()
    before = collection_of(database)
    done = deprecate(database, COLLECTION, "item-0", reason="  clouds taken for snow ")
    assert (done.version, done.repeated) == (1, False)
    (found,) = search_items(database, Query()).items
    for item in (
        found,
        published_item(database, COLLECTION, "item-0"),
        item_version(database, COLLECTION, "item-0", 1),
    ):
        assert item["properties"]["deprecated"] is True
        assert item["properties"][REASON] == "clouds taken for snow"
        assert item["properties"]["updated"] > item["properties"]["created"]
        assert faults(item) == []
    assert feed(database) == [(K.PUBLISHED, 1), (K.DEPRECATED, 1)]
    after = collection_of(database)
    assert (after["extent"], after["summaries"]) == (before["extent"], before["summaries"])
    assert after["updated"] > before["updated"]


def test_to_deprecate_twice_for_the_same_reason_changes_nothing(database, publish):
    publish()
    deprecate(database, COLLECTION, "item-0", reason="wrong offset")
    assert deprecate(database, COLLECTION, "item-0", reason="wrong offset").repeated
    assert feed(database) == [(K.PUBLISHED, 1), (K.DEPRECATED, 1)]
    assert not deprecate(database, COLLECTION, "item-0", reason="wrong offset, and clouds").repeated


def test_a_dry_run_only_looks(database, publish):
    publish()
    assert deprecate(database, COLLECTION, "item-0", reason="wrong", dry_run=True).version == 1
    assert published_item(database, COLLECTION, "item-0")["properties"]["deprecated"] is False
    assert feed(database) == [(K.PUBLISHED, 1)]


@pytest.mark.usefixtures("four")
def test_an_earlier_version_keeps_its_own_reason_and_the_latest_is_left_alone(database):
    deprecate(database, COLLECTION, "item-0", version=2, reason="wrong offset")
    assert item_version(database, COLLECTION, "item-0", 2)["properties"][REASON] == "wrong offset"
    assert published_item(database, COLLECTION, "item-0")["properties"]["deprecated"] is False
    assert feed(database)[-1] == (K.DEPRECATED, 2)


def test_a_newer_version_of_a_deprecated_item_is_sound_again(database, publish):
    publish()
    deprecate(database, COLLECTION, "item-0", reason="wrong offset")
    publish(version=2)
    latest = published_item(database, COLLECTION, "item-0")["properties"]
    assert (latest["deprecated"], latest.get(REASON)) == (False, None)
    assert item_version(database, COLLECTION, "item-0", 1)["properties"][REASON] == "wrong offset"


@pytest.mark.parametrize(("item", "version"), [("none", None), ("item-0", 2)])
def test_what_is_not_there_cannot_be_deprecated(database, publish, item, version):
    publish()
    with pytest.raises(UnknownVersion, match=item):
        deprecate(database, COLLECTION, item, version=version, reason="wrong")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\x00b"])
def test_a_deprecation_needs_a_reason_that_can_be_read(database, publish, reason):
    publish()
    with pytest.raises(UnusableReason):
        deprecate(database, COLLECTION, "item-0", reason=reason)


@pytest.mark.usefixtures("four")
def test_versions_expire_by_the_time_of_their_replacement_and_the_latest_never(database):
    assert expired_versions(database, older_than=timedelta(hours=1)) == []
    late = datetime.now(UTC) + timedelta(hours=2)
    assert [each.version for each in expired_versions(database, older_than=timedelta(hours=1), now=late)] == [1, 2, 3]
    assert [each.version for each in expired_versions(database, older_than=NOW)] == [1, 2, 3]
    assert all(each.replaced_at.utcoffset() == NOW for each in expired_versions(database, older_than=NOW))
    assert [each.version for each in expired_versions(database, older_than=NOW, keep=1)] == [1, 2]
    assert [each.version for each in expired_versions(database, older_than=NOW, keep=3)] == []
    assert [each.version for each in expired_versions(database, older_than=NOW, limit=2)] == [1, 2]


def test_a_removed_version_leaves_a_tombstone_and_whole_links(database, four):
    expired = {each.version: each for each in expired_versions(database, older_than=NOW)}
    second = [asset["href"] for asset in four[1]["assets"].values()]
    assert sorted(expired[2].hrefs) == sorted(second)
    assert remove_version(database, expired[2])
    assert not remove_version(database, expired[2]), "it is gone already"
    assert remove_version(database, expired[3])
    assert item_version(database, COLLECTION, "item-0", 2) is None
    assert [version.number for version in item_versions(database, COLLECTION, "item-0").versions] == [4, 1]
    assert links(item_version(database, COLLECTION, "item-0", 1))["successor-version"] == "./item-0/versions/4"
    assert links(published_item(database, COLLECTION, "item-0"))["predecessor-version"] == "./item-0/versions/1"
    assert published_hrefs(database, second) == set()
    assert feed(database)[-2:] == [(K.REMOVED, 2), (K.REMOVED, 3)]
    assert remove_version(database, expired[1])
    assert "predecessor-version" not in links(published_item(database, COLLECTION, "item-0"))
    assert search_items(database, Query()).matched == 1


def test_the_latest_is_not_removed_though_it_was_expired_when_listed(database, publish):
    from dataclasses import replace

    publish()
    publish(version=2)
    (first,) = expired_versions(database, older_than=NOW)
    assert not remove_version(database, replace(first, version=2))
    assert published_item(database, COLLECTION, "item-0")["properties"]["version"] == "2"


@pytest.mark.usefixtures("four")
def test_version_numbers_are_never_used_twice(database, publish):
    for each in expired_versions(database, older_than=NOW):
        remove_version(database, each)
    publish(version=5)
    assert published_item(database, COLLECTION, "item-0")["properties"]["version"] == "5"


def test_one_revision_is_never_two_versions(database, publish):
    """The ledger never lets it come so far; if it did, the database refuses."""
    publish(revision="same")
    with pytest.raises(IntegrityError):
        publish(version=2, revision="same")
    assert published_item(database, COLLECTION, "item-0")["properties"]["version"] == "1"


def test_a_collection_shrinks_with_what_is_replaced(database, publish):
    publish(0, bbox=(1.0, 2.0, 3.0, 4.0))
    publish(1, bbox=(5.0, 6.0, 70.0, 8.0), grade="D", sensed=products.SENSED.replace(year=2031), cloud_cover=0.9)
    publish(1, version=2, bbox=(5.0, 6.0, 7.0, 8.0), grade="C", sensed=products.SENSED.replace(year=2027))
    collection = collection_of(database)
    assert collection["extent"]["spatial"]["bbox"] == [[1.0, 2.0, 7.0, 8.0]]
    assert [time[:4] for time in collection["extent"]["temporal"]["interval"][0]] == ["2024", "2027"]
    assert collection["summaries"]["explains2a:grade"] == ["B", "C"]
    assert collection["summaries"]["eo:cloud_cover"] == {"minimum": 12.5, "maximum": 12.5}
    assert "2024-2027" in collection["description"]
    require_schemas()
    assert problems({**collection, "links": []}) == []


def test_what_a_collection_adds_up_is_what_its_items_say(database, publish):
    """Adding item by item and asking all items anew come to the same."""
    for number, west in enumerate((10.0, -20.5, 33.25)):
        publish(
            number, bbox=(west, number, west + 1, number + 0.5), platform=f"sentinel-2{'abc'[number]}",
            quality={"valid_fraction": 0.5 + number / 10}, sensed=products.SENSED + timedelta(days=number),
        )  # fmt: skip
    added = collection_of(database)
    with database.read() as session:
        asked = covered(session, added)
    assert asked["extent"] == added["extent"]
    assert asked["summaries"] == added["summaries"]


def test_a_collection_that_loses_its_items_is_as_it_was_before_the_first(database, publish):
    publish()
    with database.write() as session:
        session.execute(delete(ItemRecord).where(ItemRecord.collection == COLLECTION))
        record = session.get_one(CollectionRecord, COLLECTION)
        record.body = covered(session, record.body)
    collection = collection_of(database)
    assert collection["extent"]["temporal"]["interval"] == [[None, None]]
    assert "explains2a:grade" not in collection["summaries"]
    require_schemas()
    assert problems({**collection, "links": []}) == []


def test_a_collection_around_the_antimeridian_stays_small(database, publish):
    publish(0, bbox=(179.5, -17.0, -179.5, -16.0))
    publish(1, bbox=(177.0, -18.0, 178.0, -17.0))
    publish(2, bbox=(-179.0, -19.0, -178.25, -18.0))
    assert collection_of(database)["extent"]["spatial"]["bbox"] == [[177.0, -19.0, -178.25, -16.0]]
    publish(2, version=2, bbox=(-179.9, -19.0, -179.75, -18.0))
    assert collection_of(database)["extent"]["spatial"]["bbox"] == [[177.0, -19.0, -179.5, -16.0]]


@st.composite
def boxes(draw):
    west = draw(st.floats(-180, 180))
    width = draw(st.floats(0, 300))
    east = west + width if west + width <= 180 else west + width - 360
    return west, -1.0, east, 1.0


def inside(box, longitude):
    west, _, east, _ = box
    return west <= longitude <= east if west <= east else longitude >= west or longitude <= east


@given(st.lists(boxes(), min_size=1, max_size=6))
def test_a_joined_box_holds_all_others_and_is_no_wider_than_the_world(given_boxes):
    whole = joined(given_boxes)
    assert -180 <= whole[0] <= 180
    assert -180 <= whole[2] <= 180
    for west, _, east, _ in given_boxes:
        assert inside(whole, west)
        assert inside(whole, east)
        middle = (west + east) / 2 if west <= east else ((west + east) / 2 + 360) % 360 - 180
        assert inside(whole, middle)
    assert json.loads(json.dumps(whole)) == list(whole)
