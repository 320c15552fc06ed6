"""The ledger on both databases: what is discovered, who may work on it, what becomes of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import event, text

from catalog.ledger import ClaimLost, Ledger, NotClaimable, SceneState, UnknownScene
from catalog.session import connect, migrate
from catalog.states import IllegalMove
from tests.unit.catalog.products import HOUR, SENSED, discovery, take

S = SceneState
BLINK = timedelta(milliseconds=50)


def found(ledger, *discoveries):
    return [(each.scene_id, each.outcome) for each in ledger.discover(discoveries, actor="watch")]


def one_scene(ledger):
    ((scene_id, _),) = found(ledger, discovery())
    return scene_id


def outlive(lease):
    time.sleep(lease.total_seconds() + 0.05)


def make_due(database):
    """Let the pause before the next attempt pass."""
    with database.write() as session:
        session.execute(text("UPDATE scenes SET next_attempt = 0"))


def test_an_empty_batch_is_no_work(ledger):
    assert ledger.discover([], actor="watch") == []


def test_the_same_item_again_is_known(ledger):
    assert [outcome for _, outcome in found(ledger, discovery(0), discovery(1))] == ["new", "new"]
    assert [outcome for _, outcome in found(ledger, discovery(1), discovery(0))] == ["known", "known"]
    assert ledger.counts() == {S.DISCOVERED: 2}


def test_the_same_product_from_elsewhere_is_a_duplicate_once(ledger):
    scene_id = one_scene(ledger)
    elsewhere = discovery(source="planetary", source_item_id="S2A_MSIL2A_…")
    assert found(ledger, elsewhere) == [(scene_id, "duplicate")]
    assert found(ledger, elsewhere) == [(scene_id, "known")]
    assert "delivered again" in ledger.history(scene_id)[-1].why
    assert ledger.scene(scene_id).source == "earth-search"


def test_generation_times_that_differ_below_a_second_are_the_same_revision(ledger):
    finer = discovery().generated + timedelta(milliseconds=24)
    scene_id = one_scene(ledger)
    assert found(ledger, discovery(source="cdse", generated=finer)) == [(scene_id, "duplicate")]


@pytest.mark.parametrize(
    "newer", [{"baseline": "05.11"}, {"generated": SENSED + 9 * HOUR}, {"baseline": "05.11", "generated": None}]
)
def test_a_newer_revision_is_a_scene_of_its_own(ledger, newer):
    scene_id = one_scene(ledger)
    ((other, outcome),) = found(ledger, discovery(source_item_id="again", **newer))
    assert (outcome, other != scene_id) == ("reprocessing", True)


@pytest.mark.parametrize("older", [{"baseline": "04.00"}, {"baseline": ""}, {"generated": SENSED}, {"generated": None}])
def test_an_older_revision_is_outdated_and_leaves_no_scene(ledger, older):
    scene_id = one_scene(ledger)
    assert found(ledger, discovery(source_item_id="late", **older)) == [(scene_id, "outdated")]
    assert ledger.counts() == {S.DISCOVERED: 1}


def test_doubles_and_revisions_within_one_batch(ledger):
    first, newer = discovery(), discovery(baseline="05.11", source_item_id="n")
    twin = replace(first, source_item_id="twin")
    batch = [first, first, twin, newer, replace(first, source_item_id="late"), replace(first, region="other")]
    outcomes = [outcome for _, outcome in found(ledger, *batch)]
    assert outcomes == ["new", "known", "duplicate", "reprocessing", "duplicate", "new"]
    assert ledger.counts() == {S.DISCOVERED: 3}


def test_a_large_batch_is_taken_whole(ledger):
    many = [discovery(number) for number in range(1500)]
    assert {outcome for _, outcome in found(ledger, *many)} == {"new"}
    assert {outcome for _, outcome in found(ledger, *many)} == {"known"}


def test_two_watchers_discovering_at_once_make_one_scene(ledger):
    barrier = Barrier(4)

    def watch(_):
        barrier.wait()
        return found(ledger, *(discovery(number) for number in range(20)))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(watch, range(4)))
    assert ledger.counts() == {S.DISCOVERED: 20}
    assert sorted(outcome for answer in answers for _, outcome in answer) == ["known"] * 60 + ["new"] * 20


def test_what_was_discovered_can_be_read_back(ledger):
    seen = discovery()
    row = ledger.scene(one_scene(ledger))
    assert (row.acquisition, row.region, row.source_item) == (seen.acquisition, seen.region, seen.source_item)
    assert (row.sensed, row.generated) == (seen.sensed, seen.generated)
    assert row.sensed.tzinfo is not None
    assert row.state is S.DISCOVERED


def test_naive_times_are_refused(ledger):
    with pytest.raises(Exception, match="no zone"):
        found(ledger, discovery(sensed=datetime(2024, 6, 17)))  # noqa: DTZ001 - the point
    assert ledger.counts() == {}


def test_of_many_claiming_at_once_exactly_one_wins(ledger):
    scene_id, barrier = one_scene(ledger), Barrier(8)

    def claim(number):
        barrier.wait()
        try:
            return ledger.claim(scene_id, actor=f"worker {number}", lease=HOUR)
        except NotClaimable:
            return None

    with ThreadPoolExecutor(8) as pool:
        claims = [claim for claim in pool.map(claim, range(8)) if claim]
    assert len(claims) == 1
    ledger.heartbeat(claims[0], HOUR)
    assert [step.after for step in ledger.history(scene_id)] == [S.DISCOVERED, S.CLAIMED]


def test_an_expired_lease_is_taken_by_exactly_one(ledger):
    scene_id, barrier = one_scene(ledger), Barrier(4)
    dead = ledger.claim(scene_id, actor="dead", lease=BLINK)
    outlive(BLINK)

    def claim(_):
        barrier.wait()
        try:
            return ledger.claim(scene_id, actor="heir", lease=HOUR)
        except NotClaimable:
            return None

    with ThreadPoolExecutor(4) as pool:
        (heir,) = [claim for claim in pool.map(claim, range(4)) if claim]
    assert heir.attempt == 2
    with pytest.raises(ClaimLost):
        ledger.begin(dead, "r1")
    states = [step.after for step in ledger.history(scene_id)]
    assert states == [S.DISCOVERED, S.CLAIMED, S.DISCOVERED, S.CLAIMED]


def test_returning_expired_scenes_does_not_rob_who_claims_meanwhile(ledger, database):
    """A worker claims the scene between the look for expired leases and their return."""
    scene_id, claims = one_scene(ledger), []
    ledger.claim(scene_id, actor="dead", lease=BLINK)
    outlive(BLINK)
    heir = Thread(target=lambda: claims.append(ledger.claim(scene_id, actor="heir", lease=HOUR)))

    @event.listens_for(database._engine, "after_cursor_execute")
    def come_in_between(_connection, _cursor, statement, *_):
        if statement.startswith("SELECT scenes") and not claims and heir.ident is None:
            heir.start()
            heir.join(0.5)

    ledger.release_expired(actor="reconcile")
    heir.join()
    ledger.heartbeat(claims[0], HOUR)
    assert ledger.scene(scene_id).state is S.CLAIMED


def test_a_held_scene_is_not_claimable_and_not_due(ledger):
    scene_id = one_scene(ledger)
    ledger.claim(scene_id, actor="a", lease=HOUR)
    with pytest.raises(NotClaimable, match="claimed"):
        ledger.claim(scene_id, actor="b", lease=HOUR)
    assert ledger.due() == []


def test_a_heartbeat_keeps_a_claim_beyond_its_first_lease(ledger):
    scene_id = one_scene(ledger)
    claim = ledger.claim(scene_id, actor="a", lease=timedelta(seconds=0.4))
    ledger.heartbeat(claim, HOUR)
    time.sleep(0.5)
    assert ledger.due() == []
    ledger.begin(claim, "r1")


@pytest.mark.parametrize(
    "step",
    [
        lambda ledger, claim: ledger.heartbeat(claim, HOUR),
        lambda ledger, claim: ledger.begin(claim, "r1"),
        lambda ledger, claim: ledger.reject(claim, gate="cloud", reason="too much"),
        lambda ledger, claim: ledger.fail(claim, error_class="E", message="m", transient=True),
    ],
    ids=["heartbeat", "begin", "reject", "fail"],
)
@pytest.mark.parametrize("retaken", [False, True], ids=["expired", "retaken"])
def test_after_its_lease_a_claim_can_do_nothing(ledger, step, retaken):
    scene_id = one_scene(ledger)
    claim = ledger.claim(scene_id, actor="slow", lease=BLINK)
    outlive(BLINK)
    if retaken:
        ledger.claim(scene_id, actor="next", lease=HOUR)
    before = ledger.scene(scene_id), ledger.history(scene_id)
    with pytest.raises(ClaimLost):
        step(ledger, claim)
    assert (ledger.scene(scene_id), ledger.history(scene_id)) == before


def test_leases_follow_the_database_clock(ledger, database):
    """A lease ends by the database's clock: whatever time the worker believes it is."""
    scene_id = one_scene(ledger)
    claim = ledger.claim(scene_id, actor="a", lease=HOUR)
    with database.write() as session:
        now = session.scalar(
            text("SELECT (julianday('now') - 2440587.5) * 86400.0")
            if database.dialect == "sqlite"
            else text("SELECT extract(epoch from clock_timestamp())::float8")
        )
        until = session.scalar(text("SELECT lease_until FROM scenes"))
        assert until - now == pytest.approx(3600, abs=2)
        session.execute(text("UPDATE scenes SET lease_until = :then"), {"then": now - 0.01})
    assert ledger.release_expired(actor="reconcile") == [scene_id]
    with pytest.raises(ClaimLost):
        ledger.heartbeat(claim, HOUR)
    assert ledger.scene(scene_id).state is S.DISCOVERED


