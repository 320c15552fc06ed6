"""The servers of one machine: a Prefect server, its workers and the catalog API, started and stopped together.

Each server is a child process in a session of its own; who runs where stands in ``<home>/run/services.json``, so that
`down` in another terminal finds exactly the processes that `up` started and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import psutil
from dotenv import dotenv_values

from infra.logs import PREFECT_VARIABLES
from infra.settings import CONFIG_VARIABLE, config_file, env_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from infra.settings import Settings

logger = logging.getLogger(__name__)

CODE_ROOT: Final = Path(__file__).resolve().parent.parent
"""Folder that holds ``prefect.yaml`` and the packages."""

POOLS: Final = ("cpu", "gpu")
"""Work pools: watching and reporting on ``cpu``, scenes on ``gpu`` (a worker without a GPU serves it just as well)."""

_START_SECONDS = 120.0
_STOP_SECONDS = 15.0


class ServiceFailed(RuntimeError):
    """A server did not start or a command about it failed; the message names its log."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Service:
    """One running server."""

    name: str
    pid: int
    created: float
    """Start time of the process, seconds since the epoch: a recycled pid is not mistaken for ours."""
    url: str
    log: str

    def process(self) -> psutil.Process | None:
        """Return the live process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Services:
    """Everything `up` started."""

    prefect_api_url: str
    prefect_ui_url: str
    catalog_url: str
    running: tuple[Service, ...]


def up(settings: Settings, *, progress: Callable[[str], None], process_limit: int | None = None) -> Services:
    """Start the Prefect server, the deployments, one worker per pool and the catalog API.

    Args:
        settings: The settings in force; the servers inherit the environment and read the same ones.
        progress: Told, in words, what is being started.
        process_limit: Scenes processed at once; the settings' figure when None.

    Returns:
        Addresses and processes; also written to ``<home>/run/services.json``.

    Raises:
        ServiceFailed: something is running already, or did not come up within two minutes.
    """
    known = read_state(settings.home)
    if known and alive(settings.home):
        raise ServiceFailed(
            f"services run already (Prefect UI {known.prefect_ui_url}); stop them with: explains2a down"
        )
    port, catalog_port = free_port(4200), free_port(settings.api.port)
    api_url = f"http://127.0.0.1:{port}/api"
    catalog_url = f"http://127.0.0.1:{catalog_port}"
    environment = _environment(settings, api_url, f"http://127.0.0.1:{port}", catalog_url)
    limit = str(process_limit or settings.prefect.concurrency)
    started: list[Service] = []

    def launch(name: str, url: str, *command: str) -> Service:
        progress(name)
        started.append(_start(settings.home, name, url, environment, [sys.executable, "-m", *command]))
        return started[-1]

    try:
        local = ("--host", "127.0.0.1", "--port")
        server = launch("prefect-server", api_url, "prefect", "server", "start", *local, str(port), "--analytics-off")
        catalog = launch("catalog", catalog_url, "flows.cli", "serve", *local, str(catalog_port))
        _wait_for(f"{api_url}/health", server)
        progress("deployments")
        _deploy(environment, limit)
        for pool in POOLS:
            worker = ("prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", limit)
            launch(f"worker-{pool}", api_url, *worker, "--name", f"{socket.gethostname()}-{pool}")
        _wait_for(f"{catalog_url}/health", catalog)
    except BaseException:
        _stop(started)
        raise
    services = Services(api_url, f"http://127.0.0.1:{port}", catalog_url, tuple(started))
    _state_file(settings.home).write_text(json.dumps(asdict(services), indent=2), encoding="utf-8")
    return services


def would_start(settings: Settings, *, process_limit: int | None = None) -> str:
    """Say what `up` would do, and do nothing."""
    running = alive(settings.home)
    if running:
        return f"nothing would be started: {', '.join(running)} run already; stop them with: explains2a down"
    port, catalog_port = free_port(4200), free_port(settings.api.port)
    limit = process_limit or settings.prefect.concurrency
    return (
        f"would start a Prefect server at http://127.0.0.1:{port}, apply the deployments of "
        f"{CODE_ROOT / 'prefect.yaml'} and the alarms, and "
        f"start workers for {' and '.join(POOLS)} ({limit} scenes at once) and the catalog at "
        f"http://127.0.0.1:{catalog_port}; home {settings.home}"
    )


def alive(home: Path) -> tuple[str, ...]:
    """Return the names of what `up` started in this home and what still runs."""
    known = read_state(home)
    return tuple(service.name for service in known.running if service.process()) if known else ()


def down(home: Path) -> tuple[str, ...]:
    """Stop what `up` started, workers first; return the names of what was still running."""
    known = read_state(home)
    if known is None:
        return ()
    stopped = _stop(known.running)
    _state_file(home).unlink(missing_ok=True)
    return stopped


def read_state(home: Path) -> Services | None:
    """Return what `up` wrote, or None when nothing was started in this home."""
    try:
        state = json.loads(_state_file(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Services(**{**state, "running": tuple(Service(**service) for service in state["running"])})


def use(services: Services) -> None:
    """Point this process's Prefect client at the services; call before Prefect is imported."""
    os.environ["PREFECT_API_URL"] = services.prefect_api_url


