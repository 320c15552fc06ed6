"""Hold the settings against the world: is everything there that they promise?"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from flows.services import read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.settings import Settings


@dataclass(frozen=True)
class Finding:
    """What was found of one part."""

    part: str
    healthy: bool
    found: str
    """What was found and, when it is not well, what to do."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Check database, store, regions, sources, model and Prefect, one after the other.

    Args:
        settings: The settings to check; nothing is changed but an empty file written to and removed from the store.

    Yields:
        One finding per part; a part that fails does not keep the next from being examined.
    """
    yield _check("settings", lambda: f"home {settings.home}")
    yield _check("database", lambda: _database(settings))
    yield _check("store", lambda: _store(settings))
    yield _check("regions", lambda: _regions(settings))
    if not settings.sources:
        yield Finding("sources", healthy=False, found="none set; add at least one [[sources]] entry to the TOML file")
    for source in settings.sources:
        yield _check(f"source {source.name}", partial(_source, settings, source.name))
    yield _check("model", lambda: _model(settings))
    yield _check("prefect", lambda: _prefect(settings))


def _check(part: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part, healthy=True, found=look())
    except Exception as error:  # noqa: BLE001 - the doctor reports every illness and goes on
        return Finding(part, healthy=False, found=f"{type(error).__name__}: {error}")


def _database(settings: Settings) -> str:
    from catalog.session import connect, migrate

    settings.home.mkdir(parents=True, exist_ok=True)
    migrate(settings.resolved_database_url)
    database = connect(settings.resolved_database_url)
    try:
        return f"{database.name}, schema up to date"
    finally:
        database.close()


def _store(settings: Settings) -> str:
    from infra.storage import open_store

    store = open_store(settings.resolved_storage)
    key = f"doctor/{uuid4().hex}.txt"
    store.put(key, b"written by explains2a doctor", content_type="text/plain")
    store.delete(key)
    return f"{store.url} can be written"


def _regions(settings: Settings) -> str:
    regions = settings.regions
    if not regions:
        raise LookupError("none set; point regions_file at a GeoJSON FeatureCollection")
    return ", ".join(region.id for region in regions)


def _source(settings: Settings, name: str) -> str:
    from infra.sources import open_source

    source = open_source(next(s for s in settings.sources if s.name == name))
    regions = settings.regions
    if not regions:
        return "not asked: no regions are set"
    found = next(iter(source.search(regions[0], datetime.now(UTC) - timedelta(days=1))), None)
    return "answers" if found is None else f"answers, for instance {found.item_id}"


def _model(settings: Settings) -> str:
    from catalog.releases import model_in_force
    from flows.assembly import assemble

    with assemble(settings) as assembly:
        release, card = model_in_force(assembly.database), assembly.model.card
        built = "" if assembly.model.compiled else "; slow, its compiled part was not built: install with a C compiler"
    since = f"promoted {release.at:%Y-%m-%d %H:%M} by {release.actor}" if release else "by the settings"
    return f"{card.name} {card.version} ({card.digest[:12]}) can be loaded; in force {since}{built}"


def _prefect(settings: Settings) -> str:
    state = read_state(settings.home)
    if state is None:
        return "no server started from this home; explains2a up starts one"
    try:
        with urllib.request.urlopen(f"{state.prefect_api_url}/health", timeout=5) as answer:  # noqa: S310 - our own
            healthy = bool(json.load(answer))
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"{state.prefect_ui_url} does not answer ({error}); explains2a down, then up") from error
    return f"{state.prefect_ui_url} {'answers' if healthy else 'is not healthy'}"
