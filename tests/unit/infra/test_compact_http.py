"""Products over HTTP ranges and other stores: what is asked for, and what happens when the answer is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.cog import CogBand, CogProfile
from infra.compact import (
    BlockFile,
    CompactProduct,
    ProductDenied,
    ProductMissing,
    ProductUnreachable,
    ProductUnreadable,
    ReadingError,
    Window,
)
from infra.compact.sources import FileSource, HttpSource, http_client
from infra.range_server import RangeServer
from infra.tile_layout import lay_out
from tests.unit.infra.compact_factory import make_product


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_product(tmp_path_factory.mktemp("product"), 300, 300, 96, 24, hsi=True)


@pytest.fixture
def server(made):
    with RangeServer(made.folder) as running:
        yield running


@pytest.fixture
def client():
    with http_client() as opened:
        yield opened


def asked_of(server, name):
    return [(start, size) for file, start, size in server.asked() if file == name]


def tiles(path, row, column):
    """Where the tiles of a block lie, asked of GDAL: (offset, size) of every band."""
    with rasterio.open(path) as file:
        return [
            tuple(int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=b)) for what in ("OFFSET", "SIZE"))
            for b in file.indexes
        ]


def test_a_spectrum_is_one_request_of_exactly_its_block(made, server):
    with CompactProduct.open(server.url("compact.tif")) as product:
        opened = len(asked_of(server, "compact.tif"))
        assert opened <= 2
        np.testing.assert_allclose(product.spectrum(200, 210), made.reflectance[:, 200, 210], atol=1e-6)
        block = tiles(made.folder / "compact.tif", 2, 2)
        assert asked_of(server, "compact.tif")[opened:] == [(block[0][0], sum(size for _at, size in block))]
        product.spectrum(199, 195)
        assert len(asked_of(server, "compact.tif")) == opened + 1  # the same block again
        assert len(asked_of(server, "basis.json")) == 1


def test_sigma_costs_opening_its_file_and_one_request_more(made, server):
    with CompactProduct.open(server.url("compact.tif")) as product:
        np.testing.assert_allclose(product.sigma(200, 210), made.sigma[:, 200, 210], rtol=1e-5)
        before = len(server.asked())
        product.sigma(20, 210)
        assert len(server.asked()) == before + 1


def test_a_folders_address_is_enough(server):
    with CompactProduct.open(server.url("")) as product:
        np.testing.assert_array_equal(product.read((90, 90, 40, 30), [5], "int16").shape, (1, 30, 40))


def test_a_window_over_several_blocks_asks_once_for_each(made, server, client):
    with closing(BlockFile(HttpSource(server.url("hsi.tif"), client))) as file:
        before = len(server.asked())
        found = file.read(Window(90, 90, 20, 20))
        np.testing.assert_array_equal(found, made.integers[:, 90:110, 90:110])
        assert len(server.asked()) - before <= 4


@given(
    column=st.integers(0, 299), row=st.integers(0, 299), width=st.integers(1, 300), height=st.integers(1, 300),
    pixel_bytes=st.integers(1, 10_000),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_tile_a_window_within_a_bound_of_bytes(made, column, row, width, height, pixel_bytes):
    window = Window(column, row, min(width, 300 - column), min(height, 300 - row))
    seen = np.zeros((300, 300), int)
    with closing(BlockFile(FileSource(made.folder / "compact.tif"))) as file:
        for part in file.parts(window, pixel_bytes):
            seen[part.row : part.row + part.height, part.column : part.column + part.width] += 1
            blocks = -(-(part.column % 96 + part.width) // 96)
            assert part.row // 96 == (part.row + part.height - 1) // 96
            assert blocks == 1 or blocks * 96 * 96 * pixel_bytes <= 32 << 20
    expected = np.zeros((300, 300), int)
    expected[window.row : window.row + window.height, window.column : window.column + window.width] = 1
    np.testing.assert_array_equal(seen, expected)


def test_few_bands_of_many_do_not_fetch_what_lies_between(made, server, client):
    with closing(BlockFile(HttpSource(server.url("hsi.tif"), client))) as file:
        before = len(server.asked())
        found = file.read(Window(96, 96, 96, 96), [150, 3])
        np.testing.assert_array_equal(found, made.integers[[150, 3], 96:192, 96:192])
        sizes = [size for _name, _start, size in server.asked()[before:]]
        block = tiles(made.folder / "hsi.tif", 1, 1)
        assert sorted(sizes) == sorted([block[150][1], block[3][1]])


def test_a_full_tiles_index_is_fetched_in_one_request_and_never_again(tmp_path, client):
    """A full tile's index is a megabyte and its entries of one block lie far apart: GDAL alone asks for each."""
    random = np.random.default_rng(2)
    content = random.integers(0, 300, (24, 192, 192)).astype(np.int16)
    bands = tuple(CogBand(f"c{n}") for n in range(24))
    profile = CogProfile(
        10_980, 10_980, "int16", "EPSG:32633", (10.0, 0, 6e5, 0, -10.0, 53e5), -32768, bands, 192, "mean"
    )
    layout = lay_out(tmp_path / "tile.tif", content, profile, [((5000, 5000, 1, 1), range(24))])
    with RangeServer(tmp_path) as server, closing(BlockFile(HttpSource(server.url("tile.tif"), client))) as file:
        opened = [size for _name, _start, size in server.asked()]
        assert len(opened) == 2
        assert sum(opened) < layout.head_bytes + 20_000
        found = file.pixels([5000], [5000])[:, 0]
        np.testing.assert_array_equal(found, content[:, 5000 % 192, 5000 % 192])
        (spectrum,) = [size for _name, _start, size in server.asked()[2:]]
        assert spectrum == pytest.approx(layout.block_bytes, rel=1e-9)


