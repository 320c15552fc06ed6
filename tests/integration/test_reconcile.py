"""Source, ledger, store and catalog held against each other, over real products that are then damaged in every way."""

import shutil
import time
from collections import Counter
from datetime import date, timedelta
from urllib.parse import urlparse

import pytest
from sqlalchemy import text

from flows.assembly import assemble
from flows.processing import process_scene
from flows.reconciling import Kind, Scope, reconcile
from flows.watching import watch_sources

DAYS = {"begin": date(2015, 1, 1), "end": date(2030, 1, 1), "sample": 1000, "orphan_hours": 0}


@pytest.fixture
def job(operator_settings, tmp_path, demo_scenes):
    """Two published scenes of seven, from a folder that can be changed."""
    inbox = tmp_path / "inbox"
    shutil.copytree(demo_scenes.items, inbox)
    patches = operator_settings.sources[0].model_copy(update={"path": inbox})
    with assemble(operator_settings.model_copy(update={"sources": (patches,)})) as assembly:
        watch_sources(assembly, actor="test")
        published = []
        for row in assembly.ledger.due():
            if len(published) < 2 and process_scene(assembly, row.id, actor="test").state == "published":
                published.append(assembly.ledger.scene(row.id))
        yield assembly, published, inbox


def look(assembly, **changes):
    return reconcile(assembly, Scope(**{**DAYS, **changes}), actor="test")


def of(report, kind):
    return [one for one in report.found if one.kind is kind]


def file_of(assembly, row, asset):
    from pathlib import Path

    return Path(urlparse(assembly.published_item(row)["assets"][asset]["href"]).path)


def change(assembly, statement, **values):
    with assembly.database.write() as session:
        session.execute(text(statement), values)


def test_what_agrees_is_counted_day_by_day_and_nothing_is_found(job):
    assembly, published, _ = job
    report = look(assembly)
    assert report.found == []
    assert report.files_checked == report.files_hashed > 20
    rows = assembly.ledger.scenes(limit=100)
    assert sum(day.known for day in report.days) == len(rows)
    assert sum(day.published for day in report.days) == len(published)
    assert sum(day.offered for day in report.days) == len({(row.acquisition, row.region) for row in rows})
    states = Counter(row.state for row in rows)
    assert sum(sum(day.rejected.values()) for day in report.days) == states["rejected"]
    assert sum(day.waiting for day in report.days) == states["discovered"]
    assert not any(day.missing for day in report.days)


def test_damage_of_every_kind_is_told_and_only_what_is_safe_is_put_right(job):
    assembly, (first, second), inbox = job
    untouched = assembly.ledger.due()
    lost, corrupt = file_of(assembly, first, "explanation"), file_of(assembly, second, "qa")
    lost.unlink()
    content = bytearray(corrupt.read_bytes())
    content[-1] ^= 1
    corrupt.chmod(0o644)
    corrupt.write_bytes(content)
    assembly.store.put("other/precious.txt", b"mine", content_type="text/plain")
    folder = next(one.key for one in assembly.store.list() if first.product_revision in one.key).rpartition("/")[0]
    orphan = folder.rpartition("-")[0] + "-00000000/hsi.tif"
    assembly.store.put(orphan, b"left behind", content_type="image/tiff")
    stale = assembly.ledger.claim(untouched[0].id, actor="dead", lease=timedelta(hours=1))
    change(assembly, "UPDATE scenes SET lease_until = :t WHERE id = :i", t=time.time() - 1, i=stale.scene_id)
    gone = next(p for p in inbox.rglob("*.json") if untouched[1].source_item_id in p.read_text())
    gone.unlink()
    unknown = untouched[2]
    change(assembly, "DELETE FROM transitions WHERE scene_id = :i", i=unknown.id)
    change(assembly, "DELETE FROM deliveries WHERE scene_id = :i", i=unknown.id)
    change(assembly, "DELETE FROM scenes WHERE id = :i", i=unknown.id)

    before = assembly.ledger.counts()
    would = look(assembly, dry_run=True, repair=True)
    assert assembly.ledger.counts() == before, "a dry run changes nothing"
    assert orphan in {one.key for one in assembly.store.list()}
    report = look(assembly)
    assert [(one.kind, one.subject) for one in report.found] == [(one.kind, one.subject) for one in would.found]

    assert [one.subject for one in of(report, Kind.STALE)] == [untouched[0].acquisition]
    assert untouched[0].id in assembly.ledger.due_ids()
    assert [one.subject for one in of(report, Kind.MISSING)] == [unknown.acquisition]
    assert unknown.acquisition in {row.acquisition for row in assembly.ledger.due()}
    assert [one.subject for one in of(report, Kind.EXTRA)] == [untouched[1].acquisition]
    assert [one.subject for one in of(report, Kind.ORPHANED)] == [orphan]
    (lost_one,), (corrupt_one,) = of(report, Kind.LOST), of(report, Kind.CORRUPT)
    assert lost_one.subject == lost.as_uri()
    assert corrupt_one.subject == corrupt.as_uri()
    assert lost_one.repair == corrupt_one.repair == ""
    assert report.requeued == []
    left = {one.key for one in assembly.store.list()}
    assert orphan not in left
    assert "other/precious.txt" in left
    assert [one.subject for one in of(report, Kind.FOREIGN)] == ["other/precious.txt"]

    repaired = look(assembly, repair=True)
    assert sorted(repaired.requeued) == sorted([first.id, second.id])
    for row in (first, second):
        item = assembly.ledger.scene(row.id).item_id
        assert process_scene(assembly, row.id, actor="test").state == "published"
        made = assembly.published_item(assembly.ledger.scene(row.id))
        assert (made["id"], made["properties"]["version"], made["properties"]["deprecated"]) == (item, "2", False)
    after = look(assembly, repair=True)
    assert after.requeued == []
    assert {one.subject for one in (*of(after, Kind.LOST), *of(after, Kind.CORRUPT))} == {
        lost.as_uri(), corrupt.as_uri()
    }, "only the replaced versions still name damaged files"  # fmt: skip


def test_ledger_and_catalog_that_disagree_are_told_and_left_alone(job):
    assembly, (first, second), _ = job
    change(assembly, "DELETE FROM items WHERE id = :i", i=first.item_id)
    change(assembly, "UPDATE scenes SET state = 'rejected' WHERE id = :i", i=second.id)
    report = look(assembly, repair=True)
    assert [one.subject for one in of(report, Kind.NO_ITEM)] == [first.item_id]
    assert [one.subject for one in of(report, Kind.NO_SCENE)] == [second.item_id]
    assert len(report.found) == 2
    assert len(report.open()) == 2


def test_a_silent_source_leaves_its_count_unknown_and_accuses_nobody(job):
    assembly, _, inbox = job
    shutil.rmtree(inbox)
    report = look(assembly)
    assert {one.kind for one in report.found} == {Kind.SILENT}
    assert {day.offered for day in report.days} == {None}
