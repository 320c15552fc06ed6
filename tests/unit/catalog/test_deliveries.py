"""One acquisition delivered again and again: other sources, newer revisions, twins, and what is gone upstream."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from catalog.ledger import SceneState
from catalog.revisions import QUALITY_FIELDS, QUALITY_STEP, covers, quality_changes
from infra.settings import Reprocessing
from tests.unit.catalog.products import HOUR, SENSED, box, discovery, take

S = SceneState
WEST, EAST, WHOLE = (0, 0, 6, 10), (4, 0, 10, 10), (0, 0, 10, 10)
LATER = SENSED + 9 * HOUR


def offer(footprint=WHOLE, *, station="2BPS", name="first", part=1, **changes):
    """A delivery with an outline, a datastrip and, where asked for, quality fields."""
    quality = changes.pop("quality", {})
    item = {
        "type": "Feature", "id": name, "geometry": box(*footprint),
        "properties": {"s2:datastrip_id": f"S2B_OPER_MSI_L2A_DS_{station}", "explains2a:part": part, **quality},
    }  # fmt: skip
    made = discovery(source_item=item, source_item_id=name, **changes)
    if part > 1:
        made = replace(made, acquisition=f"{made.acquisition}_P{part}")
    again = {"station": station, "name": name, "quality": quality, **changes}
    return replace(made, as_part=lambda number: offer(footprint, part=number, **again))


def found(ledger, *discoveries):
    return [(each.scene_id, each.outcome) for each in ledger.discover(discoveries, actor="watch")]


def outcomes(ledger, *discoveries):
    return [outcome for _, outcome in found(ledger, *discoveries)]


def bring(ledger, scene_id, state, error="RasterUnreachable"):
    """Bring a discovered scene into a state."""
    if state is S.DISCOVERED:
        return
    claim = take(ledger, scene_id)
    if state is S.PUBLISHED:
        with ledger._database.write() as session:
            ledger.move(session, claim, S.PUBLISHED, why="made", item_id="item")
    elif state is S.REJECTED:
        ledger.reject(claim, gate="cloud", reason="cloudy")
    elif state in {S.FAILED, S.QUARANTINED}:
        ledger.fail(claim, error_class=error, message="away", transient=state is S.FAILED)


@contextmanager
def statements(database):
    """Count the statements that a database is sent."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database._engine, "before_cursor_execute", note)


# --- newer revisions, by the region's policy --------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.PUBLISHED, S.PROCESSING, S.REJECTED])
def test_a_region_that_wants_no_reprocessing_is_told_once_and_nothing_is_made(ledger, state):
    ((scene, _),) = found(ledger, discovery())
    bring(ledger, scene, state)
    newer = discovery(baseline="05.11", source_item_id="newer", policy=Reprocessing.IGNORE)
    assert found(ledger, newer) == [(scene, "ignored")]
    assert found(ledger, newer) == [(scene, "known")]
    assert "the region wants none" in ledger.history(scene)[-1].why
    assert sum(ledger.counts().values()) == 1


@pytest.mark.parametrize("state", [S.DISCOVERED, S.FAILED, S.QUARANTINED])
def test_what_is_not_made_yet_is_made_from_the_newest_whatever_the_policy(ledger, state):
    ((scene, _),) = found(ledger, discovery())
    bring(ledger, scene, state)
    newer = discovery(baseline="05.11", source_item_id="newer", policy=Reprocessing.IGNORE)
    assert outcomes(ledger, newer) == ["reprocessing"]


def test_a_policy_that_changes_takes_what_was_left_before(ledger):
    ((scene, _),) = found(ledger, discovery())
    bring(ledger, scene, S.PUBLISHED)
    newer = discovery(baseline="05.11", source_item_id="newer", policy=Reprocessing.IGNORE)
    assert outcomes(ledger, newer) == ["ignored"]
    assert outcomes(ledger, replace(newer, policy=Reprocessing.REPROCESS)) == ["reprocessing"]
    assert outcomes(ledger, newer) == ["known"]


@pytest.mark.parametrize(("cloud", "outcome"), [(10.4, "unchanged"), (30.0, "reprocessing")])
def test_only_another_quality_is_worth_another_product_where_so_wished(ledger, cloud, outcome):
    ((scene, _),) = found(ledger, offer(quality={"eo:cloud_cover": 10.0}))
    bring(ledger, scene, S.PUBLISHED)
    newer = offer(
        name="newer", baseline="05.11", quality={"eo:cloud_cover": cloud}, policy=Reprocessing.IF_QUALITY_DIFFERS
    )
    assert outcomes(ledger, newer) == [outcome]
    assert outcomes(ledger, newer) == ["known"]


def test_an_item_that_is_replaced_in_place_and_left_is_told_once(ledger):
    ((scene, _),) = found(ledger, discovery())
    bring(ledger, scene, S.PUBLISHED)
    newer = discovery(baseline="05.11", policy=Reprocessing.IGNORE)
    assert found(ledger, newer, newer) == [(scene, "ignored"), (scene, "known")]
    assert outcomes(ledger, newer) == ["known"]


