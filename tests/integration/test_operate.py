"""The operators' verbs, as typed in a terminal, over the demonstration's scenes."""

import json

import pytest
from typer.testing import CliRunner

from flows.assembly import assemble
from flows.cli import app
from flows.processing import process_scene
from flows.watching import watch_sources

RUN = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def job(operator_settings):
    """One published and one rejected scene of seven."""
    with assemble(operator_settings) as assembly:
        watch_sources(assembly, actor="test")
        states = {}
        for row in assembly.ledger.due():
            actor = f"process/{RUN}"
            page = f"http://ui.example.org/runs/flow-run/{RUN}"
            state = process_scene(assembly, row.id, actor=actor, run_url=page).state if len(states) < 2 else None
            if state:
                states.setdefault(state, row.id)
            if len(states) == 2:
                break
        yield assembly, states


def typed(*words, code=0):
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == code, f"{ran.output}{ran.exception!r}"
    return ran.stdout


def test_a_day_of_an_operator(job):
    assembly, states = job
    published, rejected = states["published"], states["rejected"]
    waiting = assembly.ledger.due_ids()

    told = json.loads(typed("status", "--json"))
    assert told["scenes"]["published"] == assembly.ledger.counts()["published"]
    assert told["overview"]["backlog"] == len(waiting)
    assert told["overview"]["costs"]["all"]["seconds"] > 0
    assert told["model"]["digest"]
    spoken = typed("status")
    assert "model in force" in spoken
    assert "last product of" in spoken

    assert "would become discovered" in typed("scenes", "retry", str(rejected), "--dry-run")
    assert assembly.ledger.scene(rejected).state == "rejected"
    assert "is now discovered" in typed("scenes", "retry", str(rejected), "--reason", "limits were changed")
    assert rejected in assembly.ledger.due_ids()
    assert assembly.ledger.history(rejected)[-1].why == "retry: limits were changed"
    typed("scenes", "reject", str(rejected), "--reason", "still not wanted")
    assert assembly.ledger.scene(rejected).reason == "reject: still not wanted"
    typed("scenes", "supersede", str(waiting[0]))
    assert assembly.ledger.scene(waiting[0]).state == "superseded"
    typed("scenes", "retry", str(published), code=1)
    typed("scenes", "release", str(waiting[1]), code=1)
    shown = typed("scenes", "show", str(published))
    assert f"/runs/flow-run/{RUN}" in shown
    [run] = [
        link for link in assembly.published_item(assembly.ledger.scene(published))["links"]
        if link["rel"] == "processing-execution"
    ]  # fmt: skip
    assert run["href"] == f"http://ui.example.org/runs/flow-run/{RUN}"

    page = typed("report")
    assert "| published |" in page
    assert json.loads(typed("report", "--json"))["overview"]["states"]["rejected"] == 1
    days = ("--begin", "2015-01-01", "--end", "2030-01-01")
    plan = json.loads(typed("backfill", *days, "--json", "--dry-run"))
    assert (plan["new"], plan["queued"], plan["known"]) == (0, 0, 7)
    found = json.loads(typed("reconcile", *days, "--json"))
    assert found["counts"] == {}
    assert sum(day["known"] for day in found["days"]) == 7
    assert "0 findings" in typed("reconcile", *days, "--sample", "0")


def test_what_would_be_started_and_stopped_is_told_and_not_done(operator_settings):
    said = typed("up", "--dry-run", "--limit", "3")
    assert "would start a Prefect server" in said
    assert "3 scenes at once" in said
    assert typed("down", "--dry-run") == "nothing is running\n"
    assert not (operator_settings.home / "run").exists()
