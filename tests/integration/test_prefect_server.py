"""A real Prefect server with the project's own deployments: schedules are made, servers stop."""

import time

import httpx
import psutil
import pytest

from flows import services


def ask(api, path, body):
    answer = httpx.post(f"{api}/{path}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


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
        answer = httpx.get(f"{running.catalog_url}/health", timeout=10)
        assert answer.status_code == 200
        with pytest.raises(services.ServiceFailed, match="run already"):
            services.up(operator_settings, progress=lambda _what: None)
    finally:
        stopped = services.down(operator_settings.home)
    assert set(stopped) == {"prefect-server", "catalog", "worker-cpu", "worker-gpu"}
    assert not any(psutil.pid_exists(service.pid) and service.process() for service in running.running)
    assert services.down(operator_settings.home) == ()
