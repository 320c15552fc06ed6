"""One operator's installation over real servers: ledger on PostgreSQL, products on S3, two services as sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from catalog.states import SceneState
from flows import services
from flows.assembly import Assembly, assemble
from flows.interventions import Intervention, intervene
from flows.watching import WatchReport, watch_sources
from infra.range_server import RangeServer
from infra.settings import CONFIG_VARIABLE, Settings, load_settings
from tests.campaign.door import Door
from tests.campaign.prefect_server import PrefectServer
from tests.campaign.processes import eventually, kill_service
from tests.campaign.scenes import Cut, deliver
from tests.replayed import Archive, replayed
from tests.seaweed import Seaweed

LEASE_S, HEARTBEAT_S = 12, 3
PART_BYTES = 5 << 20
EVERYWHERE = {
    "type": "Feature", "id": "everywhere", "properties": {"cloud_limit": 0.6},
    "geometry": {"type": "Polygon", "coordinates": [[[-12, 35], [35, 35], [35, 70], [-12, 70], [-12, 35]]]},
}  # fmt: skip
RESTING = frozenset({SceneState.PUBLISHED, SceneState.REJECTED, SceneState.QUARANTINED, SceneState.SUPERSEDED})


class House:
    """An installation. Use `house` to open one."""

    def __init__(
        self, folder: Path, settings: Settings, assembly: Assembly, first: Archive, second: Archive, files: Path,
        files_door: Door, s3_door: Door | None,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.assembly = folder, settings, assembly
        self.first, self.second = first, second
        self.files_door, self.s3_door = files_door, s3_door
        self.config = folder / "explains2a.toml"
        self._files = files
        self._started: list[subprocess.Popen[bytes]] = []
        self.workers: list[services.Service] = []
        self._logs: dict[int, Path] = {}

    @property
    def ledger(self):
        """The ledger."""
        return self.assembly.ledger

    def deliver(self, cut: Cut) -> dict[str, Any]:
        """Write a delivery's files and return its item, not offered yet."""
        return deliver(cut, self._files, self.files_door.url)

    def offer(self, *cuts: Cut) -> None:
        """Let the first service have some deliveries."""
        for cut in cuts:
            self.first.items[cut.product] = self.deliver(cut)

    def look(self) -> WatchReport:
        """Look at both services once."""
        return watch_sources(self.assembly, actor="watch")

    def schedule(self, prefect: PrefectServer) -> list[str]:
        """Look, and ask for a process run of every scene that is due, as the watch flow does."""
        from flows.watch import schedule_due

        self.look()
        with prefect.client():
            return schedule_due(self.assembly)

    @property
    def database_url(self) -> str:
        """Address of the ledger."""
        return self.settings.database_url.get_secret_value()

    @property
    def environment(self) -> dict[str, str]:
        """Of a command that works without Prefect."""
        return {**os.environ, CONFIG_VARIABLE: str(self.config), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command `explains2a` as a process of its own; it is ended with the house."""
        log = self.folder / f"{'-'.join(arguments)}-{len(self._started)}.log".replace("--", "")
        with log.open("ab") as out:
            started = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, cwd=services.CODE_ROOT, start_new_session=True,
            )  # fmt: skip
        self._started.append(started)
        self._logs[started.pid] = log
        return started

    def said_by(self, started: subprocess.Popen[bytes]) -> str:
        """Return what a command has printed so far."""
        return self._logs[started.pid].read_text(errors="replace")

    def run(self, *arguments: str) -> int:
        """Run the command `explains2a` to its end and return its exit code."""
        return self.start(*arguments).wait(240)

    def worker(self, prefect: PrefectServer, name: str, pool: str = "gpu", limit: int = 8) -> services.Service:
        """Start a real Prefect worker; its runs belong to this house."""
        command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
        command += ["--limit", str(limit)]
        started = services._start(
            self.folder, name, prefect.api_url, prefect.environment(self.settings, self.config),
            [sys.executable, *command],
        )  # fmt: skip
        self.workers.append(started)
        return started

    def scene(self, cut: Cut):
        """Return the newest row of an acquisition."""
        return max(
            (row for row in self.ledger.scenes(limit=10_000) if row.acquisition == cut.acquisition),
            key=lambda row: (row.baseline, row.id),
        )

    def flow_run(self, cut: Cut) -> str:
        """Return the flow run that claimed a scene last."""
        claims = [step for step in self.ledger.history(self.scene(cut).id) if step.after == SceneState.CLAIMED]
        return claims[-1].actor.removeprefix("process/")

    def wait_for_rest(self, *, seconds: float = 240) -> None:
        """Wait until every scene of the ledger rests."""
        eventually(f"every scene rests; now {self.ledger.counts()}", self.rests, seconds=seconds, pause=0.5)

    def rests(self) -> bool:
        """Say whether nothing waits and nothing is in work."""
        return set(self.ledger.counts()) <= RESTING

    def finish(self, *, seconds: float = 240) -> None:
        """Have what is due made by the command until every scene rests; failed scenes are retried by hand."""
        deadline = time.monotonic() + seconds
        while not self.rests():
            assert time.monotonic() < deadline, f"not at rest within {seconds:.0f} s: {self.ledger.counts()}"
            for row in self.ledger.scenes(state=SceneState.FAILED, limit=1000):
                intervene(self.ledger, row.id, Intervention.RETRY, reason="the fault is over", actor="operator")
            if self.ledger.due_ids():
                self.run("process", "--due")
            else:
                time.sleep(0.5)

    def close(self) -> None:
        """End what was started here, and nothing else."""
        for worker in self.workers:
            kill_service(worker)
        for started in self._started:
            if started.poll() is None:
                started.kill()
                started.wait()


@contextmanager
def house(
    folder: Path, database_url: str, *, seaweed: Seaweed | None = None, storage_url: str = "",
    regions: tuple[dict[str, Any], ...] = (EVERYWHERE,), lease_s: int = LEASE_S, page_size: int = 4,
) -> Iterator[House]:  # fmt: skip
    """Open an installation; its products lie on S3 behind a door, or where `storage_url` says."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "upstream"
    files.mkdir()
    (folder / "regions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": list(regions)}))
    with ExitStack() as stack:
        first, second = stack.enter_context(replayed()), stack.enter_context(replayed())
        upstream = stack.enter_context(RangeServer(files))
        files_door = Door(int(upstream.url("").rpartition(":")[2].strip("/")))
        stack.callback(files_door.close)
        s3_door = None
        storage = f'url = "{storage_url}"\n'
        if seaweed is not None:
            s3_door = Door(int(seaweed.endpoint.rpartition(":")[2]))
            stack.callback(s3_door.close)
            storage = (
                f'url = "s3://products/{folder.name}"\nendpoint_url = "{s3_door.url}"\npart_size = {PART_BYTES}\n'
                f'access_key = "{seaweed.admin.access}"\nsecret_key = "{seaweed.admin.secret}"\n'
            )
        sources = "".join(
            f'[[sources]]\nkind = "{kind}"\nname = "{name}"\nurl = "{archive.url}/v1"\npage_size = {page_size}\n'
            f'timeout_seconds = 10\nmax_attempts = 3\nasset_hosts = ["{files_door.url}"]\n'
            for kind, name, archive in (("earth_search", "first", first), ("cdse", "second", second))
        )
        config = folder / "explains2a.toml"
        config.write_text(
            f'home = "home"\nregions_file = "regions.geojson"\ndatabase_url = "{database_url}"\ndevice = "cpu"\n'
            f"[processing]\nlease_seconds = {lease_s}\nheartbeat_seconds = {HEARTBEAT_S}\nthreads = 1\n"
            f"[storage]\n{storage}{sources}"
        )
        with _configured(config):
            settings = load_settings()
        assembly = stack.enter_context(assemble(settings))
        opened = House(folder, settings, assembly, first, second, files, files_door, s3_door)
        stack.callback(opened.close)
        yield opened


@contextmanager
def _configured(config: Path) -> Iterator[None]:
    before = os.environ.get(CONFIG_VARIABLE)
    os.environ[CONFIG_VARIABLE] = str(config)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONFIG_VARIABLE]
        else:
            os.environ[CONFIG_VARIABLE] = before
