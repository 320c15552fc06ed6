"""A real Prefect server with the project's own deployments: schedules, queues, limits, automations, operators' runs."""

import json
import os
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from flows import services

PATIENCE_S = 300


def send(method, url, body):
    """Ask the server as Prefect's own client does: again after a 503 or a silence, while its SQLite is busy.

    Every request sent here may be repeated: it reads, sets a state that stands, or carries an idempotency key.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = httpx.request(method, url, json=body, timeout=30)
        except httpx.TimeoutException:
            if time.monotonic() > deadline:
                raise
            continue
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            answer.raise_for_status()
            return answer
        time.sleep(1)


def ask(api, path, body):
    return send("POST", f"{api}/{path}", body).json()


def pause(api, *, paused):
    send("PATCH", f"{api}/work_pools/gpu", {"is_paused": paused})


SCHEDULED = {"watch", "reconcile", "report", "maintain"}
BY_HAND = {"process", "backfill", "retry", "release", "reject", "supersede", "deprecate"} | {
    "model-shadow", "model-promote", "model-rollback"
}  # fmt: skip

BACKFILL_THEN_WATCH = """
from datetime import date
from flows.assembly import assemble
from flows.backfilling import plan_backfill, record_backfill
with assemble() as assembly:
    plan = plan_backfill(assembly, date(2015, 1, 1), date(2030, 1, 1))
    record_backfill(assembly, type(plan)(**{**vars(plan), "new": plan.new[:3]}), who="test")
"""

SCHEDULE = """
from flows.assembly import assemble
from flows.watch import schedule_due
from flows.watching import watch_sources
with assemble() as assembly:
    watch_sources(assembly, actor="test")
    print(len(schedule_due(assembly)))