def test_due_returns_expired_scenes_and_says_that_the_worker_died(ledger):
    scene_id = one_scene(ledger)
    take(ledger, scene_id, lease=BLINK)
    outlive(BLINK)
    assert [row.id for row in ledger.due()] == [scene_id]
    last = ledger.history(scene_id)[-1]
    assert (last.before, last.after) == (S.PROCESSING, S.DISCOVERED)
    assert "worker died" in last.why


def test_a_scene_that_kills_its_workers_is_quarantined(ledger):
    scene_id = one_scene(ledger)
    for _ in range(3):
        ledger.claim(scene_id, actor="a", lease=BLINK)
        outlive(BLINK)
        ledger.release_expired(actor="reconcile")
    row = ledger.scene(scene_id)
    assert (row.state, row.attempts) == (S.QUARANTINED, 3)
    assert "attempt 3" in row.reason


def test_transient_failures_pause_longer_each_time_and_end_in_quarantine(ledger, database):
    scene_id, pauses = one_scene(ledger), []
    for attempt in (1, 2, 3):
        claim = take(ledger, scene_id)
        assert claim.attempt == attempt
        state = ledger.fail(claim, error_class="Timeout", message="no answer", transient=True)
        assert ledger.due() == []
        with database.read() as session:
            pauses.append(session.scalar(text("SELECT next_attempt FROM scenes")) - time.time())
        assert state is (S.QUARANTINED if attempt == 3 else S.FAILED)
        make_due(database)
    assert pauses[0] == pytest.approx(60, rel=0.25)
    assert pauses[1] == pytest.approx(240, rel=0.25)
    row = ledger.scene(scene_id)
    assert (row.error_class, row.reason) == ("Timeout", "Timeout: no answer")
    assert ledger.due() == []