def properties(**values):
    return {"properties": values}


def test_quality_that_nobody_states_may_have_changed():
    assert quality_changes(properties(), properties(**{"eo:cloud_cover": 3})) == ("nothing to compare",)
    assert quality_changes({}, {}) == ("nothing to compare",)


percent = st.floats(0, 100)


@given(st.dictionaries(st.sampled_from(QUALITY_FIELDS), st.tuples(percent, percent), min_size=1))
def test_exactly_the_fields_that_differ_are_named(fields):
    before = {"properties": {name: old for name, (old, _) in fields.items()}}
    after = {"properties": {name: new for name, (_, new) in fields.items()}}
    differing = {name for name, (old, new) in fields.items() if abs(new - old) > QUALITY_STEP}
    assert set(quality_changes(before, after)) == differing
    assert set(quality_changes(after, before)) == differing
    assert quality_changes(before, before) == ()


# --- twins: two stations, one acquisition -----------------------------------------------------------------------------


def test_parts_that_complete_each_other_are_both_kept_whichever_comes_first(ledger):
    for number, order in enumerate([1, -1]):
        there = {"region": f"r{number}"}
        pair = [offer(WEST, **there), offer(EAST, station="2BPT", name="second", generated=LATER, **there)][::order]
        (first, second) = found(ledger, *pair)
        assert (first[1], second[1]) == ("new", "part")
        assert ledger.scene(second[0]).acquisition == f"{ledger.scene(first[0]).acquisition}_P2"
        assert ledger.scene(second[0]).source_item["properties"]["explains2a:part"] == 2
        assert outcomes(ledger, *reversed(pair)) == ["known", "known"]
        assert ledger.counts()[S.DISCOVERED] == 2 * (number + 1)


def test_a_twin_that_shows_nothing_more_makes_no_scene_though_it_is_newer(ledger):
    ((scene, _),) = found(ledger, offer(WHOLE))
    less = offer(EAST, station="2BPT", name="second", generated=LATER)
    assert found(ledger, less) == [(scene, "covered")]
    assert found(ledger, less) == [(scene, "known")]
    assert "without further pixels" in ledger.history(scene)[-1].why


def test_a_newer_twin_that_shows_everything_is_a_newer_revision(ledger):
    assert outcomes(ledger, offer(WEST), offer(WHOLE, station="2BPT", name="second", generated=LATER)) == [
        "new", "reprocessing",
    ]  # fmt: skip


def test_inside_a_region_that_both_show_the_newer_twin_is_a_newer_revision(ledger):
    area = box(4.5, 1, 5.5, 9)
    pair = [offer(WEST), offer(EAST, station="2BPT", name="second", generated=LATER)]
    assert outcomes(ledger, *(replace(one, area=area) for one in pair)) == ["new", "reprocessing"]


def test_each_part_is_reprocessed_by_itself(ledger):
    (west, _), (east, _) = found(ledger, offer(WEST), offer(EAST, station="2BPT", name="second", generated=LATER))
    newer = offer(EAST, station="2BPT", name="third", baseline="05.11", generated=LATER)
    ((again, outcome),) = found(ledger, newer)
    assert outcome == "reprocessing"
    assert ledger.scene(again).acquisition == ledger.scene(east).acquisition
    assert ledger.scene(again).source_item["properties"]["explains2a:part"] == 2
    assert outcomes(ledger, newer) == ["known"]
    ((other, outcome),) = found(ledger, offer(WEST, name="fourth", baseline="05.11"))
    assert (outcome, ledger.scene(other).acquisition) == ("reprocessing", ledger.scene(west).acquisition)


def test_the_same_datastrip_generated_again_is_no_twin(ledger):
    assert outcomes(ledger, offer(WHOLE), offer(WEST, name="again", generated=LATER)) == ["new", "reprocessing"]


def test_two_services_that_draw_one_product_differently_do_not_make_a_twin(ledger):
    rough, exact = offer(WHOLE), offer(WEST, name="exact", source="cdse", generated=LATER)
    del exact.source_item["properties"]["s2:datastrip_id"]
    assert outcomes(ledger, rough, exact) == ["new", "reprocessing"]


sides = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted).filter(lambda pair: pair[0] < pair[1])


@given(sides, sides)
def test_covering_agrees_with_the_area_that_sticks_out(one, other):
    a, b = shapely.box(one[0], 0, one[1], 1), shapely.box(other[0], 0, other[1], 1)
    outside = max(0, other[1] - other[0] - max(0, min(one[1], other[1]) - max(one[0], other[0])))
    assert covers(a, b) == (outside <= 0.05 * (other[1] - other[0]))


# --- several sources --------------------------------------------------------------------------------------------------

FALLBACK = {"source": "cdse", "source_item_id": "same-product"}
PREFERRED = {"preferred_to": frozenset({"cdse"})}


