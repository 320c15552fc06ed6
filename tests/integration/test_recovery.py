"""What happens beside the straight way: interruptions, late revisions, other people's files, clocks that lie."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.processing import Stage, process_scene
from flows.watching import watch_sources


def test_an_interrupted_worker_gives_its_scene_back_at_once(operator_settings):
    def interrupt(stage):
        if stage is Stage.VERIFIED:
            raise KeyboardInterrupt

    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        scene = assembly.ledger.due(1)[0]
        with pytest.raises(KeyboardInterrupt):
            process_scene(assembly, scene.id, actor="test", on_stage=interrupt)
        assert scene.id in {row.id for row in assembly.ledger.due(100)}
        assert list(assembly.store.list()) == []
        assert process_scene(assembly, scene.id, actor="test").state == "published"


def test_cleaning_touches_neither_other_peoples_files_nor_work_in_progress(operator_settings):
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        scene = assembly.ledger.due(1)[0]
        assembly.store.put("other/precious.txt", b"mine", content_type="text/plain")

        def clean(stage):
            if stage is Stage.PUBLISHING:
                assert remove_orphans(assembly, older_than=timedelta(0)) == []

        assert process_scene(assembly, scene.id, actor="test", on_stage=clean).state == "published"
        assert remove_orphans(assembly, older_than=timedelta(0)) == []
        assert assembly.store.get("other/precious.txt") == b"mine"
        item = assembly.published_item(assembly.ledger.scene(scene.id))
        for asset in item["assets"].values():
            assert os.path.exists(asset["href"].removeprefix("file://"))  # noqa: PTH110 - as a consumer would look


def test_cleaning_with_an_empty_ledger_removes_nothing(operator_settings, tmp_path):
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        process_scene(assembly, assembly.ledger.due(1)[0].id, actor="test")
        before = [stored.key for stored in assembly.store.list()]
    storage = {"url": operator_settings.resolved_storage.url}
    stranger = operator_settings.model_copy(
        update={
            "home": tmp_path / "stranger",
            "storage": operator_settings.storage.model_copy(update=storage),
        }
    )
    with assemble(stranger) as other:
        assert remove_orphans(other, older_than=timedelta(0)) == []
        assert [stored.key for stored in other.store.list()] == before


def test_an_older_revision_that_finishes_late_is_superseded_not_a_failure(tmp_path, demo_scenes, operator_settings):
    inbox = tmp_path / "inbox"
    (source,) = [p for p in demo_scenes.items.rglob("*.json") if p.stem.endswith("87_48")]
    shutil.copytree(source.parent, inbox)
    newer = inbox / "newer.json"
    item = json.loads((inbox / source.name).read_text())
    item["id"] += "_newer"
    item["properties"]["s2:processing_baseline"] = "05.00"
    patches = operator_settings.sources[0].model_copy(update={"path": inbox})
    settings = operator_settings.model_copy(update={"sources": (patches,)})
    with assemble(settings) as assembly:
        watch_sources(assembly, actor="test")
        (older,) = assembly.ledger.due(10)

        def overtake(stage):
            if stage is Stage.PUBLISHING:
                newer.write_text(json.dumps(item))
                watch_sources(assembly, actor="test")
                (late,) = assembly.ledger.due(10)
                assert process_scene(assembly, late.id, actor="test").state == "published"

        outcome = process_scene(assembly, older.id, actor="test", on_stage=overtake)
        assert outcome.state == "superseded"
        assert assembly.ledger.scene(older.id).state == "superseded"
        assert remove_orphans(assembly, older_than=timedelta(0)) == []


def test_an_item_dated_in_the_future_hides_nothing_that_comes_later(operator_settings, tmp_path, demo_scenes):
    inbox = tmp_path / "inbox"
    shutil.copytree(demo_scenes.items, inbox)
    for number, path in enumerate(sorted(inbox.rglob("*.json"))):
        item = json.loads(path.read_text())
        item["properties"]["created"] = item["properties"]["updated"] = "2099-01-01T00:00:00Z"
        if number:
            path.rename(path.with_suffix(".later"))
        path.write_text(json.dumps(item)) if not number else None
    patches = operator_settings.sources[0].model_copy(update={"path": inbox})
    with assemble(operator_settings.model_copy(update={"sources": (patches,)})) as assembly:
        watch_sources(assembly, actor="test")
        marks = [assembly.ledger.watermark("patches", region.id) for region in assembly.regions]
        assert all(mark is None or mark <= datetime.now(UTC) for mark in marks)
        for path in inbox.rglob("*.later"):
            path.rename(path.with_suffix(".json"))
        assert len(watch_sources(assembly, actor="test").new_scenes) == 7 - sum(mark is not None for mark in marks)


def test_ctrl_c_ends_the_command_and_leaves_the_scene_due(operator_settings):
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        scene = assembly.ledger.due(1)[0]
        held = (
            "import signal, sys, time, flows.processing as p\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it\n"
            "from flows.assembly import assemble\n"
            "def hold(stage):\n"
            "    if stage == 'writing': print('held', flush=True); time.sleep(600)\n"
            "with assemble() as a: p.process_scene(a, int(sys.argv[1]), actor='t', on_stage=hold)\n"
        )
        victim = subprocess.Popen(
            [sys.executable, "-c", held, str(scene.id)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        with victim:
            assert victim.stdout.readline().strip() == "held"
            victim.send_signal(signal.SIGINT)
            try:
                victim.wait(timeout=60)
            finally:
                victim.kill()
        assert scene.id in {row.id for row in assembly.ledger.due(100)}
