"""Every fault by itself on a few scenes; after each the account must come out even."""

import signal
import time
from datetime import UTC, datetime

import pytest

from catalog.states import SceneState
from tests.campaign.account import Fate, account
from tests.campaign.disk import small_disk
from tests.campaign.house import EVERYWHERE, LEASE_S, house
from tests.campaign.locks import locked_feed
from tests.campaign.processes import PATIENCE_S, eventually, kill, kill_service, run_process
from tests.campaign.scenes import WHOLE

REGION = EVERYWHERE["id"]
POLL_S = 3
"""Seconds between two looks."""


def published(*cuts):
    return {(cut.acquisition, REGION): Fate() for cut in cuts}


def at(cut, *, put="", get=""):
    """The request with which a scene's file is written or read back."""
    return rf"{'PUT' if put else 'GET'} /products/.*{cut.acquisition}.*/{put or get}"


def test_two_watchers_and_three_workers_at_once(place, cuts, tell):
    scenes = cuts(6)
    place.offer(*scenes)
    watchers = [place.start("watch") for _ in range(2)]
    assert [one.wait(120) for one in watchers] == [0, 0]
    assert place.ledger.counts() == {SceneState.DISCOVERED: 6}
    workers = [place.start("process", "--due") for _ in range(3)]
    for one in workers:
        one.wait(240)  # who finds a scene taken says so and ends with 1
    place.finish()
    told = account(place.assembly, "two watchers and three workers at once", published(*scenes))
    assert told.attempts == 6
    tell(str(told))


def test_s3_is_killed_in_mid_upload_and_comes_back(place, drill_s3, cuts, tell):
    """A larger scene goes out in parts; the server dies while one is on the wire."""
    (large,) = cuts(1, grown=2, window=WHOLE)
    others = cuts(2, first=1)
    place.offer(large, *others)
    place.look()
    hold = place.s3_door.hold(at(large, put=r"hsi\.tif\?.*partNumber=2"))
    workers = [place.start("process", str(place.scene(cut).id)) for cut in (large, *others)]
    hold.wait()
    drill_s3.kill()
    hold.release()
    drill_s3.start()
    for one in workers:
        one.wait(240)
    place.finish()
    tell(str(account(place.assembly, "S3 killed in mid-upload", published(large, *others))))


def test_s3_is_away_for_longer_than_every_try(place, drill_s3, cuts, tell):
    scenes = cuts(3)
    place.offer(*scenes)
    place.look()
    hold = place.s3_door.hold(at(scenes[0], put=r"hsi\.tif"))
    workers = [place.start("process", str(place.scene(cut).id)) for cut in scenes]
    hold.wait()
    drill_s3.stop()
    away = time.monotonic()
    try:
        hold.release()
        for one in workers:
            one.wait(240)
        failed = [row for row in map(place.scene, scenes) if row.state is SceneState.FAILED]
    finally:
        drill_s3.start()  # the drills after this one need it, whatever becomes of this one
    away = time.monotonic() - away
    assert scenes[0].acquisition in {row.acquisition for row in failed}
    # Whoever was reading back meanwhile could not; both errors may pass and are tried again.
    assert {row.error_class for row in failed} <= {"StorageUnavailable", "VerificationFailed"}
    place.finish()
    told = account(place.assembly, f"S3 stopped for {away:.0f} s, longer than all tries", published(*scenes))
    tell(f"{told}; {len(failed)} scenes failed meanwhile and were tried again")


def test_postgresql_is_restarted_while_scenes_are_written_and_published(place, drill_postgres, cuts, tell):
    scenes = cuts(4)
    place.offer(*scenes)
    place.look()
    writing = place.s3_door.hold(at(scenes[0], put=r"hsi\.tif"))
    verifying = place.s3_door.hold(at(scenes[1], get=r"hsi\.tif"))
    with locked_feed(place.database_url) as feed:
        workers = [place.start("process", str(place.scene(cut).id)) for cut in scenes[:3]]
        writing.wait()
        verifying.wait()
        feed.wait()
        drill_postgres.crash()
    time.sleep(3)  # long enough that heartbeats find nobody
    drill_postgres.restart()
    writing.release()
    verifying.release()
    for one in workers:
        one.wait(240)
    place.finish()
    tell(str(account(place.assembly, "PostgreSQL killed and restarted", published(*scenes))))


def test_a_full_disk_stops_what_does_not_fit_and_nothing_else(tmp_path, drill_postgres, cuts, tell):
    """A real file system with room for one product and a half; then it is given more."""
    scenes = cuts(3, window=WHOLE)
    with small_disk(9) as disk:
        url = drill_postgres.fresh_database()
        with house(tmp_path, url, storage_url=(disk.folder / "products").as_uri()) as place:
            place.offer(*scenes)
            place.look()
            place.run("process", "--due")
            states = [place.scene(cut) for cut in scenes]
            assert [row.state for row in states] == [SceneState.PUBLISHED, SceneState.FAILED, SceneState.FAILED]
            assert {row.error_class for row in states[1:]} == {"StorageFull"}
            disk.resize(64)
            place.finish()
            tell(str(account(place.assembly, "disk full at the second of three scenes", published(*scenes))))


