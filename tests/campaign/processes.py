"""Operating system processes of a drill: found, frozen, killed with everything they started."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

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
    """SIGKILL, all at once, and wait until they are gone."""
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(processes, timeout=20)


def kill_family(pid: int) -> None:
    """SIGKILL a process with everything that it started."""
    kill(*family(pid))


def run_process(pid: int, flow_run: str) -> psutil.Process | None:
    """Return the process below a worker that executes a flow run."""
    for each in family(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if each.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                return each
    return None
