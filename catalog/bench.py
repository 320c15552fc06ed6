"""How fast the catalog answers: a fixed mix of searches over HTTP against a real server, and bulk registration.

The items are made by a fixed seed: tiles of 110 km on a grid, slightly turned, so that boxes alone decide nothing;
dates over four years; cloud cover and quality as broad as real ones. They are written through the real layout, with
scenes, versions, files and the change feed. The servers are processes of their own; the load comes from this one, which
reads the answers' bytes and looks at nothing.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import numpy as np

from catalog.assets import ASSET_KINDS, COG
from catalog.bulk import complete_collection, register_products
from catalog.collection import build_collection
from catalog.items import AssetFile, Product, build_item
from catalog.model_item import model_item_id
from catalog.session import connect, migrate
from catalog.tables import CollectionRecord
from infra.settings import load_settings
from model.card import load_card
from model.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Event

    from catalog.session import Database

BATCH: Final = 500
CLIENTS: Final = 16
_FIRST: Final = datetime(2022, 1, 1, tzinfo=UTC)
_DAYS: Final = 4 * 365
_VARIANTS: Final = 20
"""Of every kind of search in the mix."""
_LOAD_SECONDS: Final = 10.0
_WARMING: Final = 24
_HEAD_BYTES: Final = 65_536
_LEAN: Final = "-assets.*.bands,-assets.*.classification:bitfields"


@dataclass(frozen=True)
class Request:
    """One search."""

    kind: str
    path: str
    """With its query."""
    body: bytes = b""
    """Of a POST; empty for GET."""


@dataclass(frozen=True)
class Answered:
    """How one search went."""

    kind: str
    seconds: float
    body: bytes


def bench_catalog(
    items: int,
    database_url: str,
    *,
    workers: int | None = None,
    load_seconds: float | None = None,
    progress: Callable[[str], object],
) -> dict[str, Any]:
    """Fill a database and measure searches.

    Args:
        items: How many items; a database that has exactly so many is taken as it is.
        database_url: SQLAlchemy URL of an empty database, or of one that an earlier run filled.
        workers: Processes that serve; None: as many as this process may use processors.
        load_seconds: How long the 16 clients ask; None: ten seconds.
        progress: Is told what happens.

    Returns:
        ``p50_ms`` and ``p95_ms`` of the mix with pages of 100 without bands at one client, ``requests_per_s`` at 16,
        ``items_per_s`` of the registration (None when it was not needed), the same by kind of search with its
        selectivity, and pages of 10 with bands beside.

    Raises:
        ValueError: the database has other items.
    """
    load_seconds = _LOAD_SECONDS if load_seconds is None else load_seconds
    migrate(database_url)
    database = connect(database_url)
    try:
        found = _count(database)
        if found not in {0, items}:
            raise ValueError(f"the database has {found} items; give an empty one, or one with {items}")
        per_second = _fill(database, items, progress) if found == 0 else None
    finally:
        database.close()
    workers = workers or len(os.sched_getaffinity(0))
    load_before = os.getloadavg()[0]
    with _served(database_url, workers) as port:
        progress("searching, one client")
        lean = _one_client(port, mix(items, limit=100, fields=_LEAN))
        banded = _one_client(port, mix(items, limit=10, fields=""))
        progress(f"searching, {CLIENTS} clients")
        rate = _many_clients(port, mix(items, limit=100, fields=_LEAN), load_seconds)
        rate_banded = _many_clients(port, mix(items, limit=10, fields=""), load_seconds)
    return {
        "items": items,
        "database": database_url.split(":", 1)[0],
        **_percentiles(lean),
        "requests_per_s": rate,
        "items_per_s": per_second,
        "clients": CLIENTS,
        "workers": workers,
        "load_average_before": load_before,
        "pages_of_10_with_bands": {**_percentiles(banded), "requests_per_s": rate_banded},
        "kinds": _by_kind(lean, items),
    }


# --- items ---


def made_items(number: int, collection: str) -> Iterator[dict[str, Any]]:
    """Make items, the same for the same number."""
    rng, template = np.random.default_rng(42), _template(collection)
    tiles = _tiles(number)
    for index in range(number):
        tile = int(rng.integers(len(tiles)))
        yield _varied(template, index, tile, tiles[tile], rng)


def _tiles(number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return (n, 2) south-western corners, about 250 items to each tile."""
    rng = np.random.default_rng(7)
    count = max(20, number // 250)
    return np.column_stack([rng.uniform(-179, 178, count), rng.uniform(-55, 69, count)])


def _template(collection: str) -> dict[str, Any]:
    layers = tuple(Layer(f"layer_{n}", f"Layer {n}", scale=1e-4) for n in range(9))
    place: dict[str, Any] = {"shape": (10980, 10980), "transform": (10.0, 0.0, 5e5, 0.0, -10.0, 6e6), "gsd": 10}
    files = tuple(
        AssetFile(key, "", 10**6, "0" * 64, layers if key not in {"hsi", "qa", "visual"} else (), **place)
        if kind.media_type == COG
        else AssetFile(key, "", 10**6, "0" * 64)
        for key, kind in ASSET_KINDS.items()
    )
    return build_item(
        Product(
            collection=collection, id="", title="", geometry={}, bbox=(0, 0, 0, 0), sensed=_FIRST, created=_FIRST,
            platform="sentinel-2a", tile="29UPU", relative_orbit=80, crs="EPSG:32629", shape=(10980, 10980),
            transform=(10.0, 0.0, 5e5, 0.0, -10.0, 6e6), region="world", acquisition="", source="bench",
            source_item_id="", source_href="https://example.org/items/source", source_baseline="05.10", cloud_cover=0.0,
            sun_zenith=40.0, product_revision="", model_id=model_item_id(load_card()), software={"explains2a": "bench"},
            quality={}, grade="A", grade_reasons=("none",), gates={"valid_fraction": "pass"}, assets=files,
        )
    )  # fmt: skip


def _varied(
    template: dict[str, Any], index: int, tile: int, corner: np.ndarray[Any, Any], rng: np.random.Generator
) -> dict[str, Any]:
    west, south = (float(value) for value in corner)
    turn, size = 0.05, 1.0
    ring = [[west + turn, south], [west + size, south + turn], [west + size - turn, south + size],
            [west, south + size - turn], [west + turn, south]]  # fmt: skip
    sensed = _FIRST + timedelta(days=int(rng.integers(_DAYS)), seconds=int(rng.integers(86_400)))
    cloud, bad, wrong = rng.beta(0.5, 0.7), rng.beta(0.4, 3.0), rng.gamma(2.0, 0.001)
    name, said = f"S2A_{sensed:%Y%m%dT%H%M%S}_{index:07d}", sensed.isoformat().replace("+00:00", "Z")
    properties = {
        **template["properties"],
        "title": name, "datetime": said, "created": said, "updated": said,
        "platform": f"sentinel-2{'abc'[index % 3]}", "grid:code": f"MGRS-{tile:05d}",
        "eo:cloud_cover": round(100 * cloud, 4),
        "explains2a:acquisition": name, "explains2a:source_item": name, "explains2a:product_revision": f"{index:032x}",
        "explains2a:region": f"region-{tile % 17}", "explains2a:grade": "ABCD"[int(4 * bad)],
        "explains2a:valid_fraction": round(1 - bad, 6), "explains2a:missing_fraction": round(bad, 6),
        "explains2a:resimulation_rmse": round(wrong, 6), "explains2a:mean_uncertainty": round(3 * wrong, 6),
        "explains2a:out_of_domain_fraction": round(bad / 2, 6), "explains2a:measured_fraction": round(1 - wrong, 6),
    }  # fmt: skip
    assets = {
        key: {**asset, "href": f"s3://products/{template['collection']}/{name}/{index:032x}/{ASSET_KINDS[key].file}"}
        for key, asset in template["assets"].items()
    }
    bbox = [west, south, west + size, south + size]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {**template, "id": name, "bbox": bbox, "geometry": geometry, "properties": properties, "assets": assets}


def _count(database: Database) -> int:
    from sqlalchemy import func, select

    from catalog.tables import item_search

    with database.read() as session:
        return session.scalar(select(func.count()).select_from(item_search)) or 0


def _fill(database: Database, number: int, progress: Callable[[str], object]) -> float:
    """Register the items; return how many a second, without the time to make them up."""
    with TemporaryDirectory() as home:
        settings = load_settings(home=home)
    with database.write() as session:
        session.add(CollectionRecord(id=settings.collection_id, body=build_collection(settings, load_card())))
    batch: list[dict[str, Any]] = []
    seconds = 0.0
    for index, item in enumerate(made_items(number, settings.collection_id), 1):
        batch.append(item)
        if len(batch) == BATCH or index == number:
            began = time.perf_counter()
            register_products(database, batch)
            seconds += time.perf_counter() - began
            batch = []
            if index % (20 * BATCH) == 0:
                progress(f"registered {index} of {number}, {index / seconds:.0f} a second")
    complete_collection(database, settings.collection_id)
    database.settle()
    return number / seconds


# --- searches ---


def mix(items: int, *, limit: int, fields: str) -> list[Request]:
    """Return the fixed mix of searches: kinds in turn, each in many places and times."""
    rng, tiles = np.random.default_rng(11), _tiles(items)
    common: dict[str, Any] = {"limit": limit, **({"fields": fields} if fields else {})}
    requests: list[Request] = []
    for _ in range(_VARIANTS):
        index = int(rng.integers(len(tiles)))
        west, south = (float(value) for value in tiles[index])
        start = _FIRST + timedelta(days=int(rng.integers(_DAYS - 400)))
        box = [max(-180.0, west - 4), max(-90.0, south - 3), min(180.0, west + 5), min(90.0, south + 4)]
        year, month = (f"{start:%Y-%m-%dT00:00:00Z}/{start + timedelta(days=d):%Y-%m-%dT00:00:00Z}" for d in (365, 30))
        clear = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 40]}
        ring = ", ".join(
            f"{x:.3f} {y:.3f}" for x, y in ((box[0], box[1]), (box[2], box[1]), (west, box[3]), (box[0], box[1]))
        )
        good = (
            f"explains2a:grade = 'A' AND explains2a:valid_fraction > 0.9 AND S_INTERSECTS(geometry, POLYGON(({ring})))"
        )
        tile = f"\"grid:code\" = 'MGRS-{index:05d}' AND (platform = 'sentinel-2a' OR \"eo:cloud_cover\" < 50)"
        requests += [
            _post("bbox, datetime, property", {**common, "bbox": box, "datetime": year, "filter": clear}),
            _get("CQL2 with a polygon", {**common, "filter": good}),
            _get("CQL2 on a tile", {**common, "filter": tile}),
            _get("datetime, clearest first", {**common, "datetime": month, "sortby": "+eo:cloud_cover"}),
            _get("lowest uncertainty of a grade", {**common, "sortby": "+explains2a:mean_uncertainty",
                                                   "filter": "explains2a:grade IN ('A', 'B')"}),
            _get("newest of the world", {**common, "datetime": f"../{start:%Y-%m-%dT00:00:00Z}"}),
        ]  # fmt: skip
    return requests


