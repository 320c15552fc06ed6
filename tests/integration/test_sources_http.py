"""The three live services against a local server: recorded answers, paging, bad days, and scenes read over HTTP."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from infra.scene import access, errors, open_scene
from infra.settings import StacSourceSettings
from infra.sources import Acquisition, Unreadable, open_source
from infra.sources.errors import SourceAnswerInvalid, SourceUnavailable
from infra.sources.stac_api import StacApiSource


def _factory():
    place = Path(__file__).parents[1] / "unit" / "infra" / "scene_factory.py"
    spec = importlib.util.spec_from_file_location("scene_factory", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("scene_factory", module)
    spec.loader.exec_module(module)
    return module


made = _factory()

RECORDED = made.SHARED / "stac" / "responses"
SINCE = datetime(2025, 7, 1, tzinfo=UTC)


class Service:
    """A server that answers by a list of scripted answers, then by its pages; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict | None]] = []
        self.script: list[object] = []
        self.pages: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.token: str | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                owner.handle(self, None)

            def do_HEAD(self):
                owner.handle(self, None)

            def do_POST(self):
                owner.handle(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def searches(self) -> list[dict | None]:
        return [body for method, path, body in self.asked if "/search" in path]

    def handle(self, request: BaseHTTPRequestHandler, body: dict | None) -> None:
        path, _, query = request.path.partition("?")
        self.asked.append((request.command, request.path, body))
        if path.startswith("/files/"):
            self.serve_file(request, path.removeprefix("/files/"), query)
        elif self.script and (path.endswith("/search") or path.startswith("/token/")):
            answer = self.script.pop(0)
            answer(request) if callable(answer) else send(request, *answer)
        elif path.startswith("/token/"):
            send(request, 200, {"msft:expiry": "2099-01-01T00:00:00Z", "token": f"sig={self.token}"})
        elif path.endswith("/search") and self.pages:
            send(request, 200, self.pages.pop(0))
        elif path.endswith("/search"):
            send(request, 200, {"type": "FeatureCollection", "features": [], "links": []})
        else:
            send(request, 404, {"description": "no such place"})

    def serve_file(self, request: BaseHTTPRequestHandler, name: str, query: str) -> None:
        content = self.files.get(name)
        if name in self.broken:
            send(request, self.broken[name], b"")
        elif self.token and f"sig={self.token}" not in query:
            send(request, 403, b"")
        elif content is None:
            send(request, 404, b"")
        else:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            if wanted:
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                ranged = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
                send(request, 206, content[first : last + 1], ranged)
            else:
                send(request, 200, content, {"Accept-Ranges": "bytes"})


def send(request: BaseHTTPRequestHandler, status: int, body: object, headers: dict | None = None) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


def item(tile: str = "24MVV", *, west: float = 10.0, updated: str = "2025-07-31T14:00:00Z", **changes: object) -> dict:
    name = f"S2B_MSIL2A_20250731T130249_N0511_R095_T{tile}_20250731T132745"
    return {
        "type": "Feature",
        "id": name,
        "geometry": made.polygon(west, 45, west + 1, 46),
        "properties": {
            "datetime": "2025-07-31T13:03:25Z",
            "updated": updated,
            "published": updated,
            "s2:generation_time": updated,
        },
        "assets": {},
        "collection": "sentinel-2-c1-l2a",
        **changes,
    }


def page(*features: object, **link: object) -> dict:
    return {"type": "FeatureCollection", "features": list(features), "links": [{"rel": "next", **link}] if link else []}


def source(service: Service, kind: str = "earth_search", slept: list | None = None, **settings: object):
    usual = {"url": f"{service.url}/v1", "timeout_seconds": 5, "max_attempts": 3, "page_size": 2}
    return StacApiSource(
        StacSourceSettings(name="live", kind=kind, **usual | settings),
        sleep=(slept if slept is not None else []).append,
    )


def search(service: Service, where=None, since: datetime = SINCE, **settings: object):
    return list(source(service, **settings).search(where or made.region(), since))


def tiles(answers: list) -> list[str]:
    return [answer.key.tile for answer in answers if isinstance(answer, Acquisition)]


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_earth_search_is_asked_by_query_on_updated(service):
    where = made.region(9, 44, 12, 47)
    search(service, where, datetime(2025, 7, 1, 2, tzinfo=UTC) + timedelta(microseconds=5))
    [question] = service.searches
    assert question == {
        "collections": ["sentinel-2-c1-l2a"],
        "intersects": where.geometry,
        "limit": 2,
        "query": {"updated": {"gte": "2025-07-01T02:00:00.000005Z"}},
    }


def test_copernicus_is_asked_by_filter_on_published(service):
    search(service, kind="cdse")
    assert service.searches[0]["filter"] == {
        "op": ">=",
        "args": [{"property": "published"}, "2025-07-01T00:00:00.000000Z"],
    }
    assert service.searches[0]["filter-lang"] == "cql2-json"
    assert service.searches[0]["collections"] == ["sentinel-2-l2a"]


def test_planetary_computer_is_asked_by_generation_time_with_a_long_look_back(service):
    service.pages = [
        page(item(updated="2025-06-20T00:00:00Z"), item("24MWV", updated="2025-06-01T00:00:00Z")),
    ]
    assert tiles(search(service, kind="planetary_computer")) == ["24MVV"]
    assert service.searches[0]["filter"]["args"] == [{"property": "s2:generation_time"}, "2025-06-17T00:00:00.000000Z"]


def test_other_collection_and_other_clocks(service):
    since = datetime.fromisoformat("2025-07-01T02:00:00+02:00")
    search(service, since=since, collection="sentinel-2-l2a")
    assert service.searches[0]["collections"] == ["sentinel-2-l2a"]
    assert service.searches[0]["query"]["updated"]["gte"] == "2025-07-01T00:00:00.000000Z"


def test_detailed_region_is_asked_for_by_its_box_and_cut_here(service):
    angles = np.linspace(0, 2 * np.pi, 900, endpoint=False)
    ring = [[10 + 2 * np.cos(a), 45 + 2 * np.sin(a)] for a in angles]
    round_region = made.Region(id="round", geometry={"type": "Polygon", "coordinates": [[*ring, ring[0]]]})
    corner = item("24MWV", geometry=made.polygon(11.9, 46.9, 12.5, 47.5))
    service.pages = [page(item(), corner)]
    assert tiles(search(service, round_region)) == ["24MVV"]
    np.testing.assert_allclose(service.searches[0]["bbox"], [8, 43, 12, 47], atol=1e-4)
    assert "intersects" not in service.searches[0]


# --- paging -----------------------------------------------------------------------------------------------------------


def test_pages_are_followed_by_post_with_and_without_merge(service):
    link = {"href": f"{service.url}/v1/search", "method": "POST"}
    service.pages = [
        page(item("24MVV"), **link, body={"next": "a"}, merge=True),
        page(item("24MWV"), **link, body={"next": "b"}),
        page(item("24MXV")),
    ]
    assert tiles(search(service)) == ["24MVV", "24MWV", "24MXV"]
    first, second, third = service.searches
    assert second == {**first, "next": "a"}
    assert third == {"next": "b"}


def test_pages_are_followed_by_get_and_empty_ones_do_not_end_them(service):
    service.pages = [
        page(item("24MVV"), href=f"{service.url}/v1/search?token=1"),
        page(href=f"{service.url}/v1/search?token=2"),
        page(item("24MWV")),
    ]
    assert tiles(search(service)) == ["24MVV", "24MWV"]
    assert [(method, path) for method, path, _ in service.asked][1:] == [
        ("GET", "/v1/search?token=1"),
        ("GET", "/v1/search?token=2"),
    ]


def test_pages_are_fetched_only_as_they_are_needed(service):
    service.pages = [page(item("24MVV"), href=f"{service.url}/v1/search?token=1"), page(item("24MWV"))]
    answers = source(service).search(made.region(), SINCE)
    assert next(answers).key.tile == "24MVV"
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "href", ["http://127.0.0.1:1/v1/search", "https://evil.example/search", "file:///etc/passwd", "//evil.example/x"]
)
def test_next_page_on_another_host_is_refused(service, href):
    service.pages = [page(item(), href=href)]
    answers = source(service).search(made.region(), SINCE)
    assert next(answers).key.tile == "24MVV"
    with pytest.raises(SourceAnswerInvalid):
        next(answers)
    assert len(service.asked) == 1


