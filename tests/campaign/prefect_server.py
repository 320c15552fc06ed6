"""A real Prefect server with its own database and the project's own deployments; it can be killed and started again."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from flows import services
from infra.settings import CONFIG_VARIABLE, Settings
from tests.campaign.processes import eventually, kill_service

PLACES = 16
"""Scenes at once on this machine by Prefect's limit: a killed run keeps its place for two minutes."""


class PrefectServer:
    """One server; `start` may be called again after `kill`."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._port = services.free_port(0)
        self.ui_url = f"http://127.0.0.1:{self._port}"
        self.api_url = f"{self.ui_url}/api"
        self._environment = services._environment(settings, self.api_url, self.ui_url, "http://127.0.0.1:9")
        self._service: services.Service | None = None

    def start(self) -> PrefectServer:
        """Start the server and wait until it answers."""
        command = ["server", "start", "--host", "127.0.0.1", "--port", str(self._port), "--analytics-off"]
        self._service = services._start(
            self._home, "prefect-server", self.api_url, self._environment, [services.sys.executable, "-m", "prefect",
                                                                            *command]
        )  # fmt: skip
        services._wait_for(f"{self.api_url}/health", self._service)
        return self

    def deploy(self) -> None:
        """Make pools, queues, limits, deployments and automations as `explains2a up` does."""
        services._deploy(self._environment, str(PLACES))

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        kill_service(self._service)

    def environment(self, settings: Settings, config: Path) -> dict[str, str]:
        """Return what a worker of an installation is started with."""
        made = services._environment(settings, self.api_url, self.ui_url, "http://127.0.0.1:9")
        return made | {CONFIG_VARIABLE: str(config), "EXPLAINS2A_HOME": str(settings.home)}

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Send one request that may be repeated, as Prefect's own client does while the server's SQLite is busy."""

        def send() -> httpx.Response | None:
            try:
                answer = httpx.post(f"{self.api_url}/{path}", json=body, timeout=30)
            except httpx.TimeoutException:
                return None
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return eventually(f"an answer to {path}", send, pause=1).raise_for_status().json()

    def run_states(self, *flow_runs: str) -> list[str]:
        """Return how runs stand, in their order."""
        found = self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": list(flow_runs)}}})
        states = {run["id"]: run["state"]["type"] for run in found}
        return [states[one] for one in flow_runs]

    def start_run(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Ask for a run of a deployment, as its form in the UI does; returns its id."""
        found = self.ask("deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        key = secrets.token_hex(8)
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        return self.ask(f"deployments/{found[0]['id']}/create_flow_run", body)["id"]

    @contextmanager
    def client(self):
        """Point this process's Prefect client at the server."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        before = os.environ.get("PREFECT_API_URL")
        os.environ["PREFECT_API_URL"] = self.api_url
        try:
            with temporary_settings({PREFECT_API_URL: self.api_url}):
                yield
        finally:
            if before is None:
                del os.environ["PREFECT_API_URL"]
            else:
                os.environ["PREFECT_API_URL"] = before
