"""A real Prefect server with the project's own deployments: schedules are made, servers stop."""

import os
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from flows import services


def ask(api, path, body):
    answer = httpx.post(f"{api}/{path}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


SCHEDULE = """
from flows.assembly import assemble
from flows.watch import schedule_due
from flows.watching import watch_sources
with assemble() as assembly:
    watch_sources(assembly, actor="test")
    print(len(schedule_due(assembly)))
"""


def schedule(api):
    ran = subprocess.run(
        [sys.executable, "-c", SCHEDULE], env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return int(ran.stdout.splitlines()[-1])


def a_run_that_died_before_claiming_is_replaced(api):
    """Looking twice makes one run per scene; a cancelled run does not keep its scene waiting for ever."""
    httpx.patch(f"{api}/work_pools/gpu", json={"is_paused": True}, timeout=30).raise_for_status()
    of_process = {"flows": {"name": {"any_": ["process"]}}}
    assert schedule(api) == 7
    assert schedule(api) == 7
    runs = ask(api, "flow_runs/filter", of_process)
    assert len(runs) == 7
    cancelled = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
    httpx.post(f"{api}/flow_runs/{runs[0]['id']}/set_state", json=cancelled, timeout=30).raise_for_status()
    schedule(api)
    runs = ask(api, "flow_runs/filter", of_process)
    assert sorted(run["state_type"] for run in runs) == ["CANCELLED"] + ["SCHEDULED"] * 7


@pytest.mark.server
@pytest.mark.slow
def test_the_cron_deployment_gets_a_scheduled_run_and_down_stops_everything(operator_settings):
    """SQLAlchemy 2.1 made Prefect's scheduler create nothing, silently: this is the watch against it."""
    running = services.up(operator_settings, progress=lambda _what: None)
    try:
        api = running.prefect_api_url
        deployments = {d["name"]: d for d in ask(api, "deployments/filter", {})}
        assert set(deployments) == {"watch", "process"}
        (schedule,) = deployments["watch"]["schedules"]
        assert schedule["schedule"]["timezone"] == "UTC"
        wanted = {
            "deployments": {"id": {"any_": [deployments["watch"]["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        deadline = time.monotonic() + 90
        while not (scheduled := ask(api, "flow_runs/filter", wanted)):
            assert time.monotonic() < deadline, "the scheduler made no run for the cron deployment"
            time.sleep(1)
        assert all(run["auto_scheduled"] for run in scheduled)
        assert httpx.get(f"{running.catalog_url}/health", timeout=10).status_code == 200
        a_run_that_died_before_claiming_is_replaced(api)
        with pytest.raises(services.ServiceFailed, match="run already"):
            services.up(operator_settings, progress=lambda _what: None)
    finally:
        stopped = services.down(operator_settings.home)
    assert set(stopped) == {"prefect-server", "catalog", "worker-cpu", "worker-gpu"}
    assert not any(psutil.pid_exists(service.pid) and service.process() for service in running.running)
    assert services.down(operator_settings.home) == ()