def test_a_failed_scene_is_due_after_its_pause(ledger, database):
    scene_id = one_scene(ledger)
    ledger.fail(take(ledger, scene_id), error_class="Timeout", message="m", transient=True)
    make_due(database)
    assert [row.id for row in ledger.due()] == [scene_id]


def test_permanent_failures_are_quarantined_at_once_and_can_be_claimed_by_hand(ledger):
    scene_id = one_scene(ledger)
    claim = take(ledger, scene_id)
    assert ledger.fail(claim, error_class="WrongGrid", message="m", transient=False) is S.QUARANTINED
    assert ledger.due() == []
    take(ledger, scene_id)
    row = ledger.scene(scene_id)
    assert (row.state, row.reason, row.error_class) == (S.PROCESSING, None, None)


def test_a_rejection_keeps_gate_and_numbers(ledger):
    scene_id = one_scene(ledger)
    ledger.reject(take(ledger, scene_id), gate="cloud", reason="too cloudy", measured=0.91, limit=0.5)
    row, last = ledger.scene(scene_id), ledger.history(scene_id)[-1]
    assert (row.state, row.reason) == (S.REJECTED, "cloud: too cloudy")
    assert last.why == "cloud: too cloudy (measured 0.91, limit 0.5)"
    assert ledger.due() == []