def test_signed_addresses_are_given_one_by_one_and_never_shown(server):
    signed = {
        name: f"{server.url(name)}?signature=topsecret" for name in ("compact.tif", "basis.json", "uncertainty.tif")
    }
    with CompactProduct.open(
        signed["compact.tif"], basis=signed["basis.json"], uncertainty=signed["uncertainty.tif"]
    ) as product:
        assert np.isfinite(product.spectrum(100, 100)).all()
        assert np.isfinite(product.sigma(100, 100)).all()
    with pytest.raises(ProductMissing) as missing:
        CompactProduct.open(signed["compact.tif"].replace("compact", "other"))
    assert "topsecret" not in str(missing.value)
    assert "other.tif" in str(missing.value)


class Script(ThreadingHTTPServer):
    """Serves one file, but answers the n-th request as told."""

    daemon_threads = True

    def __init__(self, content, answers):
        super().__init__(("127.0.0.1", 0), ScriptedAnswer)
        self.content, self.answers, self.number = content, answers, 0

    def handle_error(self, *_):
        """A client may hang up in the middle: some of the answers are wrong on purpose."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/compact.tif"


class ScriptedAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        answer = self.server.answers.get(self.server.number, self.server.answers.get("rest"))
        self.server.number += 1
        start, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        piece, total = self.server.content[start : last + 1], len(self.server.content)
        status, headers = 206, {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{total}"}
        if isinstance(answer, int):
            status, headers, piece = answer, {}, b""
        elif answer == "whole":
            status, headers, piece = 200, {}, self.server.content
        elif answer == "elsewhere":
            headers = {"Content-Range": f"bytes {start + 1}-{start + len(piece)}/{total}"}
        elif answer == "longer":
            piece += b"x"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece[: len(piece) // 2] if answer == "broken off" else piece)
        if answer == "broken off":
            self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def scripted(content, **answers):
    server = Script(content, {int(name[1:]) if name[1:].isdigit() else name: how for name, how in answers.items()})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def content(made):
    return (made.folder / "compact.tif").read_bytes()


def test_what_passes_is_asked_again(content, made, client):
    waits = []
    with (
        scripted(content, n0=503, n1=429, n3="broken off") as server,
        closing(BlockFile(HttpSource(server.url, client, sleep=waits.append))) as file,
    ):
        np.testing.assert_array_equal(file.pixels([210], [200])[:, 0], made.stored[:, 200, 210])
    assert len(waits) >= 3


@pytest.mark.parametrize(("answer", "error", "told"), [
    (404, ProductMissing, "404"),
    (403, ProductDenied, "refused"),
    (401, ProductDenied, "refused"),
    (503, ProductUnreachable, "after 5 tries"),
    (301, ProductUnreadable, "expected 206"),
    ("whole", ProductUnreadable, "expected 206"),
    ("elsewhere", ProductUnreadable, "expected 206"),
    ("longer", ProductUnreadable, "more than"),
    ("broken off", ProductUnreachable, "after 5 tries"),
])  # fmt: skip
def test_wrong_answers_are_told_apart(content, client, answer, error, told):
    with scripted(content, rest=answer) as server, pytest.raises(error, match=told):
        BlockFile(HttpSource(server.url, client, sleep=lambda _seconds: None))


def test_a_file_that_vanishes_while_it_is_open_says_so(made, tmp_path, client):
    shutil.copy(made.folder / "compact.tif", tmp_path / "compact.tif")
    with RangeServer(tmp_path) as server, closing(BlockFile(HttpSource(server.url("compact.tif"), client))) as file:
        (tmp_path / "compact.tif").unlink()
        with pytest.raises(ProductMissing):
            file.pixels([200], [200])


def test_a_truncated_file_is_named_and_says_where(made, tmp_path, client):
    whole = (made.folder / "compact.tif").read_bytes()
    (tmp_path / "compact.tif").write_bytes(whole[: len(whole) * 2 // 3])
    with (
        RangeServer(tmp_path) as server,
        closing(BlockFile(HttpSource(server.url("compact.tif"), client))) as file,
        pytest.raises(ReadingError, match="truncated or corrupt"),
    ):
        file.read(Window(0, 0, 300, 300))


def test_a_file_that_is_no_tiff_is_refused(tmp_path, client):
    (tmp_path / "page.tif").write_text("<html>not found</html>")
    with RangeServer(tmp_path) as server, pytest.raises(ProductUnreadable, match="cannot be opened"):
        BlockFile(HttpSource(server.url("page.tif"), client))


def test_the_local_and_the_remote_reader_agree(made, server, client):
    with (
        closing(BlockFile(FileSource(made.folder / "hsi.tif"))) as near,
        closing(BlockFile(HttpSource(server.url("hsi.tif"), client))) as far,
    ):
        assert near.info == far.info
        np.testing.assert_array_equal(
            near.read(Window(5, 7, 250, 99), [0, 171]), far.read(Window(5, 7, 250, 99), [0, 171])
        )


def in_a_thread(work, *arguments):
    """Run in a thread that ends at once, and with it everything that rasterio noted there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