@pytest.mark.parametrize("link", [{"href": 7}, {"href": "x", "method": "DELETE"}, {"href": "x", "body": "text"}])
def test_malformed_next_link_is_refused(service, link):
    service.pages = [page(item(), **link)]
    with pytest.raises(SourceAnswerInvalid, match="next link"):
        search(service)


def test_paging_in_a_circle_is_refused(service):
    link = {"href": f"{service.url}/v1/search", "method": "POST", "body": {"next": "same"}}
    service.pages = [page(item(), **link) for _ in range(9)]
    with pytest.raises(SourceAnswerInvalid, match="without an end"):
        search(service)
    assert len(service.asked) == 2


# --- bad items --------------------------------------------------------------------------------------------------------


def test_one_bad_item_never_stops_the_rest(service):
    service.pages = [
        page(
            "not an item",
            {"type": "Feature", "id": "bare"},
            item(properties={"datetime": None}),
            item(assets={"B02": {"href": "https://me:secret@host/x.tif"}}),
            None,
            item("24MWV"),
        )
    ]
    answers = search(service)
    assert tiles(answers) == ["24MWV"]
    assert [answer.item_id for answer in answers if isinstance(answer, Unreadable)] == [
        "item 1 of the answer",
        "bare",
        item()["id"],
        item()["id"],
        "item 5 of the answer",
    ]
    assert "secret" not in repr(answers)


