"""Operating system processes of a drill: found, frozen, killed with everything they started."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import psutil

from flows.services import Service

T = TypeVar("T")

PATIENCE_S = 240


def eventually(what: str, look: Callable[[], T], *, seconds: float = PATIENCE_S, pause: float = 0.2) -> T:
    """Look until something true is seen and return it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)
    return seen


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(*processes: psutil.Process) -> None:
    """SIGKILL, all at once, and wait until they are gone; a zombie that its parent has not reaped yet is gone, too."""
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    eventually("killed processes are gone", lambda: not any(map(_lives, processes)), seconds=30, pause=0.05)


def kill_service(service: Service | None) -> None:
    """SIGKILL a server with everything that it started; nothing where it has ended."""
    if service is not None and (process := service.process()) is not None:
        kill(*family(process.pid))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_process(pid: int, flow_run: str) -> psutil.Process | None:
    """Return the process below a worker that executes a flow run."""
    for each in family(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if each.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                return each
    return None


def asking(pid: int, port: int) -> psutil.Process | None:
    """Return the process, of one and those it started, that has a connection from a local port."""
    for each in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(one.laddr and one.laddr.port == port for one in each.net_connections("tcp")):
                return each
    return None


def owner(candidates: Iterable[int], port: int) -> tuple[int, psutil.Process]:
    """Return which candidate, and which process below it, has a connection from a local port."""
    found = [(pid, process) for pid in candidates if (process := asking(pid, port)) is not None]
    assert len(found) == 1, f"{len(found)} processes asked from port {port}"
    return found[0]
