"""Measure the whole production of a scene: from its files to verified products, in a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from infra.machine import describe_machine
from infra.process_meter import ProcessMeter
from infra.scene.grid import ALIGNMENT
from infra.scenegen import TILE, generate_scene, read_chips
from infra.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.scenegen import GeneratedScene, Layout
    from infra.settings import Settings

_VERIFY: Final = "verify"
_DATABASE: Final = "bench.db"
_VERSIONS: Final = ("explains2a", "torch", "numpy", "rasterio")
_WORLD: Final = {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]}
_REGIONS: Final = {
    "type": "FeatureCollection",
    "features": [{"type": "Feature", "id": "whole-tile", "properties": {"crop": False}, "geometry": _WORLD}],
}
_LAST_WORDS: Final = 2000
"""Characters of a failed process's own words that are told."""


class BenchFailed(RuntimeError):
    """The measured production did not come to its end."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Bench:
    """What is measured, and where."""

    settings: Settings
    """The operator's: device, weights, threads and what the product holds are measured as they are set."""
    folder: Path
    """Scenes are kept here and used again; everything else is removed."""
    store: str = ""
    """Where products go: file:///folder or s3://bucket/prefix; empty: in `folder`. S3's keys are the settings'."""
    layout: Layout = "cog"
    chips: Path | None = None
    """Folder of real scenes to grow the measured one from; None: a synthetic landscape."""
    seed: int = 0
    keep: bool = False
    """Leave the products where they are."""
    tell: Callable[[str, float], object] = field(default=lambda _step, _done: None)
    """Told the step and the fraction of it that is done, 0-1."""


