"""A STAC service that replays a day of deliveries: paging, look-ups, refusals, outages, items that come and go."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SENSED = datetime(2025, 7, 31, 13, 2, 49, tzinfo=UTC)
REGION = (10.0, 45.0, 11.0, 46.0)


def square(west, south, east, north):
    """A rectangle, counter-clockwise."""
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


def stac_item(
    number=0, *, tile="24MVV", baseline="0511", generated=None, published=None, outline=REGION, name=None, **properties
):
    """The item of the number-th acquisition, five days after the one before."""
    sensed = SENSED + timedelta(minutes=number)
    generated = generated or sensed + timedelta(hours=2)
    published = published or sensed + timedelta(hours=3)
    product = f"S2B_MSIL2A_{sensed:%Y%m%dT%H%M%S}_N{baseline}_R095_T{tile}_{generated:%Y%m%dT%H%M%S}"
    stamp = published.isoformat().replace("+00:00", "Z")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name or product,
        "geometry": square(*outline),
        "bbox": list(outline),
        "properties": {
            "datetime": sensed.isoformat().replace("+00:00", "Z"),
            "updated": stamp,
            "published": stamp,
            "s2:product_uri": f"{product}.SAFE",
            "s2:generation_time": generated.isoformat().replace("+00:00", "Z"),
            **{key.replace("__", ":"): value for key, value in properties.items()},
        },
        "assets": {},
        "links": [],
    }


class Archive:
    """What one service has, and how it behaves; change it while it is asked."""

    def __init__(self, *items):
        self.items = {item["id"]: item for item in items}
        self.down = False
        self.refusals = []
        """Answers to the next requests: (status, headers)."""
        self.asked = []
        self.authorizations = []

    def search(self, body):
        """Return one page of what was published since the time asked for."""
        since = (body.get("query") or {}).get("updated", {}).get("gte") or body["filter"]["args"][1]
        since = datetime.fromisoformat(since)
        there = list(self.items.values())  # more may come meanwhile
        found = [item for item in there if datetime.fromisoformat(item["properties"]["published"]) >= since]
        begin, limit = int(body.get("token", 0)), body["limit"]
        links = []
        if begin + limit < len(found):
            links = [{"rel": "next", "method": "POST", "href": f"{self.url}/v1/search", "merge": True,
                      "body": {"token": begin + limit}}]  # fmt: skip
        return {"type": "FeatureCollection", "features": found[begin : begin + limit], "links": links}

    def answer(self, path, body):
        """Return status, headers and JSON for one request."""
        if self.down:
            return 503, {}, {"description": "down"}
        if self.refusals:
            return (*self.refusals.pop(0), {"description": "refused"})
        if path == "/v1/search":
            return 200, {}, self.search(body)
        item = self.items.get(path.rpartition("/items/")[2])
        return (200, {}, item) if item else (404, {}, {"description": "no such item"})


@contextmanager
def replayed(*items):
    """Serve an archive on a free port of this machine."""
    archive = Archive(*items)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body):
            archive.asked.append((self.command, self.path, body))
            archive.authorizations.append(self.headers.get("Authorization"))
            status, headers, answer = archive.answer(self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
