"""Backfill over real scenes: the plan and its cost, resuming, and never ahead of today's scenes."""

from datetime import date

import pytest

from flows.assembly import assemble
from flows.backfilling import plan_backfill, record_backfill
from flows.processing import process_scene
from flows.watching import watch_sources

DAYS = (date(2015, 1, 1), date(2030, 1, 1))


@pytest.fixture
def assembly(operator_settings):
    with assemble(operator_settings) as opened:
        yield opened


def test_a_plan_changes_nothing_and_tells_the_cost_once_something_was_measured(assembly):
    plan = plan_backfill(assembly, *DAYS)
    assert (plan.total, plan.known, plan.seconds, plan.bytes) == (7, 0, None, None)
    assert assembly.ledger.counts() == {}
    day = min(offer.sensed for offer in plan.new).date()
    narrow = plan_backfill(assembly, day, day, regions=(plan.new[0].region,))
    assert all(offer.sensed.date() == day for offer in narrow.new)

    assert record_backfill(assembly, narrow, who="test") == narrow.total
    made = [process_scene(assembly, row.id, actor="test") for row in assembly.ledger.due()]
    published = [one for one in made if one.state == "published"]
    rest = plan_backfill(assembly, *DAYS)
    assert rest.total == 7 - narrow.total
    assert rest.known == narrow.total
    if published:
        size = sum(sum(one.files.values()) for one in published) / len(published)
        assert rest.bytes == pytest.approx(size * rest.total)
        assert rest.core_seconds == pytest.approx(rest.seconds * assembly.settings.processing.threads)


def test_it_goes_on_where_it_was_broken_off(assembly):
    plan = plan_backfill(assembly, *DAYS)
    part = type(plan)(**{**vars(plan), "new": plan.new[:3]})
    assert record_backfill(assembly, part, who="killed") == 3
    again = plan_backfill(assembly, *DAYS)
    assert (again.total, again.known) == (4, 3)
    assert record_backfill(assembly, again, who="again") == 4
    assert record_backfill(assembly, again, who="twice") == 0
    assert assembly.ledger.counts() == {"discovered": 7}


def test_scenes_remember_that_a_backfill_asked_for_them(assembly):
    plan = plan_backfill(assembly, *DAYS)
    part = type(plan)(**{**vars(plan), "new": plan.new[:3]})
    record_backfill(assembly, part, who="test")
    watch_sources(assembly, actor="watch")
    asked = assembly.ledger.requested_by(assembly.ledger.due_ids())
    assert sorted(asked.values()) == ["backfill/test"] * 3 + ["watch"] * 4


def test_what_another_model_made_is_made_again_only_on_request(assembly, monkeypatch):
    watch_sources(assembly, actor="test")
    row = next(r for r in assembly.ledger.due() if process_scene(assembly, r.id, actor="test").state == "published")
    assert plan_backfill(assembly, *DAYS, remake=True).remake == ()
    monkeypatch.setattr("flows.backfilling.model_item_id", lambda _card: "another-model")
    assert plan_backfill(assembly, *DAYS).remake == ()
    plan = plan_backfill(assembly, *DAYS, remake=True)
    assert plan.remake == (row.id,)
    assert record_backfill(assembly, plan, who="test") == 1
    assert assembly.ledger.requested_by([row.id]) == {row.id: "backfill/test"}
