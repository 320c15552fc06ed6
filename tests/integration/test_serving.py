"""`explains2a serve` with several processes: they share a port, are counted together and are replaced when they die."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from flows.serving import WorkersRefused, worker_count
from infra.settings import load_settings

POSTGRES = "postgresql+psycopg://someone@host/db"


def settings(tmp_path, database="", **api):
    return load_settings(home=tmp_path, database_url=database, api=api)


@pytest.mark.parametrize(
    ("database", "api", "asked", "number"),
    [
        ("", {}, None, 1),
        ("", {"workers": 3}, None, 3),
        (POSTGRES, {}, None, 4),
        (POSTGRES, {"requests_per_minute": 60}, None, 1),
        (POSTGRES, {"push_token": "a-token-of-twenty-one"}, None, 1),
        (POSTGRES, {"workers": 2}, None, 2),
        (POSTGRES, {"workers": 2}, 5, 5),
    ],
)
def test_as_many_processes_serve_as_database_limits_and_operator_say(
    tmp_path, monkeypatch, database, api, asked, number
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    assert worker_count(settings(tmp_path, database, **api), asked) == number


def test_a_limit_that_only_one_process_can_count_refuses_several(tmp_path):
    with pytest.raises(WorkersRefused, match="requests_per_minute"):
        worker_count(settings(tmp_path, requests_per_minute=60), 2)


@pytest.mark.server
def test_processes_share_a_port_are_counted_together_and_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLAINS2A_HOME", str(tmp_path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "--port", str(port), "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _served_by(serving, 2) and _health(address))
        for _ in range(20):
            assert httpx.get(f"{address}/collections", timeout=30).status_code == 200  # a connection of its own each
        for _ in range(6):  # whichever process is asked tells of all
            told = httpx.get(f"{address}/metrics", timeout=30).text
            (count,) = re.findall(r'requests_total\{method="GET",route="/collections",status="200"\} (\S+)', told)
            assert float(count) == 20
        victim = _served_by(serving, 2)[0]
        victim.kill()
        _until(lambda: victim.pid not in {each.pid for each in _served_by(serving, 2)} and _health(address))
    finally:
        serving.send_signal(signal.SIGTERM)
        said = serving.communicate(timeout=60)[1]
    assert "Traceback" not in said


def _served_by(serving, number):
    """The processes that answer, once there are so many."""
    try:
        children = psutil.Process(serving.pid).children()
        found = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
    except psutil.Error:  # one ended while we looked
        return []
    return found if len(found) == number else []


def _health(address) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _until(holds) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