def test_a_remote_file_is_any_threads(made, server):
    products = [in_a_thread(CompactProduct.open, server.url("compact.tif")) for _ in range(3)]
    for product in products:
        np.testing.assert_allclose(in_a_thread(product.spectrum, 200, 210), made.reflectance[:, 200, 210], atol=1e-6)
        np.testing.assert_allclose(in_a_thread(product.sigma, 200, 210), made.sigma[:, 200, 210], rtol=1e-5)
    for product in reversed(products):
        in_a_thread(product.close)


def test_many_remote_files_at_once_do_not_mix(made, server):
    def work(number):
        row, column = 31 + 7 * number, 290 - 9 * number
        with CompactProduct.open(server.url("compact.tif")) as product:
            product.sigma(row, column)
            return np.abs(product.spectrum(row, column) - made.reflectance[:, row, column]).max()

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(work, range(24))) < 1e-6


FORGETFUL = """
import gc, sys, threading
from infra.compact import BlockFile
from infra.compact.sources import HttpSource, http_client

client = http_client()
def forget():
    BlockFile(HttpSource(sys.argv[1], client)).pixels([3], [3])
forget()
thread = threading.Thread(target=forget)
thread.start()
thread.join()
kept = BlockFile(HttpSource(sys.argv[1], client))
kept.itself = kept
del kept
gc.collect()
left_open = BlockFile(HttpSource(sys.argv[1], client))
print("done")
"""


def test_a_forgotten_remote_file_ends_no_process(server):
    """GDAL would call Python objects that are gone, a segmentation fault: it is tried in a process of its own."""
    command = [sys.executable, "-c", FORGETFUL, server.url("compact.tif")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stdout.strip()) == (0, "done"), ran.stderr
    assert "ERROR" not in ran.stderr