def test_what_nobody_has_begun_is_made_from_the_preferred_source(ledger):
    ((scene, _),) = found(ledger, discovery(**FALLBACK))
    assert found(ledger, discovery(**PREFERRED)) == [(scene, "duplicate")]
    assert ledger.scene(scene).source == "earth-search"
    assert "instead of cdse" in ledger.history(scene)[-1].why
    assert outcomes(ledger, discovery(**FALLBACK), discovery(**PREFERRED)) == ["known", "known"]
    assert ledger.scene(scene).source == "earth-search"
    assert ledger.counts() == {S.DISCOVERED: 1}


def test_the_fallback_never_takes_a_scene_from_the_preferred_source(ledger):
    ((scene, _),) = found(ledger, discovery(**PREFERRED))
    assert outcomes(ledger, discovery(**FALLBACK)) == ["duplicate"]
    assert ledger.scene(scene).source == "earth-search"


@pytest.mark.parametrize("state", [S.PROCESSING, S.PUBLISHED, S.REJECTED, S.QUARANTINED])
def test_a_scene_in_work_or_done_keeps_its_source(ledger, state):
    ((scene, _),) = found(ledger, discovery(**FALLBACK))
    bring(ledger, scene, state)
    assert outcomes(ledger, discovery(**PREFERRED)) == ["duplicate"]
    assert ledger.scene(scene).source == "cdse"


def test_files_out_of_reach_turn_a_scene_to_the_other_source_once(ledger):
    both = discovery(**PREFERRED), discovery(**FALLBACK)
    ((scene, _), _) = found(ledger, *both)
    bring(ledger, scene, S.FAILED)
    assert outcomes(ledger, *both) == ["known", "known"]
    row = ledger.scene(scene)
    assert (row.source, row.state, row.attempts) == ("cdse", S.DISCOVERED, 1)
    bring(ledger, scene, S.FAILED)
    found(ledger, *both)
    assert (ledger.scene(scene).source, ledger.scene(scene).state) == ("cdse", S.FAILED)


def test_an_error_of_our_own_is_not_blamed_on_the_source(ledger):
    both = discovery(**PREFERRED), discovery(**FALLBACK)
    ((scene, _), _) = found(ledger, *both)
    bring(ledger, scene, S.FAILED, error="DatabaseBusy")
    found(ledger, *both)
    assert (ledger.scene(scene).source, ledger.scene(scene).state) == ("earth-search", S.FAILED)


# --- what is gone upstream --------------------------------------------------------------------------------------------


def look(ledger, shown, now, *, since=SENSED - HOUR, **changes):
    return ledger.note_absence(
        changes.get("source", "earth-search"), "site", shown, since=since, now=now, grace=timedelta(hours=48),
        actor="watch",
    )  # fmt: skip


def test_what_a_source_shows_no_more_is_withdrawn_after_the_grace_and_nothing_is_deleted(ledger, database):
    here, gone = discovery(0), discovery(1)
    (_, _), (scene, _) = found(ledger, here, gone)
    now = SENSED + 48 * HOUR
    assert look(ledger, [here.source_item_id], now).missed == (scene,)
    assert look(ledger, [here.source_item_id], now + 47 * HOUR).withdrawn == ()
    assert look(ledger, [here.source_item_id], now + 48 * HOUR).withdrawn == (scene,)
    assert look(ledger, [here.source_item_id], now + 50 * HOUR) == look(ledger, [], now, source="cdse")
    assert "is not offered any more" in ledger.history(scene)[-1].why
    assert ledger.scene(scene).state is S.DISCOVERED
    back = look(ledger, [here.source_item_id, gone.source_item_id], now + 60 * HOUR)
    assert back.returned == (scene,)
    assert "offered again" in ledger.history(scene)[-1].why
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM deliveries WHERE missed_at IS NOT NULL")).scalar() == 0


def test_what_was_published_before_the_look_back_is_not_missed(ledger):
    found(ledger, discovery(0))
    assert look(ledger, [], SENSED + 100 * HOUR, since=SENSED + 3 * HOUR).missed == ()


# --- cost -------------------------------------------------------------------------------------------------------------


def test_statements_grow_with_batches_never_with_scenes(ledger, database):
    def seen_again(number):
        some = [discovery(n) for n in range(number)]
        ledger.discover(some, actor="watch")
        with statements(database) as sent:
            assert {one.outcome for one in ledger.discover(some, actor="watch")} == {"known"}
        return len(sent)

    few, many = seen_again(50), seen_again(500)
    assert few == many <= 3, "the turn, one read"


def test_new_scenes_among_known_ones_cost_a_few_statements_more(ledger, database):
    ledger.discover([discovery(n) for n in range(400)], actor="watch")
    with statements(database) as sent:
        answers = ledger.discover([discovery(n) for n in range(440)], actor="watch")
    assert [one.outcome for one in answers].count("new") == 40
    assert len(sent) <= 10, sent
