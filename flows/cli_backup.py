"""Verbs of backup and restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console(markup=False)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
BackupFile = Annotated[Path, typer.Argument(help="The backup.")]


def add_verbs(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(destination: BackupFile, dry_run: DryRun = False) -> None:
    """Write ledger and catalog into one file while everything runs; product files stay where they are."""
    from catalog.backup import backup as write
    from catalog.backup import contents
    from infra.settings import load_settings

    url = load_settings().resolved_database_url
    held = contents(url)
    what = f"{held.scenes} scenes and {held.items} items of {held.database} to {destination}"
    if dry_run:
        out.print(f"would write {what}", soft_wrap=True)
        return
    size = write(url, destination)
    out.print(f"wrote {what}: {size / 1e6:.1f} MB", soft_wrap=True)


def restore(source: BackupFile, dry_run: DryRun = False) -> None:
    """Put a backup into the empty database that the settings name. Stop everything first: explains2a down."""
    from catalog.backup import contents
    from catalog.backup import restore as put_back
    from catalog.session import migrate
    from infra.settings import load_settings

    url = load_settings().resolved_database_url
    put_back(url, source, dry_run=dry_run)
    if dry_run:
        out.print(f"{source} is sound and the database is empty: it would be restored", soft_wrap=True)
        return
    migrate(url)
    held = contents(url)
    out.print(f"restored {held.scenes} scenes and {held.items} items to {held.database}", soft_wrap=True)
    out.print("next: explains2a reconcile --dry-run compares them with the store and the sources")