def pixels_of(size: int) -> int:
    """Return the edge of the scene that is made for a wanted one: whole 60 m pixels, no larger than a tile."""
    return max(ALIGNMENT, min(TILE, size // ALIGNMENT * ALIGNMENT))


def bench_pipeline(bench: Bench, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Put scenes of several sizes through the real production and say what it took.

    Each scene is made before, and the model is loaded before; neither is measured. Measured is everything from the
    claim of the scene to its publication, less the reading back: gates, production, preview, report, item.
    Verification is stated beside. Memory is that of the fresh process in which all of it runs, verification included.

    Args:
        bench: What is measured.
        sizes: Edges in 10 m pixels; rounded down to 60 m.

    Returns:
        One set of figures per size. Rates are in megapixels (10 m) per second. ``slowest_stage_mpx_per_s`` is what the
        stage with the most core-seconds of this run would reach if it alone had all cores.

    Raises:
        BenchFailed: a production did not end with a published product.
    """
    chips = read_chips(bench.chips) if bench.chips else ()
    figures = []
    for size in map(pixels_of, sizes):
        bench.folder.mkdir(parents=True, exist_ok=True)
        scene = generate_scene(
            bench.folder / "scenes", size, layout=bench.layout, chips=chips, seed=bench.seed, progress=bench.tell
        )
        figures.append(_measure(bench, scene))
    return figures


def _measure(bench: Bench, scene: GeneratedScene) -> dict[str, Any]:
    run = f"bench-{secrets.token_hex(4)}"
    url = f"{bench.store.rstrip('/') or (bench.folder / 'products').resolve().as_uri()}/{run}"
    with tempfile.TemporaryDirectory(prefix="run-", dir=bench.folder) as name:
        work = Path(name).resolve()
        try:
            events, meter = _produce(bench, scene, url, work)
        finally:
            if not bench.keep:
                _remove(bench.settings, url)
    begin, end = events["begin"], events["end"]
    if end["state"] != "published":
        raise BenchFailed(f"the scene ended as {end['state']}: {end['reason']}; expected a published product")
    return _figures(scene, begin, end, meter) | {"store": url.rpartition("/")[0] if not bench.keep else url}


def _produce(
    bench: Bench, scene: GeneratedScene, url: str, work: Path
) -> tuple[dict[str, dict[str, Any]], ProcessMeter]:
    """Run the measured process to its end; returns its last event of each kind, and what was seen from outside."""
    temporary = work / "tmp"
    temporary.mkdir()
    (work / "regions.geojson").write_text(json.dumps(_REGIONS), encoding="utf-8")
    job = work / "job.json"
    job.write_text(json.dumps({"settings": _overrides(scene, url, work)}), encoding="utf-8")
    environment = {**os.environ, "TMPDIR": str(temporary), "CPL_TMPDIR": str(temporary)}
    events: dict[str, dict[str, Any]] = {}
    command = [sys.executable, "-m", "flows.bench_run", str(job)]
    with (
        (work / "stderr").open("w+", encoding="utf-8") as words,
        subprocess.Popen(  # noqa: S603 - our own module, by this very interpreter
            command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment
        ) as process,
    ):
        try:
            with ProcessMeter(process.pid, [temporary], _journals(work)) as meter:
                for line in process.stdout or ():
                    event = json.loads(line)
                    events[event["event"]] = event
                    if event["event"] == "progress":
                        bench.tell(f"producing {scene.size} x {scene.size}", event["done"])
                code = process.wait()
        finally:
            process.kill()
        words.seek(0)
        said = words.read()[-_LAST_WORDS:]
    if code != 0 or "end" not in events:
        raise BenchFailed(f"the measured process ended with {code}: {said}")
    return events, meter


def _journals(work: Path) -> list[Path]:
    """Return what SQLite deletes while it has it open: the write-ahead log, and a statement's journal beyond 64 KiB."""
    return [work / _DATABASE, work / "tmp" / "etilqs_"]


def _overrides(scene: GeneratedScene, url: str, work: Path) -> dict[str, Any]:
    """Return what differs from the operator's settings; nothing here is secret."""
    return {
        "home": str(work / "home"),
        "database_url": f"sqlite:///{work / _DATABASE}",
        "regions_file": str(work / "regions.geojson"),
        "storage": {"url": url},
        "sources": [scene.source.model_dump(mode="json")],
        "processing": {"first_look_back_days": 36_500},
    }


def _figures(scene: GeneratedScene, begin: dict[str, Any], end: dict[str, Any], meter: ProcessMeter) -> dict[str, Any]:
    mpx = scene.size**2 / 1e6
    cores = len(os.sched_getaffinity(0))
    stages = {name: round(spent, 2) for name, spent in end["stages"].items() if name != _VERIFY}
    verify = end["seconds"].get(_VERIFY, 0.0)
    verify_core = end["stages"].get(_VERIFY, verify)  # it runs in one thread
    wall = end["at"] - begin["at"] - verify
    slowest = max(stages, key=lambda name: stages[name], default=None)
    whole = end["core_seconds"] - begin["core_seconds"] - verify_core
    return {
        "size": scene.size,
        "mpx": round(mpx, 3),
        "texture": scene.texture,
        "layout": scene.layout,
        "mpx_per_s": round(mpx / wall, 4),
        "wall_seconds": round(wall, 2),
        "slowest_stage": slowest,
        "slowest_stage_mpx_per_s": round(mpx * cores / stages[slowest], 4) if slowest else None,
        "stages": stages,
        "stages_core_seconds": round(sum(stages.values()), 2),
        "process_core_seconds": round(whole, 2),
        "core_utilisation": round((sum(stages.values()) or whole) / (cores * wall), 3),
        "cores": cores,
        "peak_rss_bytes": max(meter.peak_rss_bytes, end["peak_rss_bytes"]),
        "temp_disk_bytes": meter.temp_disk_bytes,
        "input_bytes": scene.input_bytes,
        "output_bytes": sum(end["files"].values()),
        "files": {href.rpartition("/")[2]: size for href, size in end["files"].items()},
        "requests": end["requests"],
        "verify_seconds": round(verify, 2),
        "wall_seconds_by_step": {name: round(seconds, 2) for name, seconds in end["seconds"].items()},
        "model": begin["model"],
        "machine": describe_machine(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _remove(settings: Settings, url: str) -> None:
    """Remove what a run wrote, and what it broke off writing."""
    store = open_store(settings.resolved_storage.model_copy(update={"url": url}))
    for stored in list(store.list()):
        store.delete(stored.key)
    store.clean_partial("", timedelta(0))
