"""kill -9 at every named stage, then a rerun: one published item, no file that nobody names."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from catalog.publishing import published_hrefs
from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.processing import Stage, process_scene
from flows.watching import watch_sources

HELD = """
import sys, time
from flows.assembly import assemble
from flows.processing import process_scene

def hold(stage):
    if stage == sys.argv[2]:
        print("held", flush=True)
        time.sleep(600)

with assemble() as assembly:
    process_scene(assembly, int(sys.argv[1]), actor="victim", on_stage=hold)
"""


def kill_at(stage, scene_id):
    """Run one scene in a process of its own, held at a stage by a barrier, and kill it there."""
    victim = subprocess.Popen(
        [sys.executable, "-c", HELD, str(scene_id), stage], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert victim.stdout.readline().strip() == "held", f"never reached {stage}"
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(Stage))
def test_a_killed_worker_loses_nothing_and_publishes_nothing_by_half(operator_settings, stage):
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        scene = assembly.ledger.due(100)[0]

        kill_at(stage, scene.id)
        assert assembly.published_item(scene) is None
        assert scene.id not in {row.id for row in assembly.ledger.due(100)}, "the dead worker's lease still holds"

        deadline = time.monotonic() + 30
        while scene.id not in {row.id for row in assembly.ledger.due(100)}:
            assert time.monotonic() < deadline, "the lease never ended"
            time.sleep(0.5)
        outcome = process_scene(assembly, scene.id, actor="rescuer")

        assert outcome.state == "published"
        item = assembly.published_item(assembly.ledger.scene(scene.id))
        assert item["properties"]["version"] == "1"
        hrefs = {assembly.store.href(stored.key) for stored in assembly.store.list()}
        assert hrefs == {asset["href"] for asset in item["assets"].values()}
        assert published_hrefs(assembly.database, list(hrefs)) == hrefs
        assert remove_orphans(assembly, older_than=timedelta(0)) == []
