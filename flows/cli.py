"""The command ``explains2a``: every operator action as a verb."""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from flows.cli_backup import add_verbs as add_backup_verbs
from flows.cli_bench import add_verbs as add_bench_verbs
from flows.cli_history import add_verbs
from flows.cli_operate import add_verbs as add_operator_verbs
from flows.cli_operate import print_overview
from flows.cli_rollout import model_app
from infra.logs import log_as_json
from infra.settings import Settings, SettingsInvalid, load_settings

if TYPE_CHECKING:
    from flows.assembly import Assembly
    from flows.progress import Progress as SceneProgress

app = typer.Typer(
    name="explains2a",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Every new Sentinel-2 scene as a 172-band hyperspectral product, with its explanation and its uncertainty.\n\n"
    "Settings come from EXPLAINS2A_… variables, a .env file or the TOML file named by EXPLAINS2A_CONFIG; "
    "`explains2a doctor` checks them.",
)
scenes_app = typer.Typer(no_args_is_help=True, help="Look at the ledger: every scene ever seen and what became of it.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure this machine; every figure states its method.")
app.add_typer(scenes_app, name="scenes")
app.add_typer(bench_app, name="bench")
app.add_typer(model_app, name="model")

# What is printed comes from outside as often as not: nothing is taken as markup.
out = Console(markup=False)
err = Console(stderr=True, markup=False)

_RUN = re.compile(r"[a-z]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
"""A flow run among the actors of a scene's history."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
Bands = Annotated[str, typer.Option(help="Such as 650nm,1-40,172: the nearest channel, or numbers from 1; empty: all.")]
WindowOption = Annotated[str | None, typer.Option("--window", help="column,row,width,height in pixels; default: all.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what the parts log.")] = False,
) -> None:
    """Set up logging for every verb."""
    level = logging.INFO if verbose else logging.WARNING
    if _wants_json():
        log_as_json(level)
        return
    logging.basicConfig(
        level=level, format="%(name)s: %(message)s", handlers=[RichHandler(console=err, show_path=False)]
    )


def _wants_json() -> bool:
    try:
        return load_settings().log_format == "json"
    except SettingsInvalid:  # the verb says so, if it needs them
        return False


def _settings(**overrides: Any) -> Settings:
    try:
        return load_settings(**overrides)
    except SettingsInvalid as problems:
        err.print("The settings cannot be used:", style="bold red")
        for line in str(problems).splitlines():
            err.print(f"  • {line}")
        raise typer.Exit(2) from None


def _assemble() -> Assembly:
    from flows.assembly import assemble

    return assemble(_settings())


def _fail(error: Exception) -> typer.Exit:
    err.print(f"{type(error).__name__}: ", end="", style="bold red")
    err.print(str(error), soft_wrap=True)
    return typer.Exit(1)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=err, transient=True,
    )  # fmt: skip


class Tier(StrEnum):
    """What an evaluation simulates."""

    SPECTRAL = "spectral"
    FULL = "full"
    REAL = "real"


class ExportFormat(StrEnum):
    """What `export` writes."""

    ENVI = "envi"


def _advance(bar: Progress, task: TaskID, done: float) -> None:
    bar.update(task, completed=done)


def _advance_scene(bar: Progress, task: TaskID, title: str, stands: SceneProgress) -> None:
    bar.update(task, completed=stands.fraction, description=f"{title}: {stands}")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers running afterwards.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demonstration keeps everything.")] = Path("demo-data"),
) -> None:
    """Run the real main job on six real Sentinel-2 patches: servers, watch, process, catalog.

    Needs the extra `[demo]`. A second call finds nothing new and says so.
    """
    from flows.demo import DemoFailed, run_demo

    try:
        run_demo(folder.resolve(), keep=keep, console=out)
    except (DemoFailed, OSError) as error:
        raise _fail(error) from error


@app.command()
def up(
    limit: Annotated[
        int | None, typer.Option(help="Scenes processed at once; the settings' figure by default.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Start everything on this machine: Prefect server and UI, deployments, workers, catalog."""
    from flows.services import ServiceFailed, would_start
    from flows.services import up as start

    if dry_run:
        out.print(would_start(_settings(), process_limit=limit), soft_wrap=True)
        return
    try:
        services = start(_settings(), progress=lambda what: err.print(f"starting {what}"), process_limit=limit)
    except ServiceFailed as error:
        raise _fail(error) from error
    ui = services.prefect_ui_url
    out.print(f"Prefect UI  {ui}\nfor a look  {ui}/artifacts\ncatalog     {services.catalog_url}")
    out.print("stop with   explains2a down")


@app.command()
def down(dry_run: DryRun = False) -> None:
    """Stop what `up` started, and nothing else."""
    from flows.services import alive
    from flows.services import down as stop

    if dry_run:
        running = alive(_settings().home)
        out.print(f"would stop: {', '.join(running)}" if running else "nothing is running")
        return
    stopped = stop(_settings().home)
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def doctor() -> None:
    """Check the settings against the world: database, store, sources, model, device, Prefect."""
    from flows.doctor import examine

    table = Table("part", "state", "found")
    healthy = True
    for finding in examine(_settings()):
        healthy &= finding.healthy
        state = Text("ok", "green") if finding.healthy else Text("problem", "bold red")
        table.add_row(finding.part, state, finding.found)
    out.print(table)
    if not healthy:
        raise typer.Exit(1)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs instead of people.")] = False,
) -> None:
    """Show where every scene stands and why, latencies, costs, the model in force, and what runs on this machine."""
    from catalog.overview import overview
    from flows.services import read_state
    from model.card import load_card

    with _assemble() as assembly:
        seen = overview(assembly.database)
        counts = dict(seen.states)
        due = assembly.ledger.due_ids()
        card = load_card(assembly.model_path)
        services = read_state(assembly.settings.home)
    running = {s.name: s.process() is not None for s in services.running} if services else {}
    if as_json:
        model = {"name": card.name, "version": card.version, "digest": card.digest}
        told = {"scenes": counts, "due": due, "services": running, "model": model, "overview": asdict(seen)}
        sys.stdout.write(json.dumps(told, default=str) + "\n")
        return
    table = Table("state", "scenes")
    for state, number in sorted(counts.items()):
        table.add_row(state, str(number))
    out.print(table if counts else "the ledger is empty: run `explains2a watch`")
    out.print(f"{len(due)} scenes are due")
    print_overview(seen)
    out.print(f"model in force: {card.name} {card.version} ({card.digest[:12]}); products by {dict(seen.models)}")
    for name, alive in running.items():
        out.print(f"{name}: {'running' if alive else 'not running'}", style=None if alive else "red")
    if services:
        out.print(f"Prefect UI {services.prefect_ui_url}   catalog {services.catalog_url}")


