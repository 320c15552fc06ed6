"""What people do to scenes by hand, on both databases."""

import pytest
from sqlalchemy import select

from catalog.ledger import NotClaimable, NotMovable, SceneState
from catalog.states import BY_HAND, HELD, MOVES
from catalog.tables import ItemVersionRecord
from tests.unit.catalog.products import HOUR, discovery, item, put_online, settings, take


def made(ledger, number=0):
    (found,) = ledger.discover([discovery(number)], actor="watch")
    return found.scene_id


def ended(ledger, scene, how):
    claim = ledger.claim(scene, actor="w", lease=HOUR)
    if how == "quarantined":
        ledger.fail(claim, error_class="E", message="m", transient=False)
    elif how == "failed":
        ledger.fail(claim, error_class="E", message="m", transient=True)
    else:
        ledger.reject(claim, gate="cloud", reason="many")
    return claim


def test_moves_by_hand_are_moves_of_the_one_table_and_never_take_a_workers_scene():
    for after, befores in BY_HAND.items():
        for before in befores:
            assert after in MOVES[before]
            assert before not in HELD


@pytest.mark.parametrize("state", ["quarantined", "failed", "rejected"])
def test_a_scene_sent_back_is_due_at_once_and_counts_its_attempts_anew(ledger, state):
    scene = made(ledger)
    ended(ledger, scene, state)
    assert ledger.due() == []
    before = ledger.intervene(scene, SceneState.DISCOVERED, actor="cli", why="the file is whole now")
    assert before.state == state
    (row,) = ledger.due()
    assert (row.id, row.attempts, row.reason, row.error_class) == (scene, 0, None, None)
    assert ledger.history(scene)[-1].why == "the file is whole now"
    assert ledger.claim(scene, actor="w", lease=HOUR).attempt == 1


def test_a_worker_s_scene_is_left_alone(ledger):
    scene = made(ledger)
    claim = ledger.claim(scene, actor="w", lease=HOUR)
    for after in BY_HAND:
        with pytest.raises(NotMovable, match="claimed"):
            ledger.intervene(scene, after, actor="cli", why="no")
    ledger.heartbeat(claim, HOUR)


def test_a_refused_scene_says_why_and_is_not_due(ledger):
    scene = made(ledger)
    ledger.intervene(scene, SceneState.REJECTED, actor="cli", why="smoke over the pit")
    assert ledger.scene(scene).reason == "smoke over the pit"
    assert ledger.due() == []


def test_what_is_superseded_stays_so(ledger):
    scene = made(ledger)
    ledger.intervene(scene, SceneState.SUPERSEDED, actor="cli", why="doubled by hand")
    with pytest.raises(NotMovable):
        ledger.intervene(scene, SceneState.DISCOVERED, actor="cli", why="again")
    with pytest.raises(NotClaimable):
        ledger.claim(scene, actor="w", lease=HOUR)


def test_the_last_request_counts_not_a_lease_that_ended(ledger):
    first, second = made(ledger, 0), made(ledger, 1)
    assert ledger.requested_by([first, second]) == {first: "watch", second: "watch"}
    ended(ledger, first, "rejected")
    ledger.intervene(first, SceneState.DISCOVERED, actor="backfill", why="other limits")
    ledger.release(ledger.claim(first, actor="w", lease=HOUR), why="stopped")
    assert ledger.requested_by([first, second]) == {first: "backfill", second: "watch"}
    assert ledger.requested_by([]) == {}


def test_a_published_scene_is_made_again_as_the_next_version_of_the_same_product(database, ledger, tmp_path):
    scene = made(ledger)
    configured = settings(tmp_path)
    put_online(database, ledger, take(ledger, scene), item(), configured)
    for version in (2, 3):
        ledger.intervene(scene, SceneState.DISCOVERED, actor="reconcile", why="a file is gone")
        again = item()
        for asset in again["assets"].values():
            asset["href"] = asset["href"].replace("s3://bucket/", f"s3://bucket/attempt-{version}/")
        assert put_online(database, ledger, take(ledger, scene), again, configured).version == version
    with database.read() as session:
        rows = session.execute(
            select(ItemVersionRecord.version, ItemVersionRecord.product_revision).order_by(ItemVersionRecord.version)
        ).all()
    assert rows == [(1, "r1.v1"), (2, "r1.v2"), (3, "r1")]
