"""Earth Search, Planetary Computer and the Copernicus Data Space: live STAC APIs as sources."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import shapely
from shapely.geometry import shape

from infra.sources.acquisition import Acquisition, Unreadable
from infra.sources.errors import ItemUnreadable, NothingThere, SourceAnswerInvalid
from infra.sources.footprint import meets
from infra.sources.http import JsonClient
from infra.sources.items import Passes, item_name, last_change, pass_nothing, read_item, revision_stamp
from infra.sources.services import SERVICES, PublicationQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from shapely.geometry.base import BaseGeometry

    from infra.settings import Region, StacSourceSettings

logger = logging.getLogger(__name__)

_MAX_PAGES: Final = 5000
"""Pages of one search; a service that offers more has not understood the question."""

_MAX_VERTICES: Final = 400
"""Beyond, a region is asked for by its bounding box, and the answers are cut to the region here."""


class StacApiSource:
    """One collection of a live STAC API."""

    def __init__(self, settings: StacSourceSettings, *, sleep: Callable[[float], object] = time.sleep) -> None:
        """Prepare the source; nothing is asked yet.

        Args:
            settings: Address, collection, tries and credentials.
            sleep: Waits between tries.
        """
        self.name = settings.name
        self._settings = settings
        self._service = SERVICES[settings.kind]
        self._url = (settings.url or self._service.url).rstrip("/")
        self._sleep = sleep

    def search(
        self, region: Region, since: datetime, *, passes: Passes = pass_nothing
    ) -> Iterator[Acquisition | Unreadable]:
        """List what was published over a region since a time, page after page.

        Args:
            region: Where.
            since: Publication time to begin with, aware. Where a service publishes none, its products' generation time
                counts, from two weeks earlier on.
            passes: Asked before an item is read; reading costs some ten times as much as everything else.

        Yields:
            Acquisitions, and `Unreadable` for items that cannot be understood.

        Raises:
            SourceUnavailable: the service did not answer (transient).
            SourceAnswerInvalid: it answered with something else than STAC.
        """
        area = shape(region.geometry)
        begin = since.astimezone(UTC) - self._service.look_back
        seen = dropped = 0
        for position, feature in enumerate(self._features(self._question(area, region, begin))):
            seen += 1
            if _passed(feature, passes):
                continue
            try:
                found = read_item(feature, self.name)
            except ItemUnreadable as problem:
                yield Unreadable(_named(feature, position), str(problem))
                continue
            if self._too_old(found, begin) or not meets(found.footprint, area):
                dropped += 1
                continue
            yield found
        logger.debug("%s answered %d items about %s, %d of them not asked for", self.name, seen, region.id, dropped)

    def find(self, item_id: str) -> Acquisition | None:
        """Look one item up by its id.

        Args:
            item_id: The service's id of the item.

        Returns:
            What the service says of it, or None where it has no such item.

        Raises:
            SourceUnavailable: the service did not answer (transient).
            SourceAnswerInvalid: it answered with something else than the item asked for.
            ItemUnreadable: the item cannot be understood.
        """
        url = f"{self._url}/collections/{quote(self._collection, safe='')}/items/{quote(item_id, safe='')}"
        try:
            with self._client() as client:
                answer = client.request("GET", url)
        except NothingThere:
            return None
        found = read_item(answer, self.name)
        if found.item_id != item_id:
            raise SourceAnswerInvalid(f"{url} answered with item {found.item_id!r}")
        return found

    def restore(self, item: dict[str, Any]) -> Acquisition:
        """Rebuild an acquisition from the item kept in the ledger.

        Raises:
            ItemUnreadable: the kept item is not one of this source.
        """
        return read_item(item, self.name)

    @property
    def _collection(self) -> str:
        return self._settings.collection or self._service.collection

    def _client(self) -> JsonClient:
        return JsonClient(
            self._url,
            timeout_seconds=self._settings.timeout_seconds,
            max_attempts=self._settings.max_attempts,
            sleep=self._sleep,
            token=self._settings.api_token,
        )

    def _question(self, area: BaseGeometry, region: Region, begin: datetime) -> dict[str, Any]:
        question: dict[str, Any] = {
            "collections": [self._collection],
            "limit": self._settings.page_size,
        }
        if shapely.get_num_coordinates(area) > _MAX_VERTICES:
            question["bbox"] = list(area.bounds)
        else:
            question["intersects"] = region.geometry
        stamp = begin.isoformat(timespec="microseconds").replace("+00:00", "Z")
        match self._service.publication:
            case PublicationQuery.QUERY_UPDATED:
                return question | {"query": {"updated": {"gte": stamp}}}
            case PublicationQuery.FILTER_PUBLISHED:
                return question | _at_least("published", stamp)
            case PublicationQuery.FILTER_GENERATED:
                return question | _at_least("s2:generation_time", stamp)

    def _too_old(self, found: Acquisition, begin: datetime) -> bool:
        """Say whether an item was not asked for: some services ignore what they do not understand."""
        if self._service.publication is PublicationQuery.FILTER_GENERATED:
            stamp = found.revision.generated
        else:
            stamp = last_change(found.item)
        return stamp is not None and stamp < begin

    def _features(self, question: dict[str, Any]) -> Iterator[object]:
        """Yield features page after page; next links stay on the host, never repeat, and come to an end."""
        method, url, body = "POST", f"{self._url}/search", question
        asked: set[str] = set()
        with self._client() as client:
            while True:
                asked.add(json.dumps([method, url, body], sort_keys=True))
                page = client.request(method, url, body if method == "POST" else None)
                features = page.get("features")
                if not isinstance(features, list):
                    raise SourceAnswerInvalid(f"{url} answered without a list of features; is it a STAC API's address?")
                yield from features
                link = _next_link(page)
                if link is None:
                    return
                method, url, body = _follow(link, body)
                if len(asked) >= _MAX_PAGES or json.dumps([method, url, body], sort_keys=True) in asked:
                    raise SourceAnswerInvalid(f"{self._url} offers page after page without an end ({len(asked)} read)")


def _at_least(name: str, stamp: str) -> dict[str, Any]:
    return {"filter-lang": "cql2-json", "filter": {"op": ">=", "args": [{"property": name}, stamp]}}


def _next_link(page: dict[str, Any]) -> dict[str, Any] | None:
    links = page.get("links")
    if not isinstance(links, list):
        return None
    return next((link for link in links if isinstance(link, dict) and link.get("rel") == "next"), None)


def _follow(link: dict[str, Any], question: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return method, address and body of a next link; STAC API, paging extension."""
    url, method, body = link.get("href"), str(link.get("method", "GET")).upper(), link.get("body") or {}
    if not isinstance(url, str) or method not in {"GET", "POST"} or not isinstance(body, dict):
        raise SourceAnswerInvalid(f"the next link is {method} {url!r}; expected an address to GET or POST")
    return method, url, {**question, **body} if link.get("merge") is True else body


def _passed(feature: object, passes: Passes) -> bool:
    """Say whether an item need not be read; what is not even shaped like one is read, and told."""
    if not isinstance(feature, dict) or not isinstance(feature.get("properties"), dict):
        return False
    name = feature.get("id")
    return isinstance(name, str) and passes(name, revision_stamp(feature))


def _named(feature: object, position: int) -> str:
    try:
        return item_name(feature)
    except ItemUnreadable:
        return f"item {position + 1} of the answer"
