"""One campaign: three regions, two services, 65 acquisitions out of order, and every fault of the drills."""

import signal
import time
from collections import Counter
from contextlib import ExitStack

import psutil
import pytest

from catalog.states import SceneState
from tests.campaign.account import account
from tests.campaign.crew import Crew
from tests.campaign.disk import small_disk
from tests.campaign.house import house
from tests.campaign.locks import locked_feed
from tests.campaign.plan import REGIONS, make_plan, region_features
from tests.campaign.processes import eventually, kill, kill_service, owner
from tests.campaign.watcher import Postman, Watcher
from tests.seaweed import Seaweed

SEED = 6
ROOM_MB = 6000
OUTAGE_S, AWAY_S = 20, 60
STAGES = {"production": r"PUT .*/hsi\.tif", "verify": r"GET .*/hsi\.tif", "registration": r"PUT .*/report\.json"}


@pytest.fixture
def disk():
    with small_disk(ROOM_MB) as mounted:
        yield mounted


@pytest.fixture
def s3(disk):
    """An S3 server whose own disk can be made full."""
    server = Seaweed(disk.folder).start()
    server.make_bucket("products")
    yield server
    server.kill()


@pytest.fixture
def place(tmp_path, drill_postgres, s3):
    url = drill_postgres.fresh_database()
    with house(tmp_path, url, seaweed=s3, regions=region_features()) as opened:
        yield opened


@pytest.mark.campaign
@pytest.mark.timeout(1500)
def test_a_campaign_with_every_fault_loses_nothing_and_doubles_nothing(
    place, prefect, drill_postgres, s3, disk, patches, tell
):
    began, faults = time.monotonic(), Counter()
    plan = make_plan(patches, SEED)
    assert len({acquisition.partition("_P")[0] for acquisition, _ in plan.fates}) >= 60
    assert {region for _, region in plan.fates} == set(REGIONS)

    under_prefect(place, prefect, plan, faults)
    first = time.monotonic() - began
    looks, refused = by_the_crew(place, prefect, drill_postgres, s3, disk, plan, faults)
    place.finish(seconds=400)
    told = account(place.assembly, "campaign", plan.fates)
    told.faults = faults

    assert looks["answers that failed"] > 0, "the outage of a service was never noticed"
    deliveries = len(place.first.items) + len(place.second.items)
    tell("campaign: " + ", ".join(f"{number} {kind}" for kind, number in plan.kinds.items()))
    tell(f"campaign: {deliveries} deliveries over {len(REGIONS)} regions; {dict(looks)}; {refused} answers of 429")
    tell(str(told))
    tell(f"campaign: {time.monotonic() - began:.0f} s, of which {first:.0f} s under Prefect")


def under_prefect(place, prefect, plan, faults):
    """The early scenes, by Prefect's own workers: a run, a worker and the server are killed."""
    for delivery in plan.early:
        delivery.offer(place)
    hold = place.s3_door.hold(STAGES["production"])
    workers = {one.pid: one for one in (place.worker(prefect, f"worker-{n}", limit=2) for n in (1, 2))}
    place.schedule(prefect)
    hold.wait()
    _, run = owner(workers, hold.client_port)
    kill(run)
    hold.release()
    faults["process run killed"] += 1

    hold = place.s3_door.hold(STAGES["registration"])
    hold.wait()
    worker, _ = owner(workers, hold.client_port)
    kill_service(workers[worker])
    hold.release()
    place.worker(prefect, "worker-3", limit=2)
    faults["worker killed with its runs"] += 1

    def schedule():
        place.schedule(prefect)

    hold = place.s3_door.hold(STAGES["production"])
    with Watcher(place, schedule):
        hold.wait()
    prefect.kill()
    hold.release()
    time.sleep(5)
    prefect.start()
    faults["Prefect's server killed"] += 1
    with Watcher(place, schedule):
        eventually("the early scenes rest", place.rests, seconds=400, pause=1)
    for one in place.workers:
        kill_service(one)


def by_the_crew(place, prefect, postgres, s3, disk, plan, faults):
    """All other scenes, by three processes without Prefect, while services, store and database fail."""
    with ExitStack() as stack:
        place.worker(prefect, "worker-cpu", pool="cpu")
        watch_runs = [prefect.start_run("watch", {"schedule": False})]
        postman = stack.enter_context(Postman(place, plan.later, at_once=2, every_s=3.5))
        watcher = stack.enter_context(Watcher(place))
        crew = stack.enter_context(Crew(place, 3))

        for stage, pattern in STAGES.items():
            held(place, crew, pattern)
            faults[f"worker process killed at {stage}"] += 1
        place.first.down = True
        sleeper = held(place, crew, STAGES["registration"], freeze=True)
        time.sleep(OUTAGE_S)
        place.first.down = False
        faults[f"service away for {OUTAGE_S} s"] += 1
        faults["worker frozen past its lease"] += 1

        with locked_feed(place.database_url) as feed:
            feed.wait()
            others = [psutil.Process(pid) for pid in crew.pids() if pid != sleeper.pid]
            kill(*others)
            faults["worker process killed at publish, or beside it"] += len(others)
            postgres.crash()
        time.sleep(2)
        postgres.restart()
        faults["PostgreSQL killed"] += 1

        disk.resize(disk.used() + 2)
        eventually("the full disk is noticed", lambda: failed_by_store(place), seconds=120, pause=1)
        disk.resize(ROOM_MB)
        faults["disk full"] += 1
        watch_runs.append(prefect.start_run("watch", {"schedule": False}))

        s3.stop()
        time.sleep(AWAY_S)
        s3.start()
        faults[f"S3 stopped for {AWAY_S} s"] += 1
        sleeper.send_signal(signal.SIGCONT)

        place.offer(plan.large)
        hold = place.s3_door.hold(rf"PUT .*{plan.large.acquisition}.*/hsi\.tif\?.*partNumber=2")
        hold.wait(240)
        s3.kill()
        hold.release()
        s3.start()
        faults["S3 killed in mid-upload"] += 1

        postman.join()
        states = eventually("the watch runs end", lambda: ended(prefect, watch_runs), seconds=180, pause=1)
        faults["watch runs of Prefect beside the other watcher"] += len(states)
        assert place.look().unavailable == []
    return watcher.counts, postman.refusals


def held(place, crew, pattern, *, freeze=False):
    """Wait until a worker sends a request; kill it, or freeze it with the request on its way. Returns its process."""
    hold = place.s3_door.hold(pattern)
    hold.wait()
    _, process = owner(crew.pids(), hold.client_port)
    process.send_signal(signal.SIGSTOP)
    hold.release()
    if not freeze:
        kill(process)
    return process


def failed_by_store(place):
    """Return the scenes that wait because the store took nothing."""
    failed = place.ledger.scenes(state=SceneState.FAILED, limit=1000)
    return [row.id for row in failed if (row.error_class or "").startswith("Storage")]


def ended(prefect, runs):
    """Return how runs ended, once all of them have."""
    states = prefect.run_states(*runs)
    return states if set(states) <= {"COMPLETED", "FAILED"} else None