def _get(kind: str, asked: dict[str, Any]) -> Request:
    return Request(kind, f"/search?{urlencode(asked)}")


def _post(kind: str, asked: dict[str, Any]) -> Request:
    fields = asked.get("fields")
    body = asked if fields is None else {**asked, "fields": {"exclude": [name[1:] for name in fields.split(",")]}}
    return Request(kind, "/search", json.dumps(body).encode())


class _Client:
    """One connection that asks and reads answers into the same memory, without looking at them."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._memory = bytearray(_HEAD_BYTES)

    def ask(self, request: Request) -> memoryview:
        """Send one search and wait for the whole answer; its body is there until the next is asked for."""
        method = "POST" if request.body else "GET"
        head = f"{method} {request.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if request.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + request.body)
        filled = end = 0
        while not end:
            received = self._socket.recv_into(memoryview(self._memory)[filled:_HEAD_BYTES])
            filled += received
            blank = self._memory.find(b"\r\n\r\n", 0, filled)
            end = blank + 4 if blank > 0 else 0
            if not received or (not end and filled == _HEAD_BYTES):
                raise RuntimeError(f"{request.kind}: the server broke off")
        said = bytes(self._memory[:end]).lower()
        size = end + int(said.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if size > len(self._memory):
            more = bytearray(size)  # the last answer's body may still be looked at
            more[:filled] = self._memory[:filled]
            self._memory = more
        while filled < size:
            received = self._socket.recv_into(memoryview(self._memory)[filled:size], 0, socket.MSG_WAITALL)
            if not received:
                raise RuntimeError(f"{request.kind}: the server broke off")
            filled += received
        body = memoryview(self._memory)[end:size]
        if not said.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{request.kind}: {bytes(body[:500])!r}")
        return body

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _one_client(port: int, requests: list[Request]) -> list[Answered]:
    """Ask some unmeasured, as a server has been asked before, and then all, one after the other."""
    client = _Client(port)
    for request in requests[:_WARMING]:
        client.ask(request)
    answers = []
    for request in requests:
        began = time.perf_counter()
        body = client.ask(request)
        seconds = time.perf_counter() - began
        answers.append(Answered(request.kind, seconds, bytes(body)))
    client.close()
    return answers


def _many_clients(port: int, requests: list[Request], seconds: float) -> float:
    """Return how many searches a second 16 clients get answered, each asking as soon as it was answered."""
    end = time.perf_counter() + seconds

    def ask_on(number: int) -> int:
        client, done = _Client(port), 0
        while time.perf_counter() < end:
            client.ask(requests[(number * 7 + done) % len(requests)])
            done += 1
        client.close()
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answered = sum(pool.map(ask_on, range(CLIENTS)))
    return answered / (time.perf_counter() - began)


def _percentiles(answers: list[Answered]) -> dict[str, float]:
    taken = [1000 * answer.seconds for answer in answers]
    return {"p50_ms": float(np.percentile(taken, 50)), "p95_ms": float(np.percentile(taken, 95))}


def _by_kind(answers: list[Answered], items: int) -> dict[str, dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(answer.kind for answer in answers):
        mine = [answer for answer in answers if answer.kind == kind]
        pages = [json.loads(answer.body) for answer in mine]
        counted = [page["numberMatched"] / items for page in pages if "numberMatched" in page]
        kinds[kind] = {
            **_percentiles(mine),
            "items_per_page": float(np.mean([page["numberReturned"] for page in pages])),
            "bytes_per_page": float(np.mean([len(answer.body) for answer in mine])),
            "selectivity": float(np.median(counted)) if counted else None,
        }
    return kinds


# --- the server ---


class _served:  # noqa: N801 - a context, used as a function
    """Serve a database by uvicorn processes of their own that share a free port."""

    def __init__(self, database_url: str, workers: int) -> None:
        self._url = database_url
        self._workers = workers

    def __enter__(self) -> int:
        """Start them and wait until all have loaded."""
        context = multiprocessing.get_context("spawn")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS)
        ready = [context.Event() for _ in range(self._workers)]
        self._processes = [
            context.Process(target=_serve, args=(self._url, self._listener, each), daemon=True) for each in ready
        ]
        for process in self._processes:
            process.start()
        if not all(each.wait(60) for each in ready):
            self.__exit__()
            raise RuntimeError("the server did not start within a minute")
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self._listener.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(20)


def _serve(database_url: str, listener: socket.socket, ready: Event) -> None:
    import uvicorn

    from catalog.api import create_app

    logging.disable(logging.WARNING)
    with TemporaryDirectory() as home:
        settings = load_settings(home=home)
    application = create_app(connect(database_url), settings)
    ready.set()
    uvicorn.Server(uvicorn.Config(application, log_level="critical")).run([listener])