def test_items_that_were_not_asked_for_are_dropped(service):
    """Earth Search once ignored a filter that it did not know and answered with 115 million items."""
    elsewhere = item("24MXV", west=120.0)
    service.pages = [page(item("24MVV", updated="2025-06-30T00:00:00Z"), elsewhere, item("24MWV"))]
    assert tiles(search(service, made.region(9, 44, 12, 47))) == ["24MWV"]


# --- bad days ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_service_is_asked_again_after_growing_waits(service, status):
    service.script = [(status, b"busy"), (status, b"busy"), (200, page(item()))]
    slept: list[float] = []
    assert tiles(search(service, slept=slept)) == ["24MVV"]
    assert 0.25 <= slept[0] <= 0.5
    assert 0.5 <= slept[1] <= 1.0
    assert service.searches[0] == service.searches[1] == service.searches[2]


def test_outage_ends_after_the_tries_and_is_transient(service):
    service.script = [(503, b"")] * 9
    with pytest.raises(SourceUnavailable, match=r"HTTP 503, after 3 of 3 tries") as caught:
        search(service)
    assert caught.value.transient
    assert len(service.asked) == 3


def test_retry_after_is_honoured_in_seconds_and_as_a_date(service):
    from email.utils import format_datetime

    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service.script = [
        (429, b"", {"Retry-After": "7"}),
        (503, b"", {"Retry-After": later}),
        (200, page(item())),
    ]
    slept: list[float] = []
    assert tiles(search(service, slept=slept)) == ["24MVV"]
    assert 7 <= slept[0] <= 8
    assert 15 <= slept[1] <= 22


def test_service_that_asks_for_an_hour_is_left_alone(service):
    service.script = [(429, b"", {"Retry-After": "3600"})]
    slept: list[float] = []
    with pytest.raises(SourceUnavailable, match="after 1 of 3"):
        search(service, slept=slept)
    assert slept == []


def test_nonsense_in_retry_after_does_not_matter(service):
    service.script = [(429, b"", {"Retry-After": "soon"}), (200, page(item()))]
    assert tiles(search(service)) == ["24MVV"]


def test_slow_answer_is_given_up_and_asked_again(service):
    service.script = [lambda request: (time.sleep(0.6), send(request, 200, page())), (200, page(item()))]
    assert tiles(search(service, timeout_seconds=0.2)) == ["24MVV"]


def test_trickling_answer_is_given_up(service):
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(20):
            try:
                request.wfile.write(b" ")
                request.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)

    service.script = [trickle]
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"not complete within 0\.3 s"):
        search(service, timeout_seconds=0.3, max_attempts=1)
    assert time.monotonic() - began < 1.5


def test_broken_connection_is_asked_again(service):
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"{")
        request.close_connection = True

    service.script = [hang_up, (200, page(item()))]
    assert tiles(search(service)) == ["24MVV"]


