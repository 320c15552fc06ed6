"""The demonstration: the real main job on real scenes, run as an operator's installation would run it.

It only writes an operator's settings, a folder of scenes and a region file, and then uses the product like anybody
else; nothing in the product knows of it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from rich.console import Console
from rich.table import Table

from flows import services
from infra.demo import build_demo
from infra.settings import CONFIG_VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prefect.client.schemas.objects import FlowRun

    from catalog.ledger import SceneRow
    from flows.assembly import Assembly
    from infra.settings import Settings

_SETTINGS: Final = """# Written by `explains2a demo`; an operator's own file looks like this.
home = "{home}"
regions_file = "{regions}"

[[sources]]
kind = "folder"
name = "patches"
path = "{items}"

[processing]
first_look_back_days = 36500
threads = 2
"""

_TABLE_WIDTH = 200
"""Characters: paths are to be copied, not guessed from their first half."""
_WAIT_SECONDS = 900.0
_PATIENCE_SECONDS = 60.0
_RESTING = frozenset({"published", "rejected", "quarantined", "superseded", "failed"})


class DemoFailed(RuntimeError):
    """The demonstration did not end as it must; the message says what was found."""

    transient: ClassVar[bool] = False


def run_demo(folder: Path, *, keep: bool, console: Console) -> None:
    """Prepare scenes, start the servers, let one watch run find them and wait until every scene rests.

    Args:
        folder: Where everything is kept; a second call with the same folder finds nothing new.
        keep: Leave the servers running.
        console: Where people read.

    Raises:
        DemoFailed: a scene failed, or did not come to rest within 15 minutes.
    """
    prepared = build_demo(folder / "scenes", progress=lambda what: console.print(f"scenes: {what}"))
    config = folder / "explains2a.toml"
    config.write_text(
        _SETTINGS.format(home=folder / "home", regions=prepared.regions_file, items=prepared.items), encoding="utf-8"
    )
    os.environ[CONFIG_VARIABLE] = str(config)
    settings = load_settings()
    running = services.read_state(settings.home)
    if running and any(service.process() for service in running.running):
        console.print("servers run already and are used as they are")
    else:
        running = services.up(settings, progress=lambda what: console.print(f"starting {what}"))
    try:
        services.use(running)
        _watch_and_wait(settings, console)
        _report(settings, running, console, keep=keep)
    finally:
        if not keep:
            services.down(settings.home)


def _watch_and_wait(settings: Settings, console: Console) -> None:
    from flows.assembly import assemble

    with assemble(settings) as assembly:
        before = len(assembly.ledger.scenes(limit=10_000))
        began = time.monotonic()
        console.print("asking the watch flow to look at the source")
        rows = _wait_for_rest(assembly, console, look=_look)
        new = len(rows) - before
        if not new:
            console.print("nothing new: every delivered scene is known already", style="bold")
        else:
            console.print(f"{new} scenes came to rest in {time.monotonic() - began:.0f} s")


def _look() -> None:
    """Start one watch run and wait for it."""
    from prefect.deployments import run_deployment

    run = cast("FlowRun", run_deployment("watch/watch", timeout=300, poll_interval=1, as_subflow=False))
    if run.state is None or not run.state.is_completed():
        raise DemoFailed(f"the watch run {run.name} ended as {run.state}")


def _wait_for_rest(assembly: Assembly, console: Console, *, look: Callable[[], None]) -> list[SceneRow]:
    """Wait until every scene rests; look again when nothing moved for a while (a killed demo left a lease behind)."""
    deadline, shown, moved = time.monotonic() + _WAIT_SECONDS, "", time.monotonic()
    look()
    while True:
        rows = assembly.ledger.scenes(limit=10_000)
        said = ", ".join(f"{number} {state}" for state, number in sorted(assembly.ledger.counts().items()))
        if said != shown:
            console.print(f"  {said}")
            shown, moved = said, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE_SECONDS:
            look()
            moved = time.monotonic()
        if all(row.state in _RESTING for row in rows):
            return rows
        if time.monotonic() > deadline:
            raise DemoFailed(f"scenes did not come to rest within {_WAIT_SECONDS:.0f} s: {said}; logs: run/*.log")
        time.sleep(1)


def _report(settings: Settings, running: services.Services, console: Console, *, keep: bool) -> None:
    from flows.assembly import assemble

    with assemble(settings) as assembly:
        table = Table("scene", "state", "seconds", "quality", "files, or why not")
        previews = []
        rows = sorted(assembly.ledger.scenes(limit=10_000), key=lambda row: row.id)
        for row in rows:
            item = assembly.published_item(row)
            properties = item["properties"] if item else {}
            seconds = properties.get("explains2a:seconds")
            table.add_row(
                f"{row.tile} {row.sensed:%Y-%m-%d} {row.region}",
                str(row.state),
                f"{seconds:.1f}" if seconds is not None else "",
                _quality(properties),
                _folder(item) if item else row.reason or "",
            )
            if item:
                previews.append(item["assets"]["preview"]["href"])
    wide = console if console.is_terminal else Console(width=_TABLE_WIDTH, markup=False, highlight=False)
    wide.print(table)
    console.print("previews:" if previews else "")
    for preview in previews:
        console.print(f"  {preview.removeprefix('file://')}", soft_wrap=True)
    console.print(f"files: {settings.resolved_storage.url.removeprefix('file://')}", soft_wrap=True)
    if keep:
        console.print(f"Prefect UI   {running.prefect_ui_url}\ncatalog      {running.catalog_url}")
        console.print(f"stop with    {CONFIG_VARIABLE}={os.environ[CONFIG_VARIABLE]} explains2a down", soft_wrap=True)
    else:
        console.print("look at the UI and the catalog while they run: make demo KEEP=1")
    lost = [row for row in rows if row.state in {"failed", "quarantined"}]
    if lost:
        raise DemoFailed("; ".join(f"scene {row.id} {row.tile} is {row.state}: {row.reason}" for row in lost))


def _folder(item: dict[str, Any]) -> str:
    return str(item["assets"]["report"]["href"]).removeprefix("file://").rpartition("/")[0]


def _quality(properties: dict[str, Any]) -> str:
    if not properties:
        return ""
    rmse, within = properties["explains2a:resimulation_rmse"], properties["explains2a:within_noise_fraction"]
    return f"{properties['explains2a:grade']}, RMSE {rmse:.4f}, within noise {within:.1%}"
