"""How a stream is cut into parts, held against S3's rules for any sizes."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import StorageSettings
from infra.storage import StorageError
from infra.storage import s3_upload as module
from infra.storage.s3_upload import MOST_PARTS, S3Upload, Wire, size_of_part

MIB, GIB = 1 << 20, 1 << 30
FULL_TILE_HSI = 55 * 10**9
"""More than the largest file of a product ever was."""

FIRST_SIZES = st.integers(5 * MIB, GIB)


@settings(deadline=None)
@given(FIRST_SIZES, st.integers(2, MOST_PARTS))
def test_every_part_is_of_a_size_that_s3_takes_and_none_is_smaller_than_an_earlier_one(first, number):
    assert 5 * MIB <= size_of_part(number, first) <= 5 * GIB
    assert size_of_part(number, first) <= size_of_part(number + 1, first)


@settings(max_examples=20, deadline=None)
@given(FIRST_SIZES)
def test_the_parts_that_s3_takes_hold_twice_the_largest_file(first):
    assert sum(size_of_part(number, first) for number in range(2, MOST_PARTS + 1)) > 2 * FULL_TILE_HSI


def test_settings_take_the_sizes_that_the_properties_cover():
    for bad in (5 * MIB - 1, GIB + 1):
        with pytest.raises(ValueError, match="part_size"):
            StorageSettings(url="s3://b/p", part_size=bad)
    assert StorageSettings(url="s3://b/p", part_size=5 * MIB).part_size == 5 * MIB


class Recorder:
    """Takes the requests of an upload and answers each at once, as the client of a perfect server would."""

    def __init__(self):
        self.parts, self.completed, self.whole, self.aborted = {}, None, None, False

    def call(self, operation, _doing, **arguments):
        if operation == "create_multipart_upload":
            return {"UploadId": "1"}
        if operation == "complete_multipart_upload":
            self.completed = [part["PartNumber"] for part in arguments["MultipartUpload"]["Parts"]]
        if operation == "put_object":
            self.whole = arguments["Body"]
        self.aborted |= operation == "abort_multipart_upload"
        return {}

    async def request(self, operation, _doing, *, PartNumber, Body, **_others):
        assert operation == "upload_part"
        self.parts[PartNumber] = Body
        return {"ETag": f"{PartNumber}"}

    def start(self, work):
        future = Future()
        try:
            work.send(None)
        except StopIteration as done:
            future.set_result(done.value)
        return future


def upload_of(recorder, head, part):
    return S3Upload(
        recorder, "a.bin", {"Bucket": "b", "Key": "a.bin"}, "x/y", head_size=head, part_size=part, wire=Wire()
    )


@pytest.fixture(scope="module", autouse=True)
def _small():
    """S3's rules a million times smaller: a part has at least 5 bytes, and grows every 4 parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MIN_PART", 5)
        yield


@settings(deadline=None)
@given(
    head=st.binary(max_size=12), part=st.integers(5, 9), pieces=st.lists(st.binary(max_size=40), max_size=12),
    every=st.integers(2, 6),
)  # fmt: skip
def test_any_stream_becomes_parts_by_the_rules_and_nothing_is_lost(head, part, pieces, every):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_GROW_EVERY", every)
        recorder, body = Recorder(), b"".join(pieces)
        upload = upload_of(recorder, len(head), part)
        for piece in pieces:
            upload.write(memoryview(piece))
        assert upload.finish(head).size == len(head) + len(body)
        if recorder.completed is None:
            assert recorder.whole == head + body
            assert recorder.parts == {}
            return
        assert recorder.completed == list(range(1, len(recorder.parts) + 1))
        assert b"".join(recorder.parts[number] for number in recorder.completed) == head + body
        assert all(len(recorder.parts[number]) >= 5 for number in recorder.completed[:-1])
        for number in recorder.completed[1:-1]:
            assert len(recorder.parts[number]) == size_of_part(number, part)


def test_more_parts_than_s3_takes_are_refused_by_name_and_aborted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_PARTS", 6)
        recorder = Recorder()
        upload = upload_of(recorder, 5, 5)
        with pytest.raises(StorageError, match="raise the storage's part_size"):
            upload.write(bytes(200))
        upload.abort()
        assert recorder.aborted
        assert recorder.completed is None
