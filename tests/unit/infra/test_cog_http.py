"""Files over HTTP ranges: how many requests a reader needs."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio

from infra.cog import CogBand, CogProfile, CogWriter
from infra.storage import FileStore

GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http://127.0.0.1",
}


class RangeServer(ThreadingHTTPServer):
    """Serves one file's bytes by range and remembers what was asked."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.ranges = content, []

    @property
    def url(self):
        return f"/vsicurl/http://127.0.0.1:{self.server_address[1]}/file.tif"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self):
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        piece, total = self.server.content[start : end + 1], len(self.server.content)
        self.server.ranges.append((start, len(piece)))
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{total}")
        self.end_headers()
        self.wfile.write(piece)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start a range server for some bytes; all are stopped at the end."""
    running = []

    def start(content):
        server = RangeServer(content)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def written(tmp_path, bands, size, block):
    described = tuple(CogBand(f"channel {i}", 1e-4, 0.0, "1", 460.0 + 11 * i, 10.0) for i in range(bands))
    profile = CogProfile(
        size, size, "int16", "EPSG:32633", (10.0, 0.0, 6e5, 0.0, -10.0, 53e5), -32768, described, block, "mean"
    )
    values = np.random.default_rng(0).integers(0, 5000, (bands, size, size), dtype=np.int16)
    store = FileStore(tmp_path)
    with ThreadPoolExecutor(2) as pool, CogWriter(profile, store, "a.tif", pool=pool) as writer:
        writer.write(0, 0, values)
        writer.finish()
    return profile, values, store.get("a.tif")


@pytest.mark.parametrize(("bands", "size", "block"), [(12, 1000, 192), (3, 2000, 192), (1, 4000, 192)])
def test_the_first_request_shows_the_overviews(serve, tmp_path, bands, size, block):
    profile, _values, content = written(tmp_path, bands, size, block)
    server = serve(content)
    with rasterio.Env(**GDAL), rasterio.open(server.url) as source:
        assert source.overviews(bands) == [2**n for n in range(1, len(profile.levels))]
    assert server.ranges == [(0, 16_384)]


def test_the_first_request_shows_the_overviews_of_172_bands(serve, tmp_path):
    """The directories of all levels lie in GDAL's first 16 kB; descriptions of 172 bands fill a little more.

    A reader that asks for that at once (GDAL_INGESTED_BYTES_AT_OPEN) needs one request, any other a second one.
    """
    profile, _values, content = written(tmp_path, 172, 400, 96)
    first = content[:16_384]
    at, levels = int.from_bytes(first[8:16], "little"), 0
    while at:
        at = int.from_bytes(first[at + 8 + 20 * int.from_bytes(first[at : at + 8], "little") :][:8], "little")
        levels += 1
    assert levels == len(profile.levels)
    for options, most in (({"GDAL_INGESTED_BYTES_AT_OPEN": "131072"}, 1), ({}, 2)):
        server = serve(content)
        with rasterio.Env(**GDAL, **options), rasterio.open(server.url) as source:
            assert source.overviews(172) == [2**n for n in range(1, len(profile.levels))]
            assert source.tags(172, ns="IMAGERY")["FWHM_UM"] == "0.01"
        assert len(server.ranges) <= most
        assert sum(size for _start, size in server.ranges) < 150_000


def test_a_spectrum_and_a_bands_window_are_both_cheap(serve, tmp_path):
    """One pixel of all bands touches one stretch of the file, one band's window only that band's tiles."""
    _profile, values, content = written(tmp_path, 60, 400, 96)
    server = serve(content)
    with rasterio.Env(**GDAL), rasterio.open(server.url) as source:
        before = len(server.ranges)
        spectrum = source.read(window=rasterio.windows.Window(200, 210, 1, 1))[:, 0, 0]
        np.testing.assert_array_equal(spectrum, values[:, 210, 200])
        raw_block = 60 * 96 * 96 * 2
        assert len(server.ranges) - before <= 12  # GDAL doubles its piece as it reads on
        assert sum(size for _start, size in server.ranges[before:]) < raw_block + 300_000
    server = serve(content)
    with rasterio.Env(**GDAL), rasterio.open(server.url) as source:
        before = len(server.ranges)
        window = rasterio.windows.Window(96, 96, 96, 96)
        np.testing.assert_array_equal(source.read(7, window=window), values[6, 96:192, 96:192])
        assert sum(size for _start, size in server.ranges[before:]) < 100_000


def test_the_coarsest_overview_lies_beside_the_head(serve, tmp_path):
    profile, _values, content = written(tmp_path, 3, 1500, 192)
    server = serve(content)
    coarsest, options = len(profile.levels) - 2, {"GDAL_INGESTED_BYTES_AT_OPEN": "262144"}
    with rasterio.Env(**GDAL, **options), rasterio.open(server.url, OVERVIEW_LEVEL=coarsest) as source:
        assert max(source.width, source.height) <= 192
        source.read()
    assert sum(size for _start, size in server.ranges) < 600_000
    assert len(server.ranges) <= 2