def free_port(preferred: int) -> int:
    """Return `preferred` when it is free on 127.0.0.1, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceFailed("no free port on 127.0.0.1")


def _state_file(home: Path) -> Path:
    return home / "run" / "services.json"


def _environment(settings: Settings, api_url: str, ui_url: str, catalog_url: str) -> dict[str, str]:
    prefect_home = settings.home / "prefect"
    return {
        **_operator_variables(),
        **os.environ,
        **_operator_paths(settings),
        "EXPLAINS2A_PREFECT__UI_URL": ui_url,
        "EXPLAINS2A_API__PUBLIC_URL": settings.api.public_url or catalog_url,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_API_URL": api_url,
        "PREFECT_UI_API_URL": api_url,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{prefect_home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "15",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # by which an automation notices runs whose process is gone
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,infra,catalog,model",
        **(PREFECT_VARIABLES if settings.log_format == "json" else {}),
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _operator_paths(settings: Settings) -> dict[str, str]:
    """Name the operator's files by absolute paths: flow runs work in another folder."""
    paths = {"EXPLAINS2A_HOME": str(settings.home)}
    if config_file().is_file():
        paths[CONFIG_VARIABLE] = str(config_file())
    if settings.regions_file:
        paths["EXPLAINS2A_REGIONS_FILE"] = str(settings.regions_file)
    if settings.model_path:
        paths["EXPLAINS2A_MODEL_PATH"] = str(settings.model_path)
    return paths


def _operator_variables() -> dict[str, str]:
    """Return what the operator's ``.env`` sets for us: flow runs do not see that file from where they work."""
    own = {name: value for name, value in dotenv_values(env_file()).items() if name.upper().startswith("EXPLAINS2A_")}
    return {name: value for name, value in own.items() if value is not None}


def _start(home: Path, name: str, url: str, environment: Mapping[str, str], command: Sequence[str]) -> Service:
    log = home / "run" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    quiet, append = (0, os.devnull, os.O_RDONLY, 0), (1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[(os.POSIX_SPAWN_OPEN, *quiet), (os.POSIX_SPAWN_OPEN, *append), (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
    )
    created = psutil.Process(pid).create_time()
    logger.info("started %s, pid %d, log %s", name, pid, log)
    return Service(name=name, pid=pid, created=created, url=url, log=str(log))


def _wait_for(url: str, service: Service) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if service.process() is None:
            raise ServiceFailed(f"{service.name} ended while starting; its log: {service.log}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http on 127.0.0.1, made above
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.25)
    raise ServiceFailed(f"{service.name} did not answer {url} within {_START_SECONDS:.0f} s; its log: {service.log}")


def _deploy(environment: Mapping[str, str], limit: str) -> None:
    """Make pools, queues and limits, apply ``prefect.yaml`` with Prefect's own command, then the automations."""
    _run(("flows.provisioning", "--limit", limit), environment)
    deploy = ("--no-prompt", "deploy", "--all", "--prefect-file", str(CODE_ROOT / "prefect.yaml"))
    _run(("prefect", *deploy), environment)
    _run(("flows.cli", "automations", "apply"), environment)


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    result = subprocess.run(  # noqa: S603 - our own interpreter with fixed arguments
        [sys.executable, "-m", *arguments],
        cwd=CODE_ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode:
        said = f"{result.stdout[-2000:]}{result.stderr[-2000:]}"
        raise ServiceFailed(f"`{' '.join(arguments)}` failed ({result.returncode}):\n{said}")


def _stop(services: Sequence[Service]) -> tuple[str, ...]:
    """Stop in reverse order of starting: a worker may need a second SIGTERM, and its runs end with it."""
    stopped = []
    for service in reversed(services):
        process = service.process()
        if process is None:
            continue
        family = [process, *process.children(recursive=True)]
        for attempt in range(3):
            _signal(family, kill=attempt == 2)
            _gone, family = psutil.wait_procs(family, timeout=_STOP_SECONDS if attempt == 0 else 5)
            if not family:
                break
        stopped.append(service.name)
    return tuple(stopped)


def _signal(processes: Sequence[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.NoSuchProcess:
            continue
