"""Workers are processes: of many that want one scene exactly one gets it, on both databases."""

import json
import subprocess
import sys
from datetime import timedelta

from catalog.ledger import SceneState
from tests.unit.catalog.products import discovery

WORKER = """
import json, sys
from datetime import timedelta
from catalog.ledger import Ledger, NotClaimable
from catalog.session import connect, migrate

url, actor, scenes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
migrate(url)
ledger, won = Ledger(connect(url)), []
print("ready", flush=True)
sys.stdin.readline()
for scene in scenes:
    try:
        won.append(ledger.claim(scene, actor=actor, lease=timedelta(hours=1)).scene_id)
    except NotClaimable:
        pass
print(json.dumps(won))
"""


def test_of_many_processes_exactly_one_wins_each_scene(url, ledger):
    scenes = [row.scene_id for row in ledger.discover([discovery(n) for n in range(12)], actor="watch")]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, f"worker-{n}", json.dumps(scenes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(3)
    ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        won = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert sorted(scene for scenes_won in won for scene in scenes_won) == scenes
    assert ledger.counts() == {SceneState.CLAIMED: len(scenes)}
    for number, scenes_won in enumerate(won):
        for scene in scenes_won:
            assert [step.actor for step in ledger.history(scene)] == ["watch", f"worker-{number}"]
    assert all(ledger.scene(scene).attempts == 1 for scene in scenes)


def test_a_killed_process_leaves_its_scene_to_the_next(url, ledger):
    (found,) = ledger.discover([discovery()], actor="watch")
    held = WORKER.replace("timedelta(hours=1)", "timedelta(seconds=0.5)").replace(
        "print(json", "sys.stdin.readline(); print(json"
    )
    with subprocess.Popen(
        [sys.executable, "-c", held, url, "victim", json.dumps([found.scene_id])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as victim:  # fmt: skip
        assert victim.stdout.readline() == "ready\n"
        victim.stdin.write("go\n")
        victim.stdin.flush()
        while ledger.scene(found.scene_id).state is not SceneState.CLAIMED:
            assert victim.poll() is None
        victim.kill()
    while not ledger.release_expired(actor="reconcile"):
        assert ledger.scene(found.scene_id).state is SceneState.CLAIMED
    assert ledger.claim(found.scene_id, actor="heir", lease=timedelta(hours=1)).attempt == 2