def test_moves_that_the_table_lacks_change_nothing(ledger, database):
    scene_id = one_scene(ledger)
    claim = ledger.claim(scene_id, actor="a", lease=HOUR)
    with pytest.raises(IllegalMove, match="claimed scene cannot become published"), database.write() as session:
        ledger.move(session, claim, S.PUBLISHED, why="skips the work")
    assert ledger.scene(scene_id).state is S.CLAIMED
    ledger.begin(claim, "r1")
    with pytest.raises(IllegalMove):
        ledger.begin(claim, "r2")
    assert ledger.scene(scene_id).product_revision == "r1"


def test_history_tells_who_when_and_why(ledger):
    scene_id = one_scene(ledger)
    claim = take(ledger, scene_id)
    ledger.fail(claim, error_class="E", message="m", transient=True)
    steps = ledger.history(scene_id)
    assert [(step.before, step.after) for step in steps] == [
        (None, S.DISCOVERED), (S.DISCOVERED, S.CLAIMED), (S.CLAIMED, S.PROCESSING), (S.PROCESSING, S.FAILED),
    ]  # fmt: skip
    assert steps[0].actor == "watch"
    assert claim.token[:8] in steps[2].actor
    assert claim.token not in steps[2].actor
    assert all(abs(step.at - datetime.now(UTC)) < timedelta(minutes=1) for step in steps)


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: ledger.scene(99),
        lambda ledger: ledger.history(99),
        lambda ledger: ledger.claim(99, actor="a", lease=HOUR),
    ],
)
def test_unknown_scenes_are_said_to_be_unknown(ledger, ask):
    with pytest.raises(UnknownScene, match="99"):
        ask(ledger)


def test_lists_filter_and_order(ledger):
    found(ledger, discovery(2), discovery(0), discovery(1, region="other"))
    assert [row.sensed for row in ledger.due()] == [SENSED + timedelta(days=n) for n in range(3)]
    assert [row.sensed for row in ledger.scenes()] == [SENSED + timedelta(days=n) for n in (2, 1, 0)]
    assert len(ledger.scenes(region="other")) == 1
    assert ledger.scenes(state="published") == []
    assert len(ledger.scenes(state="discovered", limit=2)) == 2


def test_watermarks_never_move_back(ledger):
    assert ledger.watermark("s", "r") is None
    for hours in (5, 3, 7, 6):
        ledger.set_watermark("s", "r", SENSED + hours * HOUR)
    assert ledger.watermark("s", "r") == SENSED + 7 * HOUR
    assert ledger.watermark("s", "other") is None


