"""``/metrics`` for Prometheus: the requests of this process, and the ledger as it stands when asked."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from catalog.metrics import ledger_figures
from catalog.session import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from prometheus_client.core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from catalog.session import Database
    from infra.settings import Settings

PATH: Final = "/metrics"
SHARED_FIGURES: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: the folder where processes keep their counts together."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SECONDS: Final = 5.0  # a scrape usually gives up after ten


def register_metrics(application: FastAPI, database: Database, _settings: Settings) -> None:
    """Count the application's requests and add the route that tells them.

    Each application counts for itself. Processes that answer side by side keep their counts in files of a folder that
    they share, named by `SHARED_FIGURES` before this is imported, and each tells the sum.
    """
    counted = told = CollectorRegistry()
    if os.environ.get(SHARED_FIGURES):
        told = CollectorRegistry()
        MultiProcessCollector(told)  # type: ignore[no-untyped-call]  # of the library
    told.register(_Ledger(database))

    def metrics() -> Response:
        """Tell requests and ledger in Prometheus' text format."""
        return Response(generate_latest(told), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    application.add_api_route(PATH, metrics, methods=["GET"], include_in_schema=False)
    application.add_middleware(RequestCount, registry=counted)


class RequestCount:
    """Middleware: counts requests by route, never by address, and measures the time until the answer is complete."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "explains2a_http_requests", "Requests answered", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "explains2a_http_request_seconds", "Time until the answer was complete", ("route",),
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # Addresses and methods are the clients' to invent; routes and statuses are ours, so labels stay few.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - begun)


class _Ledger:
    """The ledger's figures, asked for at every scrape; a database that does not answer is itself a figure."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[Metric]:
        """Name nothing before the first scrape: the database need not be there when the application is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        try:
            figures = ledger_figures(self._database, seconds=_SECONDS)
        except DatabaseError:
            yield _gauge("ledger_up", "1: the database answered this scrape", 0)
            return
        yield _gauge("ledger_up", "1: the database answered this scrape", 1)
        scenes = GaugeMetricFamily("explains2a_scenes", "Scenes by state", labels=["state"])
        for state, number in figures.scenes.items():
            scenes.add_metric([state], number)
        yield scenes
        failures = GaugeMetricFamily(
            "explains2a_failures", "Failed and quarantined scenes by error class", labels=["error_class"]
        )
        for name, number in figures.failures.items():
            failures.add_metric([name], number)
        yield failures
        yield _gauge("expired_leases", "Claims past their lease that nobody has returned", figures.expired_leases)
        waited = 0.0 if figures.oldest_waiting is None else time.time() - figures.oldest_waiting.timestamp()
        yield _gauge("backlog_age_seconds", "Since the oldest waiting scene was discovered; 0: none waits", waited)
        for name, told, at in (
            ("last_discovery", "When a scene was last discovered", figures.last_discovered),
            ("last_publication", "When a product was last published", figures.last_published),
        ):
            if at is not None:
                yield _gauge(f"{name}_timestamp_seconds", told, at.timestamp())


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"explains2a_{name}", told, value=value)
