"""Publishing on both databases: all of it or nothing, and only by who holds the claim."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import func, select

from catalog.hydration import dehydrate
from catalog.items import MODEL_COLLECTION
from catalog.ledger import ClaimLost, SceneState
from catalog.publishing import NewerPublished, RevisionMissing, published_hrefs, published_item
from catalog.search.collections import collections
from catalog.search.items import Query, search_items
from catalog.states import IllegalMove
from catalog.tables import AssetRecord, BandTableRecord, ChangeRecord, ItemRecord, ItemVersionRecord
from catalog.versions import item_version
from tests.unit.catalog import products
from tests.unit.catalog.products import HOUR, discovery, put_online, take

COLLECTION = "explains2a-l3-hsi"
S = SceneState


@pytest.fixture
def configured(tmp_path):
    return products.settings(tmp_path)


@pytest.fixture
def publish(database, ledger, configured):
    """Publish an item under a claim."""
    return lambda claim, item, **more: put_online(database, ledger, claim, item, configured, **more)


def new_scene(ledger, number=0, **changes):
    (found,) = ledger.discover([discovery(number, **changes)], actor="watch")
    return found.scene_id


def everything(database):
    """All that publishing may touch."""
    with database.read() as session:
        counts = tuple(
            session.scalar(select(func.count()).select_from(table))
            for table in (ItemRecord, ItemVersionRecord, AssetRecord, ChangeRecord)
        )
    return counts, collections(database)


NOTHING = ((0, 0, 0, 0), {})


def test_a_published_item_is_found_with_its_files_collection_and_model(database, ledger, publish):
    scene, item = new_scene(ledger), products.item()
    done = publish(take(ledger, scene), item)
    assert (done.item_id, done.version, done.superseded) == (item["id"], 1, ())
    stored = published_item(database, COLLECTION, item["id"])
    assert stored["assets"] == item["assets"]
    assert stored["properties"]["version"] == "1"
    row = ledger.scene(scene)
    assert (row.state, row.item_id, row.product_revision) == (S.PUBLISHED, item["id"], "r1")
    held = collections(database)
    assert held[COLLECTION]["extent"]["spatial"]["bbox"] == [item["bbox"]]
    assert held[MODEL_COLLECTION]["extent"]["temporal"]["interval"] == [[products.CARD.trained] * 2]
    assert len(search_items(database, Query(collections=[MODEL_COLLECTION])).items) == 1
    assert everything(database)[0] == (2, 1, len(item["assets"]), 1)


def test_an_error_before_the_commit_leaves_nothing_visible_and_the_claim_intact(database, ledger, publish):
    scene = new_scene(ledger)
    claim = take(ledger, scene)

    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(claim, products.item(), on_stage=fail)
    assert everything(database) == NOTHING
    assert ledger.scene(scene).state is S.PROCESSING
    ledger.heartbeat(claim, HOUR)
    assert publish(claim, products.item()).version == 1


def test_nobody_sees_a_product_before_its_commit(database, ledger, publish):
    seen = []
    publish(take(ledger, new_scene(ledger)), products.item(), on_stage=lambda: seen.append(everything(database)))
    assert seen == [NOTHING]


@pytest.mark.parametrize("retaken", [False, True], ids=["expired", "retaken"])
def test_who_lost_the_claim_publishes_nothing(database, ledger, publish, retaken):
    scene = new_scene(ledger)
    stale = take(ledger, scene, lease=timedelta(milliseconds=100))
    time.sleep(0.2)
    heir = take(ledger, scene, "r2") if retaken else None
    with pytest.raises(ClaimLost):
        publish(stale, products.item())
    assert everything(database) == NOTHING
    if heir:
        assert publish(heir, products.item(revision="r2")).version == 1


def test_a_claim_publishes_once(database, ledger, publish):
    claim = take(ledger, new_scene(ledger))
    publish(claim, products.item())
    before = everything(database)
    with pytest.raises(ClaimLost):
        publish(claim, products.item(revision="r2"))
    assert everything(database) == before


def test_who_does_not_know_whether_the_commit_arrived_may_publish_again(database, ledger, publish):
    claim = take(ledger, new_scene(ledger))
    first = publish(claim, products.item())
    before = everything(database), ledger.history(claim.scene_id)
    again = publish(claim, products.item())
    assert (again.version, again.repeated, first.repeated) == (1, True, False)
    assert (everything(database), ledger.history(claim.scene_id)) == before


def test_another_attempts_files_are_not_taken_for_the_published_ones(database, ledger, publish):
    """A worker that lost its claim to one that published the same revision must learn that its own files are waste."""
    scene = new_scene(ledger)
    slow = take(ledger, scene, lease=timedelta(milliseconds=100))
    time.sleep(0.2)
    publish(take(ledger, scene), products.item())
    before = everything(database)
    with pytest.raises(ClaimLost):
        publish(slow, products.item(assets=products.files("attempt-of-the-slow-one")))
    assert everything(database) == before


def test_bands_are_stored_once_and_come_back_whole(database, ledger, publish):
    made = [products.item(f"item-{n}", f"r{n}") for n in range(3)]
    for n, item in enumerate(made):
        publish(take(ledger, new_scene(ledger, n), f"r{n}"), item)
    with database.read() as session:
        kept = session.scalar(select(func.count()).select_from(BandTableRecord))
        bodies = session.scalars(select(ItemRecord.body)).all()
    assert kept == len(dehydrate(made[0])[1])
    assert all(not isinstance(asset.get("bands"), list) for body in bodies for asset in body["assets"].values())
    for item in made:
        assert published_item(database, COLLECTION, item["id"])["assets"] == item["assets"]
        assert item_version(database, COLLECTION, item["id"], 1)["assets"] == item["assets"]
    found = search_items(database, Query()).items
    assert [each["assets"] for each in found] == [each["assets"] for each in reversed(made)]


def test_bands_of_a_later_model_leave_earlier_items_as_they_were(database, ledger, publish):
    before = products.item("before", "r1")
    publish(take(ledger, new_scene(ledger)), before)
    after = products.item("after", "r2")
    for band in after["assets"]["uncertainty"]["bands"]:
        band["raster:scale"] *= 2
    publish(take(ledger, new_scene(ledger, 1), "r2"), after)
    assert published_item(database, COLLECTION, "before")["assets"] == before["assets"]
    assert published_item(database, COLLECTION, "after")["assets"] == after["assets"]


def test_the_collection_follows_the_software_and_keeps_what_was_brought_together(database, ledger, configured):
    put_online(database, ledger, take(ledger, new_scene(ledger)), products.item(bbox=(1.0, 2.0, 3.0, 4.0)), configured)
    renamed = configured.model_copy(update={"provider_name": "Another operator"})
    second = products.item("second", "r2", bbox=(5.0, 6.0, 7.0, 8.0), grade="D")
    put_online(database, ledger, take(ledger, new_scene(ledger, 1), "r2"), second, renamed)
    collection = collections(database)[COLLECTION]
    assert "Another operator" in {provider["name"] for provider in collection["providers"]}
    assert collection["extent"]["spatial"]["bbox"] == [[1.0, 2.0, 7.0, 8.0]]
    assert collection["summaries"]["explains2a:grade"] == ["B", "D"]


def test_a_claim_that_never_began_cannot_publish(database, ledger, publish):
    scene = new_scene(ledger)
    claim = ledger.claim(scene, actor="a", lease=HOUR)
    with pytest.raises(IllegalMove):
        publish(claim, products.item())
    assert everything(database) == NOTHING
    assert ledger.scene(scene).state is S.CLAIMED


def test_an_item_without_product_revision_is_refused(database, ledger, publish):
    item = products.item()
    del item["properties"]["explains2a:product_revision"]
    with pytest.raises(RevisionMissing, match="product_revision"):
        publish(take(ledger, new_scene(ledger)), item)
    assert everything(database) == NOTHING


def test_a_newer_source_revision_becomes_version_two_and_the_first_stays(database, ledger, publish):
    old = new_scene(ledger)
    publish(take(ledger, old), products.item())
    new = new_scene(ledger, baseline="05.11", source_item_id="again")
    done = publish(take(ledger, new, "r2"), products.item(revision="r2"))
    assert (done.version, done.superseded) == (2, (old,))
    assert [ledger.scene(scene).state for scene in (old, new)] == [S.SUPERSEDED, S.PUBLISHED]
    assert ledger.history(old)[-1].after is S.SUPERSEDED

    (latest,) = search_items(database, Query()).items
    assert latest["properties"]["version"] == "2"
    (before,) = [link for link in latest["links"] if link["rel"] == "predecessor-version"]
    assert before["href"].endswith(f"{latest['id']}/versions/1")
    with database.read() as session:
        versions = session.scalars(select(ItemVersionRecord).order_by(ItemVersionRecord.version)).all()
        assert [(v.version, v.product_revision, v.scene_id) for v in versions] == [(1, "r1", old), (2, "r2", new)]
        assert versions[0].body["assets"] != versions[1].body["assets"]
    for revision in ("r1", "r2"):
        hrefs = [file["href"] for file in products.item(revision=revision)["assets"].values()]
        assert published_hrefs(database, hrefs) == set(hrefs), "no version's files are orphans"


def test_an_older_revision_that_finishes_late_changes_nothing(database, ledger, publish):
    old = new_scene(ledger)
    slow = take(ledger, old)
    new = new_scene(ledger, baseline="05.11", source_item_id="again")
    assert publish(take(ledger, new, "r2"), products.item(revision="r2")).superseded == ()
    before = everything(database)
    with pytest.raises(NewerPublished, match=r"05\.11"):
        publish(slow, products.item())
    assert everything(database) == before
    ledger.heartbeat(slow, HOUR)


def test_waiting_older_revisions_are_superseded_too(ledger, publish):
    waiting = new_scene(ledger)
    failed = new_scene(ledger, baseline="05.10", generated=products.SENSED + 9 * HOUR, source_item_id="b")
    ledger.fail(take(ledger, failed), error_class="E", message="m", transient=True)
    other = new_scene(ledger, region="other", source_item_id="c")
    newest = new_scene(ledger, baseline="05.11", source_item_id="d")
    assert set(publish(take(ledger, newest), products.item()).superseded) == {waiting, failed}
    assert ledger.scene(other).state is S.DISCOVERED
    assert [row.id for row in ledger.due()] == [other]


def test_revisions_finishing_at_once_leave_the_newest_visible(database, ledger, publish):
    old = new_scene(ledger)
    new = new_scene(ledger, baseline="05.11", source_item_id="again")
    work = [(take(ledger, old), products.item()), (take(ledger, new, "r2"), products.item(revision="r2"))]
    barrier = Barrier(2)

    def finish(each):
        barrier.wait()
        try:
            return publish(*each).version
        except NewerPublished:
            return None

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(finish, work))
    (visible,) = search_items(database, Query()).items
    assert visible["properties"]["explains2a:product_revision"] == "r2"
    assert ledger.scene(new).state is S.PUBLISHED
    assert ledger.scene(old).state in {S.SUPERSEDED, S.PROCESSING}


def test_products_published_at_once_all_count(database, ledger, publish):
    """The first publications of all: collections are made once, extents lose nothing, the feed has its order."""
    number = 8
    claims = [take(ledger, new_scene(ledger, n)) for n in range(number)]
    boxes = [(float(n), -float(n), n + 0.5, n + 1.0) for n in range(number)]
    made = [products.item(f"item-{n}", bbox=boxes[n]) for n in range(number)]
    barrier = Barrier(number)

    def finish(each):
        barrier.wait()
        return publish(*each)

    with ThreadPoolExecutor(number) as pool:
        assert {done.version for done in pool.map(finish, zip(claims, made, strict=True))} == {1}
    assert collections(database)[COLLECTION]["extent"]["spatial"]["bbox"] == [[0.0, -7.0, 7.5, 8.0]]
    with database.read() as session:
        feed = session.scalars(select(ChangeRecord).order_by(ChangeRecord.sequence)).all()
    assert sorted(change.item_id for change in feed) == sorted(item["id"] for item in made)
    assert [change.sequence for change in feed] == list(range(feed[0].sequence, feed[0].sequence + number))
    assert [change.at for change in feed] == sorted(change.at for change in feed)


def test_a_reader_of_the_feed_never_misses_a_change(database, ledger, publish):
    """No change appears behind a sequence number that a reader has seen already."""
    first, second = (take(ledger, new_scene(ledger, n)) for n in range(2))

    def feed():
        with database.read() as session:
            return session.scalars(select(ChangeRecord.item_id).order_by(ChangeRecord.sequence)).all()

    with ThreadPoolExecutor(1) as pool:
        later = []

        def overtake():
            later.append(pool.submit(publish, second, products.item("b")))
            with pytest.raises(TimeoutError):
                later[0].result(0.5)
            assert feed() == []

        publish(first, products.item("a"), on_stage=overtake)
        later[0].result(10)
    assert feed() == ["a", "b"]


def test_only_published_addresses_are_named(database, ledger, publish):
    item = products.item()
    publish(take(ledger, new_scene(ledger)), item)
    mine = [asset["href"] for asset in item["assets"].values()]
    strange = [f"s3://bucket/orphan-{n}" for n in range(1200)]
    assert published_hrefs(database, strange + mine) == set(mine)
    assert published_hrefs(database, []) == set()


def test_numbers_that_json_lacks_are_refused(database, ledger, publish):
    item = products.item()
    item["properties"]["explains2a:valid_fraction"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        publish(take(ledger, new_scene(ledger)), item)
    assert everything(database) == NOTHING
