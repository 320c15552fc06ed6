"""Two small guards: JPEG 2000 files that end too early, and tokens in GDAL's messages."""

from __future__ import annotations

import logging
import struct

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.scene.jpeg2000 import missing_bytes
from infra.scene.secrecy import guard_gdal_logs, without_queries

SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def long_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content


def last_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 0) + kind + content


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "image.jp2"


@pytest.mark.parametrize("make", [box, long_box])
@hypothesis.settings(deadline=None)
@given(cut=st.integers(1, 400))
def test_missing_bytes_are_counted_to_the_end_of_the_last_box(path, make, cut):
    whole = SIGNATURE + box(b"ftyp", b"jp2 ") + make(b"jp2c", bytes(500))
    path.write_bytes(whole)
    assert missing_bytes(path) == 0
    path.write_bytes(whole[:-cut])
    assert missing_bytes(path) == cut


def test_box_that_reaches_to_the_end_cannot_be_judged(path):
    path.write_bytes(SIGNATURE + last_box(b"jp2c", bytes(50)))
    assert missing_bytes(path) == 0


def test_header_that_is_cut_off_is_noticed(path):
    path.write_bytes(SIGNATURE + box(b"ftyp", b"jp2 ") + b"\x00\x00\x01")
    assert missing_bytes(path) > 0
    path.write_bytes(SIGNATURE + struct.pack(">I", 3) + b"junk")
    assert missing_bytes(path) > 0


@given(content=st.binary(max_size=64))
def test_other_files_are_left_to_gdal(path, content):
    path.write_bytes(b"II*\x00" + content)
    assert missing_bytes(path) == 0


def test_queries_are_cut_off_and_the_rest_is_kept():
    said = "HTTP response code on https://host/a/B02.tif?sig=abc&se=1: 503, then 'http://x/y?z' and why?"
    assert (
        without_queries(said) == "HTTP response code on https://host/a/B02.tif?... 503, then 'http://x/y?...' and why?"
    )


def test_gdal_s_loggers_are_guarded_once(caplog):
    guard_gdal_logs()
    guard_gdal_logs()
    logger = logging.getLogger("rasterio._env")
    with caplog.at_level(logging.WARNING, logger="rasterio._env"):
        logger.warning("%s in %s", "CPLE_AppDefined", "code on https://host/b.tif?sig=HUSH")
    assert caplog.messages == ["CPLE_AppDefined in code on https://host/b.tif?..."]
    assert len(logger.filters) == len(set(logger.filters))