@app.command()
def watch(dry_run: DryRun = False) -> None:
    """Look at every source once and write what is new into the ledger."""
    from flows.watching import watch_sources

    with _assemble() as assembly:
        if not assembly.settings.sources or not assembly.regions:
            err.print("nothing to watch: set at least one source and a regions_file (see docs/1-operate.md)")
            raise typer.Exit(2)
        report = watch_sources(assembly, actor="cli", dry_run=dry_run, progress=err.print)
        due = len(assembly.ledger.due(1000))
    for outcome, number in sorted(report.outcomes.items()):
        out.print(f"{outcome}: {number}")
    for problem in (*report.unreadable, *report.unavailable):
        err.print(f"! {problem}", style="yellow")
    if not report.new_scenes:
        out.print("nothing new")
    out.print(f"{due} scenes are due: explains2a process --due")
    if report.unavailable:
        raise typer.Exit(1)


@app.command()
def process(
    scene_ids: Annotated[list[int] | None, typer.Argument(help="Scenes by their number in the ledger.")] = None,
    due: Annotated[bool, typer.Option("--due", help="All scenes that are due.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Process scenes in this terminal, without Prefect."""
    from catalog.ledger import ClaimLost, NotClaimable, UnknownScene
    from flows.processing import SceneFailed, process_scene

    failed = False
    with _assemble() as assembly:
        numbers = [*(scene_ids or []), *([row.id for row in assembly.ledger.due(1000)] if due else [])]
        if not numbers:
            out.print("nothing to process: name scenes or use --due (see: explains2a scenes list)")
            return
        for number in numbers:
            try:
                row = assembly.ledger.scene(number)
            except UnknownScene as error:
                failed = True
                err.print(f"failed: {error}", style="red")
                continue
            title = f"scene {number} {row.tile} {row.sensed:%Y-%m-%d} {row.region}"
            if dry_run:
                out.print(f"would process {title} ({row.state})")
                continue
            with _bar() as bar:
                task = bar.add_task(title, total=1.0)
                try:
                    tell = partial(_advance_scene, bar, task, title)
                    outcome = process_scene(assembly, number, actor="cli", progress=tell)
                except (SceneFailed, NotClaimable, ClaimLost) as error:
                    failed = True
                    err.print(f"failed {title}: {error}", style="red")
                    continue
            out.print(f"{outcome.state} {title} {outcome.grade} {outcome.reason}")
            for href in outcome.files:
                out.print(f"  {href}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def expand(
    compact: Annotated[str, typer.Argument(help="A product's compact.tif or its folder: path, https:// or s3://.")],
    destination: Annotated[Path, typer.Option("--out", help="The file to write; nothing is overwritten.")],
    bands: Bands = "",
    window: WindowOption = None,
    dry_run: DryRun = False,
) -> None:
    """Expand a product's coefficients into a cloud-optimised GeoTIFF of spectral bands, in bounded memory."""
    from flows.reading import parse_window, storage_of
    from infra.compact import CompactProduct
    from infra.compact.expansion import expand_to_cog, parse_channels
    from infra.storage import FileStore

    with CompactProduct.open(compact, storage=storage_of(compact, _settings)) as product:
        channels, area = parse_channels(bands, product.basis.centre_nm), parse_window(window, product.info)
        what = f"{len(channels)} bands of {area.width} x {area.height} pixels to {destination}"
        if dry_run:
            out.print(f"would write {what}: {2e-6 * len(channels) * area.width * area.height:.1f} MB uncompressed")
            return
        store = FileStore(destination.resolve().parent)
        with _bar() as bar:
            tell = partial(_advance, bar, bar.add_task("expanding", total=1.0))
            written = expand_to_cog(product, store, destination.name, channels=channels, window=area, progress=tell)
    out.print(f"wrote {what}: {written.size / 1e6:.1f} MB in {written.seconds:.1f} s", soft_wrap=True)


@app.command()
def export(
    product: Annotated[str, typer.Argument(help="An item's id, or a product's file or folder: path, https://, s3://.")],
    destination: Annotated[Path, typer.Option("--out", help="The header to write, NAME.hdr; pixels go to NAME.img.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.ENVI,
    bands: Bands = "",
    window: WindowOption = None,
    dry_run: DryRun = False,
) -> None:
    """Write a product for other software: ENVI raw pixels and a header with wavelengths."""
    from flows.reading import asset_address, is_address, parse_window, storage_of
    from infra.compact.expansion import parse_channels
    from infra.compact.export import SpectraReader, export_envi

    address = product
    if not is_address(product):
        with _assemble() as assembly:
            address = asset_address(assembly, product)
    with SpectraReader(address, storage_of(address, _settings)) as reader:
        channels, area = parse_channels(bands, reader.file.centre_nm), parse_window(window, reader.file.info)
        what = f"{len(channels)} bands of {area.width} x {area.height} pixels of {address} as {format_.upper()}"
        if dry_run:
            size = 2e-6 * len(channels) * area.width * area.height
            out.print(f"would write {what} to {destination}: {size:.1f} MB", soft_wrap=True)
            return
        with _bar() as bar:
            tell = partial(_advance, bar, bar.add_task("exporting", total=1.0))
            written = export_envi(reader.file, destination, channels=channels, window=area, progress=tell)
    out.print(f"wrote {what}: {', '.join(map(str, written))}", soft_wrap=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; the settings' by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; the settings' by default.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that answer side by side; the settings' by default.")
    ] = None,
) -> None:
    """Serve the catalog as a STAC API."""
    import uvicorn

    from flows.serving import WorkersRefused, worker_count
    from flows.serving import serve as serve_catalog

    settings = _settings()
    as_json = settings.log_format == "json"  # then the server's lines are ours, too
    try:
        number = worker_count(settings, workers)
    except WorkersRefused as error:
        raise _fail(error) from error
    serve_catalog(
        settings, host or settings.api.host, port or settings.api.port, workers=number,
        log_config=None if as_json else uvicorn.config.LOGGING_CONFIG,
    )  # fmt: skip


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder of cubes, libraries and response tables.")],
    destination: Annotated[Path, typer.Option("--out", help="Folder for weights and card.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also retrain the networks the model is judged against.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(help="Processes side by side; changes no result.")] = None,
) -> None:
    """Fit the model, judge it with every scene left out in turn; write weights, model card and study.

    A run that is broken off goes on where it was when started again with the same folders.
    """
    from model.training import train as fit

    with _bar() as bar:
        task = bar.add_task("reading", total=1.0)
        card = fit(
            data, destination, device=device, seed=seed, networks=baselines, jobs=jobs,
            progress=lambda step, done: bar.update(task, description=step, completed=done),
        )  # fmt: skip
    out.print(f"{card.name} {card.version}, digest {card.digest}\nwritten to {destination}")


@app.command()
def evaluate(
    files: Annotated[
        list[Path], typer.Argument(help="Cubes, tables of spectra or, for the real tier, Sentinel-2 images (.npz).")
    ],
    tier: Annotated[
        Tier,
        typer.Option(help="spectral: all bands at the cube's grid; full: space as well; real: real bands, reduced."),
    ] = Tier.SPECTRAL,
    json_out: JsonOut = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of other weights than the shipped ones.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    mtf: Annotated[
        float | None,
        typer.Option(min=0.05, max=0.95, help="Modulation at the coarse bands' Nyquist frequency; 0.25 simulated."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for a page with the table and all figures, index.html.")
    ] = None,
) -> None:
    """Judge the model on files it was not trained on, with baselines beside every figure."""
    from model.evaluation import evaluate as judge
    from model.evaluation import summary_table

    try:
        with _bar() as bar:
            task = bar.add_task("evaluating", total=1.0)
            results = judge(
                files, tier=tier.value, json_out=json_out, weights=weights, device=device, mtf=mtf,
                progress=lambda step, done: bar.update(task, description=step, completed=done),
            )  # fmt: skip
    except (ValueError, OSError) as error:
        raise _fail(error) from error
    out.print(summary_table(results), soft_wrap=True, highlight=False)
    if report and tier is not Tier.REAL:
        from model.evaluation.figures import write_report

        out.print(f"report: {write_report(results, report)}", soft_wrap=True)


@bench_app.command("writer")
def bench_writer(
    size: Annotated[int, typer.Option(help="Edge of the test scene, pixels.")] = 2048,
    bands: Annotated[int, typer.Option(help="Bands of the test scene.")] = 172,
    threads: Annotated[int, typer.Option(help="Threads for both writers.")] = 2,
    folder: Annotated[Path, typer.Option(help="Where the test files go; they are removed.")] = Path("bench-data"),
    json_out: JsonOut = None,
) -> None:
    """Compare the streaming COG writer with GDAL's COG driver in one run."""
    from infra.bench_writer import bench_writer as measure

    folder.mkdir(parents=True, exist_ok=True)
    figures = measure(size=size, bands=bands, threads=threads, folder=folder, progress=err.print)
    _figures(figures, json_out)


@bench_app.command("read")
def bench_reading(
    target: Annotated[str, typer.Argument(help="A product's folder or one of its files: a path or a web address.")],
    blocks: Annotated[
        str, typer.Option(help="Block edges to compare on a full tile's layout, such as 96,192,256,384,512.")
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where test files go; they are removed.")] = Path("bench-data"),
    json_out: JsonOut = None,
) -> None:
    """Count what a pixel's spectrum, a picture and a band cost in requests and bytes, for three readers."""
    from infra.bench_read import bench_read, reading_table

    try:
        edges = [int(edge) for edge in blocks.split(",") if edge.strip()]
    except ValueError:
        raise typer.BadParameter(
            f"--blocks is {blocks!r}; expected numbers separated by commas, such as 96,192"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    figures = bench_read(target, folder=folder, blocks=edges, progress=err.print)
    table = Table("file", "reader", "open", "pixel", "rgb", "band")
    for row in reading_table(figures):
        table.add_row(*row)
    out.print(table)
    if json_out:
        json_out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


@bench_app.command("catalog")
def bench_catalog(
    items: Annotated[int, typer.Option(min=100, help="Items in the catalog.")] = 10_000,
    db: Annotated[str, typer.Option(help="SQLAlchemy URL of an empty database, or one an earlier run filled.")] = "",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that serve; as many as there are processors by default.")
    ] = None,
    json_out: JsonOut = None,
) -> None:
    """Measure the catalog over HTTP: a fixed mix of searches at one client and at 16, and bulk registration.

    Without --db an SQLite file in a temporary folder is filled and removed again.
    """
    from tempfile import TemporaryDirectory

    from catalog.bench import bench_catalog as measure
    from catalog.session import DatabaseError

    with TemporaryDirectory() as folder:
        try:
            url = db or f"sqlite:///{folder}/catalog.sqlite"
            figures = measure(items, url, workers=workers, progress=err.print)
        except (DatabaseError, ValueError) as error:
            raise _fail(error) from error
    if json_out:
        json_out.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    kinds = figures.pop("kinds")
    _figures(figures, None)
    table = Table("search", "p50 ms", "p95 ms", "items a page", "kB a page", "selectivity")
    for kind, row in kinds.items():
        share = "not counted" if row["selectivity"] is None else f"{row['selectivity']:.2%}"
        table.add_row(
            kind, f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['items_per_page']:.0f}",
            f"{row['bytes_per_page'] / 1000:.0f}", share,
        )  # fmt: skip
    out.print(table)


@bench_app.command("model")
def bench_model(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    mpx: Annotated[str, typer.Option(help="Scene sizes in megapixels, separated by commas.")] = "1,4",
    json_out: JsonOut = None,
) -> None:
    """Measure the model alone: seconds per megapixel with all outputs, and the error against float64."""
    from model.bench import bench

    try:
        sizes = [float(size) for size in mpx.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--mpx is {mpx!r}; expected numbers separated by commas, such as 1,4") from None
    rows = bench(device, sizes)
    for row in rows:
        _figures(row, None)
    if json_out:
        json_out.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def _figures(figures: dict[str, Any], json_out: Path | None) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    out.print(table)
    if json_out:
        json_out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


@scenes_app.command("list")
def list_scenes(
    state: Annotated[str | None, typer.Option(help="Only scenes in this state.")] = None,
    region: Annotated[str | None, typer.Option(help="Only scenes of this region.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
) -> None:
    """List scenes with their state and the reason for it."""
    from catalog.ledger import SceneState

    wanted = None
    if state is not None:
        if state not in set(SceneState):
            raise typer.BadParameter(f"state is {state!r}; expected one of {', '.join(SceneState)}")
        wanted = SceneState(state)
    with _assemble() as assembly:
        rows = assembly.ledger.scenes(state=wanted, region=region, limit=limit)
    table = Table("scene", "state", "tile", "sensed", "region", "tries", "why")
    for row in rows:
        table.add_row(
            str(row.id), str(row.state), row.tile, f"{row.sensed:%Y-%m-%d %H:%M}", row.region, str(row.attempts),
            row.reason or "",
        )  # fmt: skip
    out.print(table)


@scenes_app.command("show")
def show_scene(scene_id: Annotated[int, typer.Argument(help="The scene's number in the ledger.")]) -> None:
    """Show one scene's history: when, who, what, why, and where its runs are."""
    from flows.names import run_url
    from flows.services import read_state

    with _assemble() as assembly:
        table, runs = Table("when", "from", "to", "who", "why"), list[str]()
        for step in assembly.ledger.history(scene_id):
            table.add_row(
                f"{step.at:%Y-%m-%d %H:%M:%S}", str(step.before or ""), str(step.after), step.actor, step.why or ""
            )
            runs += [run for run in _RUN.findall(step.actor) if run not in runs]
        services = read_state(assembly.settings.home)
        ui = services.prefect_ui_url if services else assembly.settings.prefect.ui_url
    out.print(table)
    for run in runs:
        out.print(f"run {run_url(ui, run)}", soft_wrap=True)


@scenes_app.command("clean")
def clean_scenes(
    older_than_hours: Annotated[float, typer.Option(min=0, help="Leave anything younger alone.")] = 24.0,
    dry_run: DryRun = False,
) -> None:
    """Remove files that no catalog entry names: what crashed or abandoned attempts left behind."""
    from datetime import timedelta

    from flows.housekeeping import remove_orphans

    with _assemble() as assembly:
        removed = remove_orphans(assembly, older_than=timedelta(hours=older_than_hours), dry_run=dry_run)
    for key in removed:
        out.print(f"{'would remove' if dry_run else 'removed'} {key}", soft_wrap=True)
    out.print(f"{len(removed)} files" if removed else "nothing to remove")


add_verbs(app)
add_backup_verbs(app)
add_bench_verbs(bench_app)
add_operator_verbs(app, scenes_app)


def run() -> None:
    """Run the command; an error that has a name is told in one line, everything else is a defect and shows itself."""
    try:
        app()
    except Exception as error:
        if not (hasattr(error, "transient") or isinstance(error, OSError)):
            raise
        raise SystemExit(_fail(error).exit_code) from None


if __name__ == "__main__":
    run()