@pytest.mark.parametrize("where", ["before it publishes", "inside the publishing transaction"])
def test_a_worker_that_slept_past_its_lease_is_fenced_off(place, cuts, tell, where):
    scenes = cuts(3)
    place.offer(*scenes)
    place.look()
    sleeper = place.scene(scenes[0])
    if where == "before it publishes":
        hold = place.s3_door.hold(at(scenes[0], put=r"report\.json"))
        frozen = place.start("process", str(sleeper.id))
        hold.wait()
        frozen.send_signal(signal.SIGSTOP)
        hold.release()
    else:
        with locked_feed(place.database_url) as feed:
            frozen = place.start("process", str(sleeper.id))
            feed.wait()
            frozen.send_signal(signal.SIGSTOP)
    eventually("its lease ends", lambda: sleeper.id in place.ledger.expired(), seconds=4 * LEASE_S)
    place.finish()
    rescued = place.scene(scenes[0])
    assert (rescued.state, rescued.attempts) == (SceneState.PUBLISHED, 2)
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(90) == 1, "it must say that it failed"
    assert "ClaimLost" in place.said_by(frozen) or "has ended" in place.said_by(frozen)
    assert place.scene(scenes[0]) == rescued
    tell(str(account(place.assembly, f"a worker frozen past its lease {where}, then awake", published(*scenes))))


def test_a_process_run_is_killed_at_each_stage(place, prefect, cuts, tell):
    """Five real flow runs, each held by the server that it waits for, killed there, and made again."""
    stages = ["loading and gates", "production", "verify", "registration", "publish"]
    scenes = dict(zip(stages, cuts(len(stages)), strict=True))
    holds = [
        place.files_door.hold(f"{scenes['loading and gates'].product}/B02"),
        place.s3_door.hold(at(scenes["production"], put=r"hsi\.tif")),
        place.s3_door.hold(at(scenes["verify"], get=r"hsi\.tif")),
        place.s3_door.hold(at(scenes["registration"], put=r"report\.json")),
    ]
    place.offer(*scenes.values())
    worker = place.worker(prefect, "worker-1")
    with locked_feed(place.database_url) as feed:
        assert len(place.schedule(prefect)) == len(stages)
        for hold in holds:
            hold.wait()
        feed.wait()
        runs = [place.flow_run(cut) for cut in scenes.values()]
        victims = [run_process(worker.pid, run) for run in runs]
        assert None not in victims, "every run is a process of its own"
        kill(*victims)
    for hold in holds:
        hold.release()
    eventually("the worker tells of the crashes", lambda: prefect.run_states(*runs) == ["CRASHED"] * len(runs))
    kill_service(worker)
    place.finish()
    told = account(place.assembly, f"process runs killed at {', '.join(stages)}", published(*scenes.values()))
    assert told.attempts == 2 * len(stages)
    tell(str(told))


def test_a_worker_is_killed_with_its_runs(place, prefect, cuts, tell):
    """As a machine that fails: nobody tells, the lease ends, the next look hands the scenes to another worker."""
    scenes = cuts(3)
    holds = [place.s3_door.hold(at(cut, put=r"hsi\.tif")) for cut in scenes]
    place.offer(*scenes)
    first = place.worker(prefect, "worker-1")
    place.schedule(prefect)
    for hold in holds:
        hold.wait()
    killed = datetime.now(UTC)
    kill_service(first)
    for hold in holds:
        hold.release()
    place.worker(prefect, "worker-2")
    ids = [place.scene(cut).id for cut in scenes]
    looks = 0
    while not place.rests():
        looks += 1
        place.schedule(prefect)
        spent = (datetime.now(UTC) - killed).total_seconds()
        assert spent < PATIENCE_S, place.ledger.counts()
        time.sleep(max(0.0, looks * POLL_S - spent))
    told = account(place.assembly, "a worker killed with its three runs", published(*scenes))
    assert told.attempts == 2 * len(scenes)
    tell(f"{told}; {recovery(place, ids, killed)}")


def recovery(place, scene_ids, killed):
    """Say how long after a kill scenes were handed out again, and claimed again."""
    returned, claimed = [], []
    for scene in scene_ids:
        after = [step for step in place.ledger.history(scene) if step.at > killed]
        returned.append(next((s.at - killed).total_seconds() for s in after if s.after is SceneState.DISCOVERED))
        claimed.append(next((s.at - killed).total_seconds() for s in after if s.after is SceneState.CLAIMED))
    return (
        f"returned {min(returned):.1f} to {max(returned):.1f} s after the kill (lease {LEASE_S} s + look every "
        f"{POLL_S} s), claimed by their new runs after {min(claimed):.1f} to {max(claimed):.1f} s"
    )


def test_the_prefect_server_is_killed_and_restarted(place, prefect, cuts, tell):
    """Runs under way go on without it; afterwards new ones are taken as ever."""
    scenes = cuts(3)
    late = scenes.pop()
    holds = [place.s3_door.hold(at(cut, put=r"hsi\.tif")) for cut in scenes]
    place.offer(*scenes)
    place.worker(prefect, "worker-1")
    place.schedule(prefect)
    for hold in holds:
        hold.wait()
    runs = [place.flow_run(cut) for cut in scenes]
    prefect.kill()
    for hold in holds:
        hold.release()
    eventually("scenes are published without Prefect", place.rests)
    prefect.start()
    place.offer(late)
    place.schedule(prefect)
    eventually("a scene that came later is published", place.rests)
    final = {"COMPLETED", "CRASHED", "FAILED"}
    states = eventually("all runs ended", lambda: (s := prefect.run_states(*runs)) and set(s) <= final and s)
    assert states == ["COMPLETED"] * len(runs), "a run whose scene was published is not red"
    tell(str(account(place.assembly, "Prefect's server killed and restarted", published(*scenes, late))))