def test_watermarks_set_at_once_end_at_the_newest(ledger):
    barrier = Barrier(6)

    def mark(hours):
        barrier.wait()
        ledger.set_watermark("s", "r", SENSED + hours * HOUR)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(mark, range(6)))
    assert ledger.watermark("s", "r") == SENSED + 5 * HOUR


def test_every_delivery_leaves_one_trace_and_only_one(ledger, database):
    batch = [
        discovery(),
        discovery(source="cdse"),
        discovery(baseline="05.11", source_item_id="newer"),
        discovery(baseline="04.00", source_item_id="older"),
    ]
    for _ in range(3):
        ledger.discover(batch, actor="watch")
    assert [outcome for _, outcome in found(ledger, *batch)] == ["known"] * 4
    with database.read() as session:
        rows = session.execute(text("SELECT source_item_id, outcome FROM deliveries ORDER BY id")).all()
    first = batch[0].source_item_id
    assert [tuple(row) for row in rows] == [
        (first, "new"), (first, "duplicate"), ("newer", "reprocessing"), ("older", "outdated"),
    ]  # fmt: skip
    newest = max(row.id for row in ledger.scenes())
    last = ledger.history(newest)[-1]
    assert (last.before, last.after) == (S.DISCOVERED, S.DISCOVERED)
    assert "04.00" in last.why
    assert "older by earth-search" in last.why


def test_an_outdated_delivery_stays_known_when_the_scene_is_processed_anew(ledger):
    older = discovery(baseline="04.00", source_item_id="older")
    found(ledger, discovery(), older, discovery(baseline="05.11", source_item_id="newer"))
    assert [outcome for _, outcome in found(ledger, older)] == ["known"]


def test_a_provider_that_replaces_an_item_in_place_is_noticed(ledger):
    scene_id = one_scene(ledger)
    ((other, outcome),) = found(ledger, discovery(baseline="05.11"))
    assert (outcome, other != scene_id) == ("reprocessing", True)


def test_who_worked_stands_in_every_line(ledger):
    scene_id = one_scene(ledger)
    claim = ledger.claim(scene_id, actor="run brave-otter", lease=HOUR)
    ledger.begin(claim, "r1")
    ledger.reject(claim, gate="cloud", reason="many")
    assert all("brave-otter" in step.actor for step in ledger.history(scene_id)[1:])


def test_a_refused_claim_says_in_which_state_the_scene_is(ledger):
    scene_id = one_scene(ledger)
    take(ledger, scene_id)
    with pytest.raises(NotClaimable) as error:
        ledger.claim(scene_id, actor="b", lease=HOUR)
    assert (error.value.scene_id, error.value.state) == (scene_id, S.PROCESSING)


def test_a_failed_scene_says_when_it_is_due_again(ledger):
    scene_id = one_scene(ledger)
    assert ledger.scene(scene_id).next_attempt is None
    ledger.fail(take(ledger, scene_id), error_class="Timeout", message="m", transient=True)
    pause = ledger.scene(scene_id).next_attempt - datetime.now(UTC)
    assert 40 < pause.total_seconds() < 80


@pytest.mark.parametrize("message", ["zero \0 inside", "half \ud800 a character", "long " * 100_000])
def test_any_message_of_an_error_can_be_recorded(ledger, message):
    scene_id = one_scene(ledger)
    ledger.fail(take(ledger, scene_id), error_class="Odd", message=message, transient=False)
    reason = ledger.scene(scene_id).reason
    assert reason.startswith(f"Odd: {message[:4]}")
    assert len(reason) <= 2000


def test_looking_for_due_scenes_waits_for_no_writer(tmp_path):
    """Status pages ask often; only an ended lease is a reason to write. (PostgreSQL's readers never wait.)"""
    url = f"sqlite:///{tmp_path / 'busy.sqlite'}"
    migrate(url)
    with closing(connect(url, busy_seconds=0.5)) as database:
        one_scene(Ledger(database))
        with database.write():
            assert len(Ledger(database).due()) == 1