"""


IMPATIENTLY = """
from datetime import timedelta
from flows import dead_runs
dead_runs.SILENT_AFTER = timedelta(0)
"""


def schedule(api, before=""):
    return int(python(api, before + SCHEDULE).splitlines()[-1])


def python(api, script):
    ran = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def a_run_that_died_before_claiming_is_replaced(api):
    """Looking twice makes one run per scene; a cancelled run does not keep its scene waiting for ever."""
    of_process = {"flows": {"name": {"any_": ["process"]}}}
    assert schedule(api) == 7
    assert schedule(api) == 7
    runs = ask(api, "flow_runs/filter", of_process)
    assert len(runs) == 7
    cancelled = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
    send("POST", f"{api}/flow_runs/{runs[0]['id']}/set_state", cancelled)
    schedule(api)
    runs = ask(api, "flow_runs/filter", of_process)
    assert sorted(run["state_type"] for run in runs) == ["CANCELLED"] + ["SCHEDULED"] * 7
    a_run_whose_machine_died_before_claiming_is_marked_and_replaced(api, runs, of_process)
    for run in runs:
        kinds = {tag.partition(":")[0] for tag in run["tags"]}
        assert {"tile", "region", "mode", "model"} <= kinds


def a_run_whose_machine_died_before_claiming_is_marked_and_replaced(api, runs, of_process):
    """Nobody reports it, it holds no lease, and no alarm knows it: it has never sent a sign of life."""
    [dead, *_] = [run for run in runs if run["state_type"] == "SCHEDULED"]
    running = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
    send("POST", f"{api}/flow_runs/{dead['id']}/set_state", running)
    schedule(api)
    assert {run["id"]: run["state_type"] for run in ask(api, "flow_runs/filter", of_process)}[dead["id"]] == "RUNNING"
    schedule(api, IMPATIENTLY)
    after = ask(api, "flow_runs/filter", of_process)
    assert sorted(run["state_type"] for run in after) == ["CANCELLED", "CRASHED"] + ["SCHEDULED"] * 7
    assert {run["id"]: run["state_type"] for run in after}[dead["id"]] == "CRASHED"


def a_backfill_waits_behind_todays_scenes(api):
    """Whoever asks first: workers are handed what is to be made today before what a backfill asked for."""
    runs = ask(api, "flow_runs/filter", {"flows": {"name": {"any_": ["process"]}}})
    modes = {run["id"]: run["work_queue_name"] for run in runs if run["state_type"] == "SCHEDULED"}
    assert sorted(modes.values()) == ["backfill"] * 3 + ["realtime"] * 4
    assert all(f"mode:{run['work_queue_name']}" in run["tags"] for run in runs)
    pause(api, paused=False)
    handed = ask(api, "work_pools/gpu/get_scheduled_flow_runs", {"limit": 4})
    pause(api, paused=True)
    assert [modes.get(one["flow_run"]["id"], "realtime") for one in handed] == ["realtime"] * len(handed)


def queues_limits_and_forms_are_there(api, deployments):
    queues = {q["name"]: q for q in ask(api, "work_pools/gpu/queues/filter", {})}
    assert queues["realtime"]["priority"] < queues["backfill"]["priority"]
    assert queues["backfill"]["concurrency_limit"] == 1
    limits = ask(api, "v2/concurrency_limits/filter", {})
    (limit,) = [one for one in limits if one["name"].startswith("explains2a-device-")]
    assert limit["limit"] == 2
    for name, deployment in deployments.items():
        for parameter in deployment["parameter_openapi_schema"].get("properties", {}).values():
            assert parameter.get("description"), f"a parameter of {name} is not described: {parameter}"
        assert deployment["description"]


def automations_are_there_and_applying_them_again_changes_nothing(api):
    found = {one["name"]: one for one in ask(api, "automations/filter", {})}
    files = [json.loads(path.read_text()) for path in (services.CODE_ROOT / "infra/automations").glob("*.json")]
    assert set(found) == {one["name"] for one in files}
    for one in files:
        there, wanted = found[one["name"]], one["trigger"]
        assert there["enabled"]
        assert there["description"] == one["description"]
        for part in ("posture", "threshold", "within", "match"):
            assert there["trigger"][part] == wanted[part]
        for part in ("expect", "after", "for_each"):
            assert sorted(there["trigger"][part]) == sorted(wanted.get(part, []))
        assert [a["type"] for a in there["actions"]] == [a["type"] for a in one["actions"]]
    ran = subprocess.run(
        [sys.executable, "-m", "flows.cli", "automations", "apply", "--dry-run"],
        env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert ran.stdout.count("unchanged") == len(files)


def operators_runs_end_well_and_leave_their_artifacts(api, deployments):
    wanted = {
        "report": {},
        "reconcile": {"begin": "2015-01-01", "end": "2030-01-01"},
        "maintain": {},
        "reject": {"scene_id": 1, "reason": "not wanted here"},
        "backfill": {"begin": "2015-01-01", "end": "2030-01-01"},
        "model-promote": {"reason": "the shipped weights again", "dry_run": True},
    }
    runs = {}
    for name, parameters in wanted.items():
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters, "idempotency_key": f"by-hand-{name}"}
        runs[name] = ask(api, f"deployments/{deployments[name]['id']}/create_flow_run", body)["id"]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        these = {"flow_runs": {"id": {"any_": [*runs.values()]}}}
        states = {run["id"]: run["state"] for run in ask(api, "flow_runs/filter", these)}
        if all(state["type"] in {"COMPLETED", "FAILED", "CRASHED"} for state in states.values()):
            break
        assert time.monotonic() < deadline, states
        time.sleep(1)
    assert {name: states[run]["type"] for name, run in runs.items()} == dict.fromkeys(runs, "COMPLETED"), states
    keys = {one["key"] for one in ask(api, "artifacts/latest/filter", {})}
    assert {"today", "backlog", "drift", "completeness"} <= keys


@pytest.mark.server
@pytest.mark.slow
def test_the_cron_deployment_gets_a_scheduled_run_and_down_stops_everything(operator_settings):
    """SQLAlchemy 2.1 made Prefect's scheduler create nothing, silently: this is the watch against it."""
    running = services.up(operator_settings, progress=lambda _what: None)
    try:
        api = running.prefect_api_url
        deployments = {d["name"]: d for d in ask(api, "deployments/filter", {})}
        assert set(deployments) == SCHEDULED | BY_HAND
        pause(api, paused=True)
        assert {name for name, one in deployments.items() if one["schedules"]} == SCHEDULED
        for name in SCHEDULED:
            (cron,) = deployments[name]["schedules"]
            assert cron["schedule"]["timezone"] == "UTC"
            wanted = {
                "deployments": {"id": {"any_": [deployments[name]["id"]]}},
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            }
            deadline = time.monotonic() + 90
            while not (scheduled := ask(api, "flow_runs/filter", wanted)):
                assert time.monotonic() < deadline, f"the scheduler made no run for the cron deployment {name}"
                time.sleep(1)
            assert all(run["auto_scheduled"] for run in scheduled)
        queues_limits_and_forms_are_there(api, deployments)
        automations_are_there_and_applying_them_again_changes_nothing(api)
        assert httpx.get(f"{running.catalog_url}/health", timeout=10).status_code == 200
        python(api, BACKFILL_THEN_WATCH)
        a_run_that_died_before_claiming_is_replaced(api)
        a_backfill_waits_behind_todays_scenes(api)
        operators_runs_end_well_and_leave_their_artifacts(api, deployments)
        with pytest.raises(services.ServiceFailed, match="run already"):
            services.up(operator_settings, progress=lambda _what: None)
    finally:
        stopped = services.down(operator_settings.home)
    assert set(stopped) == {"prefect-server", "catalog", "worker-cpu", "worker-gpu"}
    assert not any(psutil.pid_exists(service.pid) and service.process() for service in running.running)
    assert services.down(operator_settings.home) == ()
