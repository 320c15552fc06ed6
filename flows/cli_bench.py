"""The verb that measures the whole production."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(markup=False)
err = Console(stderr=True, markup=False)


def add_verbs(bench_app: typer.Typer) -> None:
    """Add the verb to the benchmarks."""
    bench_app.command("pipeline")(bench_pipeline)


def bench_pipeline(
    size: Annotated[int, typer.Option(min=6, max=10_980, help="Edge of the scene, 10 m pixels.")] = 1024,
    sizes: Annotated[str, typer.Option(help="Several scenes instead, in megapixels, such as 1,4,16.")] = "",
    store: Annotated[str, typer.Option(help="file:///folder or s3://bucket/prefix; default: in --folder.")] = "",
    chips: Annotated[
        Path | None, typer.Option(help="Folder of real scenes (STAC items) to grow it from; default: synthetic.")
    ] = None,
    layout: Annotated[str, typer.Option(help="cog or safe (JPEG 2000).")] = "cog",
    folder: Annotated[Path, typer.Option(help="Where scenes are kept, and the rest removed.")] = Path("bench-data"),
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the products.")] = False,
) -> None:
    """Put a generated scene through the real production: speed, core-seconds by stage, memory, disk, bytes."""
    from flows.bench_pipeline import Bench
    from flows.bench_pipeline import bench_pipeline as measure
    from infra.settings import load_settings

    if layout not in ("cog", "safe"):
        raise typer.BadParameter(f"--layout is {layout!r}; expected cog or safe")
    try:
        edges = [math.isqrt(round(float(mpx) * 1e6)) for mpx in sizes.split(",") if mpx.strip()] or [size]
    except ValueError:
        raise typer.BadParameter(f"--sizes is {sizes!r}; expected numbers separated by commas, such as 1,4") from None
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        bench = Bench(
            load_settings(), folder.resolve(), store, "safe" if layout == "safe" else "cog", chips, keep=keep,
            tell=lambda step, done: bar.update(task, description=step, completed=done),
        )  # fmt: skip
        figures = measure(bench, edges)
    table = Table("figure", *(f"{row['mpx']:g} Mpx" for row in figures))
    for name in figures[0]:
        table.add_row(name, *(str(row[name]) for row in figures))
    out.print(table)
    if json_out:
        told = figures if len(figures) > 1 else figures[0]
        json_out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