def test_nobody_there_is_an_outage(service):
    url = service.url
    service.close()
    with pytest.raises(SourceUnavailable, match="ConnectError"):
        list(
            StacApiSource(
                StacSourceSettings(name="live", kind="cdse", url=url, max_attempts=2), sleep=lambda _: None
            ).search(made.region(), SINCE)
        )
    service.close = lambda: None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b"{}"), "HTTP 404"),
        ((401, b"{}"), "HTTP 401"),
        ((302, b"", {"Location": "https://evil.example/"}), "HTTP 302"),
        ((200, b"<html>maintenance</html>"), "not JSON"),
        ((200, b"[" * 100_000), "not JSON"),
        ((200, []), "list"),
        ((200, {"hello": "there"}), "without a list of features"),
        ((200, {"features": {}}), "without a list of features"),
        ((200, b"\x1f\x8bnonsense", {"Content-Encoding": "gzip"}), "search"),
    ],
)
def test_answers_that_are_no_stac_are_refused_at_once(service, answer, said):
    service.script = [answer]
    with pytest.raises(SourceAnswerInvalid, match=said) as caught:
        search(service)
    assert not caught.value.transient
    assert len(service.asked) == 1


def test_answer_without_end_is_cut_off_also_when_compressed(service, monkeypatch):
    import gzip

    monkeypatch.setattr("infra.sources.http._MAX_ANSWER_BYTES", 1_000_000)
    service.script = [(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"})]
    with pytest.raises(SourceAnswerInvalid, match="more than 1000000 bytes"):
        search(service)


def test_address_with_a_password_is_refused_and_not_repeated():
    settings = StacSourceSettings(name="live", kind="cdse", url="https://me:secret@host.example/v1")
    with pytest.raises(SourceAnswerInvalid) as caught:
        list(open_source(settings).search(made.region(), SINCE))
    assert "secret" not in str(caught.value)


# --- recorded answers -------------------------------------------------------------------------------------------------


def replay(service: Service, name: str) -> None:
    """Serve recorded search answers with their addresses turned to this server."""
    path = RECORDED / name
    if not path.is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"recorded answers {name} are required in CI")
        pytest.skip("the recorded answers are not on this machine")
    interactions = json.loads(path.read_text())["interactions"]
    for one in interactions:
        if one["uri"].endswith("/search"):
            base = one["uri"].removesuffix("/search")
            text = json.dumps(one["body"]).replace(json.dumps(base)[1:-1], f"{service.url}/v1")
            service.pages.append(json.loads(text))


def test_recorded_earth_search_answers(service):
    replay(service, "earthsearch_v1_search_multi.json")
    answers = search(service)
    assert len(service.searches) == 3
    assert service.searches[1] == {
        "next": "2025-07-31T13:03:25.899000Z,S2B_T24MVV_20250731T130245_L2A,sentinel-2-c1-l2a"
    }
    good = [answer for answer in answers if isinstance(answer, Acquisition)]
    assert len(answers) == 20
    assert len(good) == 12
    assert {answer.item["collection"] for answer in good} == {"sentinel-2-c1-l2a", "sentinel-2-l2a"}
    assert {answer.key.sensed for answer in good if answer.key.tile != "20EPT"} == {
        datetime(2025, 7, 31, 13, 2, 49, tzinfo=UTC)
    }
    assert all(len(answer.assets) == 13 for answer in good)
    assert any("level 1C" in answer.reason for answer in answers if isinstance(answer, Unreadable))
    both = [answer for answer in good if answer.key.tile == "24MUV"]
    assert len({(one.key, one.revision) for one in both}) == 1
    assert len({one.item_id for one in both}) == 2


def test_recorded_planetary_computer_answers(service):
    replay(service, "pc_search_s2.json")
    answers = search(service, since=datetime(2020, 10, 1, tzinfo=UTC), kind="planetary_computer")
    assert len(answers) == 33
    assert all(isinstance(answer, Acquisition) and len(answer.assets) == 13 for answer in answers)
    assert {answer.published for answer in answers} == {None}
    assert {answer.revision.baseline for answer in answers} == {"02.12"}
    assert "S2A_20190101T000001_58UFE_R116" in {answer.key.id for answer in answers}


def test_recorded_copernicus_answers(service):
    replay(service, "cdse_search_s2.json")
    answers = search(service, made.region(9, 47, 9.1, 47.1), datetime(2023, 9, 1, tzinfo=UTC), kind="cdse")
    assert sorted(answer.key.id for answer in answers) == [
        "S2A_20200703T103031_32TMT_R108",
        "S2A_20200703T103031_32TNT_R108",
        "S2B_20200705T101559_32TMT_R065",
        "S2B_20200705T101559_32TNT_R065",
    ]
    for answer in answers:
        assert answer.published.year == 2023
        assert answer.assets["B01"].href.endswith("R60m/" + answer.assets["B01"].href.rpartition("/")[2])
        assert answer.assets["B8A"].offset == -0.1
        restored = source(service, "cdse").restore(json.loads(json.dumps(answer.item)))
        assert restored == answer


# --- scenes over HTTP -------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(service, tmp_path, monkeypatch):
    """A scene whose bands lie on the server; GDAL does not try again by itself."""
    monkeypatch.setattr(access, "_BASE_OPTIONS", {**access._BASE_OPTIONS, "GDAL_HTTP_MAX_RETRY": "0"})
    factory = made.SceneFactory(tmp_path, width=240, height=240, declare={"raster:scale": 1e-4, "raster:offset": -0.1})
    factory.write()
    service.files = {path.name: path.read_bytes() for path in tmp_path.glob("*.tif")}
    described = factory.item(id=item()["id"])
    for asset in described["assets"].values():
        asset["href"] = asset["href"].replace("./", f"{service.url}/files/")
    factory.remote_item = described
    return factory


def remote_settings(service: Service, kind: str = "earth_search", **settings: object) -> StacSourceSettings:
    return StacSourceSettings(name="live", kind=kind, asset_hosts=(service.url,), **settings)


def read_remote(service: Service, remote, settings: StacSourceSettings | None = None) -> np.ndarray:
    settings = settings or remote_settings(service)
    acquisition = open_source(settings).restore(remote.remote_item)
    with open_scene(acquisition, settings) as scene:
        return scene.read(scene.grid.whole).b10


def test_scene_is_read_over_http(service, remote):
    b10 = read_remote(service, remote)
    np.testing.assert_allclose(b10[3], made.whole(remote.stored["B08"], 1e-4, -0.1), atol=1e-6)
    assert {path.partition("?")[0] for _, path, _ in service.asked} == {f"/files/{name}" for name in service.files}


def test_only_what_a_window_needs_is_fetched(service, remote):
    path = remote.folder / "B02.tif"
    rng = np.random.default_rng(1)
    remote.stored = {
        name: rng.integers(1, 60_000, (3840 // (remote.metres(name) // 10),) * 2).astype(array.dtype)
        for name, array in remote.stored.items()
    }
    for name in remote.stored:
        path = remote.write_band(name, tiled=True, blockxsize=256, blockysize=256)
        service.files[path.name] = path.read_bytes()
    remote.width = remote.height = 3840
    settings = remote_settings(service)
    from infra.scene import Window

    fetched: list[int] = []
    original = service.serve_file

    def counted(request, name, query):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if request.command == "GET" and name == "B02.tif":
            size = len(service.files[name])
            fetched.append(min(int(wanted[2]), size - 1) - int(wanted[1]) + 1 if wanted else size)
        original(request, name, query)

    service.serve_file = counted
    with open_scene(open_source(settings).restore(remote.remote_item), settings) as scene:
        pixels = scene.read(Window(1536, 1536, 384, 384))
    np.testing.assert_allclose(
        pixels.b10[0], made.whole(remote.stored["B02"], 1e-4, -0.1)[1536:1920, 1536:1920], atol=1e-6
    )
    assert sum(fetched) < len(service.files["B02.tif"]) / 8


@pytest.mark.parametrize("status", [500, 503, 429])
def test_outage_of_the_files_is_transient_and_not_remembered(service, remote, status):
    service.broken["B05.tif"] = status
    with pytest.raises(errors.RasterUnreachable, match="B05") as caught:
        read_remote(service, remote)
    assert caught.value.transient
    service.broken.clear()
    assert read_remote(service, remote).shape == (4, 240, 240)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_of_a_file_is_permanent(service, remote, status):
    service.broken["B05.tif"] = status
    with pytest.raises(errors.UnreadableRaster, match="B05") as caught:
        read_remote(service, remote)
    assert not caught.value.transient


def test_garbage_over_http_is_permanent(service, remote):
    service.files["B05.tif"] = b"<html>login</html>" * 100
    with pytest.raises(errors.UnreadableRaster, match="B05") as caught:
        read_remote(service, remote)
    assert not caught.value.transient


def test_truncated_file_over_http_is_never_read_as_pixels(service, remote):
    service.files["B04.tif"] = service.files["B04.tif"][:-20_000]
    with pytest.raises(errors.UnreadableRaster, match="B04") as caught:
        read_remote(service, remote)
    assert not caught.value.transient


def test_file_that_disappears_while_it_is_read(service, remote):
    settings = remote_settings(service)
    with open_scene(open_source(settings).restore(remote.remote_item), settings) as scene:
        service.broken["B08.tif"] = 503
        for _ in range(2):  # and it stays a matter of the network when asked again
            with pytest.raises(errors.RasterUnreachable, match="B08"):
                scene.read(scene.grid.whole)
        service.broken.clear()
        assert scene.read(scene.grid.whole).valid.all()


def test_read_that_fails_once_is_healed(service, remote):
    """GDAL does not try a broken range again here; opening afresh does."""
    settings = remote_settings(service)
    original = service.serve_file

    def once(request, name, query):
        if name == "B08.tif":
            service.serve_file = original
            send(request, 503, b"")
        else:
            original(request, name, query)

    with open_scene(open_source(settings).restore(remote.remote_item), settings) as scene:
        service.serve_file = once
        pixels = scene.read(scene.grid.whole)
    np.testing.assert_allclose(pixels.b10[3], made.whole(remote.stored["B08"], 1e-4, -0.1), atol=1e-6)


def test_remote_item_cannot_make_us_read_local_files(service, remote):
    remote.remote_item["assets"]["B02"]["href"] = (remote.folder / "B02.tif").as_uri()
    with pytest.raises(errors.ForbiddenAsset, match="local path"):
        read_remote(service, remote)


def test_planetary_computer_files_are_signed_once_and_secretly(service, remote, caplog):
    caplog.set_level(logging.DEBUG)
    service.token = "HUSHHUSH"
    settings = remote_settings(service, "planetary_computer", sign_url=f"{service.url}/token")
    acquisition = open_source(settings).restore(remote.remote_item)
    with open_scene(acquisition, settings) as scene:
        pixels = scene.read(scene.grid.whole)
        service.broken["B09.tif"] = 503
    np.testing.assert_allclose(pixels.b10[0], made.whole(remote.stored["B02"], 1e-4, -0.1), atol=1e-6)
    assert sum(path.startswith("/token/sentinel-2-l2a") for _, path, _ in service.asked) == 1
    with pytest.raises(errors.RasterUnreachable) as caught:
        open_scene(acquisition, settings)
    assert "HTTP response code on" in caplog.text
    assert "HUSHHUSH" not in caplog.text + str(caught.value) + json.dumps(acquisition.item) + repr(acquisition)


@pytest.mark.parametrize("status", [429, 503])
def test_outage_of_the_signing_service_is_transient(service, remote, status):
    """Without a token the files answer 403, which would otherwise be taken for the last word."""
    service.token = f"TOKEN{status}"
    service.script = [(status, b"")] * 200
    settings = remote_settings(service, "planetary_computer", sign_url=f"{service.url}/token", collection=f"c{status}")
    with pytest.raises(errors.RasterUnreachable, match="B01"):
        read_remote(service, remote, settings)
    service.script = []
    assert read_remote(service, remote, settings).shape == (4, 240, 240)


def test_copernicus_keys_sign_requests_to_the_endpoint(service, remote, caplog):
    """Keys reach the endpoint as a signature, never as themselves."""
    caplog.set_level(logging.DEBUG)
    for asset in remote.remote_item["assets"].values():
        asset["href"] = "s3://eodata/" + asset["href"].rpartition("/")[2]
    seen: list[str] = []

    def endpoint(request: BaseHTTPRequestHandler, _body: object) -> None:
        seen.append(request.headers.get("Authorization", ""))
        service.serve_file(request, request.path.removeprefix("/eodata/").partition("?")[0], "")

    service.handle = endpoint
    settings = StacSourceSettings(
        name="live",
        kind="cdse",
        s3_endpoint_url=service.url,
        access_key=SecretStr("AKID"),
        secret_key=SecretStr("HUSH"),
    )
    b10 = read_remote(service, remote, settings)
    np.testing.assert_allclose(b10[1], made.whole(remote.stored["B03"], 1e-4, -0.1), atol=1e-6)
    assert seen
    assert all(header.startswith("AWS4-HMAC-SHA256 Credential=AKID/") for header in seen)
    assert "HUSH" not in "".join(seen) + caplog.text
