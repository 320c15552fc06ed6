"""Verbs on what was published: deprecate a version, retire old ones, keep the static catalog."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

out = Console(markup=False)
err = Console(stderr=True, markup=False)

DESCRIPTION = "Hyperspectral products estimated from Sentinel-2, with uncertainty and explanation."

_TOLD = 1000
"""Of so many items or more the progress is told."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]


def add_verbs(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command("deprecate")(deprecate_item)
    app.command("retire")(retire)
    app.command("export-catalog")(export_static)


def deprecate_item(
    item: Annotated[str, typer.Argument(help="Id of the item.")],
    reason: Annotated[str, typer.Option(help="Why, for consumers; a sentence.")],
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version; the latest by default.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Mark a product as not to be used any more: it stays readable, and says so wherever it is found."""
    from catalog.deprecation import deprecate
    from flows.assembly import assemble

    with assemble() as assembly:
        collection = assembly.settings.collection_id
        done = deprecate(assembly.database, collection, item, reason=reason, version=version, dry_run=dry_run)
    if done.repeated:
        out.print(f"{done.item_id} version {done.version} is deprecated for this reason already")
    else:
        out.print(f"{'would deprecate' if dry_run else 'deprecated'} {done.item_id} version {done.version}")


def retire(
    older_than_days: Annotated[float, typer.Option(min=0, help="Keep versions replaced within so many days.")] = 365.0,
    keep: Annotated[int, typer.Option(min=0, help="So many versions before the latest stay however old.")] = 0,
    dry_run: DryRun = False,
) -> None:
    """Remove versions that were replaced long ago, with their files; never the latest version of an item."""
    from flows.assembly import assemble
    from flows.retention import retire_versions

    number = 0
    with assemble() as assembly:
        age = timedelta(days=older_than_days)
        for gone in retire_versions(assembly, older_than=age, keep=keep, dry_run=dry_run):
            number += 1
            verb = "would remove" if dry_run else "removed"
            out.print(f"{verb} {gone.item_id} version {gone.version}, replaced {gone.replaced_at:%Y-%m-%d}")
            for href in gone.hrefs:
                out.print(f"  {href}", soft_wrap=True)
    out.print(f"{number} versions" if number else "nothing to remove")


def export_static(
    to: Annotated[
        str | None, typer.Option(help="file:///folder or s3://bucket/prefix; 'stac' below the products by default.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Write everything anew, not only what changed.")] = False,
    tables: Annotated[bool, typer.Option("--tables/--no-tables", help="Also write stac-geoparquet.")] = True,
    dry_run: DryRun = False,
) -> None:
    """Bring the static catalog up to date: STAC JSON and tables that need no server."""
    from catalog.export import export_catalog
    from flows.assembly import assemble
    from infra.shelf import open_shelf

    with assemble() as assembly:
        storage = assembly.settings.resolved_storage
        url = (to or f"{storage.url}/stac").rstrip("/")
        shelf = open_shelf(storage.model_copy(update={"url": url}))
        done = export_catalog(
            assembly.database, shelf, identifier=assembly.settings.collection_id + "-catalog",
            title=assembly.settings.api.title, description=DESCRIPTION, store=storage.url, full=full, tables=tables,
            dry_run=dry_run, progress=lambda n, of: err.print(f"{n} of {of} items") if of > _TOLD else None,
        )  # fmt: skip
    if not done.keys:
        out.print(f"{shelf.url}: nothing new since change {done.cursor}", soft_wrap=True)
        return
    verb = "would write" if dry_run else "wrote"
    what = "everything" if done.full else "what changed"
    counts = f"{done.items} items, {done.catalogs} catalogs, {done.tables} tables"
    out.print(f"{verb} {what} up to change {done.cursor}: {counts}\n{shelf.url}/catalog.json", soft_wrap=True)
