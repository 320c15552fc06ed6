"""The S3 store on a real server: SeaweedFS, with power cuts, throttling and wrong keys."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from infra.cog import CogBand, CogProfile, CogWriter
from infra.settings import StorageSettings
from infra.storage import (
    FileStore,
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageUnavailable,
    StorageUnwritable,
    UploadLost,
)
from infra.storage.s3 import S3Store
from infra.storage.s3_client import Retry, S3Client
from infra.verify import hash_object, verify_cog
from tests.seaweed import Seaweed

pytestmark = pytest.mark.server

ANY_TYPE = "application/octet-stream"
PART = 5 << 20
QUICK = Retry(attempts=3, first_delay=0.05, longest_delay=0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    seaweed = Seaweed(tmp_path_factory.mktemp("seaweed")).start()
    seaweed.make_bucket("products")
    yield seaweed
    seaweed.stop()


def store_on(seaweed, prefix, *, keys=None, bucket="products", retry=QUICK):
    keys = keys or seaweed.admin
    return S3Store(
        StorageSettings(
            url=f"s3://{bucket}/{prefix}", endpoint_url=seaweed.endpoint, access_key=keys.access,
            secret_key=keys.secret, part_size=PART,
        ),
        retry=retry,
    )  # fmt: skip


@pytest.fixture
def store(server, request):
    return store_on(server, request.node.name.partition("[")[0])


@pytest.fixture(params=["file", "s3"])
def any_store(request, tmp_path):
    if request.param == "file":
        return FileStore(tmp_path / "products")
    return store_on(request.getfixturevalue("server"), request.node.name.partition("[")[0])


def unfinished(store):
    return [upload["Key"] for upload in store._uploads(store._prefix)]


def body_of(size):
    return os.urandom(1 << 20) * (size >> 20) + os.urandom(size & ((1 << 20) - 1))


class TestBothStoresAlike:
    def test_objects_come_and_go(self, any_store):
        stored = any_store.put("a/one.bin", b"0123456789", content_type=ANY_TYPE)
        assert (stored.key, stored.size) == ("a/one.bin", 10)
        found = any_store.stat("a/one.bin")
        assert (found.key, found.size) == ("a/one.bin", 10)
        assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)
        any_store.put("b/two.bin", b"", content_type=ANY_TYPE)
        assert {found.key for found in any_store.list()} == {"a/one.bin", "b/two.bin"}
        assert [found.key for found in any_store.list("a/")] == ["a/one.bin"]
        any_store.delete("a/one.bin")
        any_store.delete("a/one.bin")
        assert any_store.stat("a/one.bin") is None
        with pytest.raises(ObjectMissing, match=r"there is no a/one\.bin"):
            any_store.get("a/one.bin")

    def test_ranges_are_read(self, any_store):
        any_store.put("a.bin", b"0123456789", content_type=ANY_TYPE)
        assert any_store.get("a.bin") == b"0123456789"
        assert any_store.get("a.bin", 3) == b"3456789"
        assert any_store.get("a.bin", 3, 4) == b"3456"
        assert any_store.get("a.bin", 8, 100) == b"89"
        assert any_store.get("a.bin", 100, 5) == b""

    @pytest.mark.parametrize("head", [0, 10, PART + 7])
    @pytest.mark.parametrize("size", [0, 100, PART, 3 * PART + 12_345])
    def test_head_comes_first_whatever_the_sizes(self, any_store, head, size):
        key, body, start = f"h{head}-s{size}.bin", body_of(size), body_of(head)
        upload = any_store.create(key, content_type=ANY_TYPE, head_size=head)
        for at in range(0, size, 1_234_567):
            upload.write(memoryview(body)[at : at + 1_234_567])
        assert any_store.stat(key) is None
        assert upload.finish(start).size == head + size
        assert any_store.get(key) == start + body

    @pytest.mark.parametrize("size", [100, 2 * PART + 1])
    def test_a_key_taken_meanwhile_is_not_overwritten(self, any_store, size):
        key = f"taken-{size}.bin"
        upload = any_store.create(key, content_type=ANY_TYPE, head_size=4)
        upload.write(body_of(size))
        any_store.put(key, b"theirs", content_type=ANY_TYPE)
        with pytest.raises(ObjectExists):
            upload.finish(b"head")
        with pytest.raises(ObjectExists):
            any_store.put(key, b"again", content_type=ANY_TYPE)
        with pytest.raises(ObjectExists):
            any_store.create(key, content_type=ANY_TYPE, head_size=0)
        assert any_store.get(key) == b"theirs"
        assert any_store.clean_partial("", timedelta(0)) == []

    def test_abort_leaves_nothing(self, any_store):
        upload = any_store.create("gone.bin", content_type=ANY_TYPE, head_size=4)
        upload.write(body_of(3 * PART))
        upload.abort()
        upload.abort()
        assert any_store.stat("gone.bin") is None
        assert any_store.clean_partial("", timedelta(0)) == []

    def test_cleaning_spares_the_young_and_other_prefixes(self, any_store):
        uploads = [any_store.create(f"{name}/x.bin", content_type=ANY_TYPE, head_size=4) for name in ("a", "b")]
        for upload in uploads:
            upload.write(body_of(3 * PART))
        assert any_store.clean_partial("", timedelta(hours=1)) == []
        assert any_store.clean_partial("a/", timedelta(0)) == ["a/x.bin"]
        uploads[1].finish(b"head")
        assert any_store.stat("b/x.bin").size == 4 + 3 * PART
        uploads[0].abort()

    def test_hashing_reads_every_byte(self, any_store):
        import hashlib

        data = body_of((8 << 20) + 5)
        any_store.put("big.bin", data, content_type=ANY_TYPE)
        assert hash_object(any_store, "big.bin") == (hashlib.sha256(data).hexdigest(), len(data))


def test_part_one_is_sent_last_and_every_other_part_before(store, monkeypatch):
    numbers, send = [], S3Client._send

    async def spy(self, operation, read, arguments):
        if operation == "upload_part":
            numbers.append(arguments["PartNumber"])
        return await send(self, operation, read, arguments)

    monkeypatch.setattr(S3Client, "_send", spy)
    upload = store.create("a.bin", content_type="image/tiff", head_size=100)
    upload.write(body_of(4 * PART))
    upload.finish(b"h" * 100)
    assert sorted(numbers[:-1]) == [2, 3, 4, 5]
    assert numbers[-1] == 1
    head = store._client.call("head_object", "looking", Bucket="products", Key=store._full("a.bin"))
    assert head["ContentType"] == "image/tiff"


def test_small_objects_are_one_request(store, monkeypatch):
    sent, send = [], S3Client._send

    async def spy(self, operation, read, arguments):
        sent.append(operation)
        return await send(self, operation, read, arguments)

    monkeypatch.setattr(S3Client, "_send", spy)
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=100)
    upload.write(body_of(PART))
    upload.finish(b"h" * 100)
    assert sent == ["head_object", "put_object"]


def test_parts_on_the_wire_are_bounded(store, monkeypatch):
    """However fast the caller writes, at most three parts are under way: memory stays bounded."""
    at_once, most, lock, send = 0, 0, threading.Lock(), S3Client._send

    async def slow(self, operation, read, arguments):
        nonlocal at_once, most
        if operation != "upload_part":
            return await send(self, operation, read, arguments)
        with lock:
            at_once += 1
            most = max(most, at_once)
        await asyncio.sleep(0.05)
        try:
            return await send(self, operation, read, arguments)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(S3Client, "_send", slow)
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=4)
    for _ in range(12):
        upload.write(body_of(PART))
        assert len(upload._buffer) + len(upload._first) <= 2 * PART
    upload.finish(b"head")
    assert most == 3


def test_parts_of_all_files_on_the_wire_are_bounded_together(store, monkeypatch):
    """Nine files of a product, written in turn as the writers do: four parts in all, not three of each."""
    at_once, most, lock, send = 0, 0, threading.Lock(), S3Client._send

    async def slow(self, operation, read, arguments):
        nonlocal at_once, most
        if operation != "upload_part":
            return await send(self, operation, read, arguments)
        with lock:
            at_once += 1
            most = max(most, at_once)
        await asyncio.sleep(0.05)
        try:
            return await send(self, operation, read, arguments)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(S3Client, "_send", slow)
    body = body_of(PART)
    uploads = [store.create(f"{number}.bin", content_type=ANY_TYPE, head_size=4) for number in range(9)]
    for _ in range(3):
        for upload in uploads:
            upload.write(body)
    for upload in uploads:
        upload.finish(b"head")
    assert most == 4
    assert store.get("8.bin") == b"head" + 3 * body


def test_throttled_parts_are_sent_again(store, monkeypatch):
    from botocore.exceptions import ClientError

    refused, send = set(), S3Client._send

    async def throttle(self, operation, read, arguments):
        if operation == "upload_part" and arguments["PartNumber"] not in refused:
            refused.add(arguments["PartNumber"])
            raise ClientError(
                {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "UploadPart"
            )
        return await send(self, operation, read, arguments)

    monkeypatch.setattr(S3Client, "_send", throttle)
    body = body_of(3 * PART)
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=4)
    upload.write(body)
    upload.finish(b"head")
    assert refused == {1, 2, 3, 4}
    assert store.get("a.bin") == b"head" + body


@pytest.mark.parametrize("size", [100, 3 * PART])
def test_an_object_whose_answer_was_lost_is_known_as_ours(store, monkeypatch, size):
    """The server made the object but the connection broke: trying again finds it there, and it is our own."""
    lost, send = [], S3Client._send

    async def lose(self, operation, read, arguments):
        answer = await send(self, operation, read, arguments)
        if operation in {"put_object", "complete_multipart_upload"} and not lost:
            lost.append(operation)
            raise ConnectionResetError
        return answer

    monkeypatch.setattr(S3Client, "_send", lose)
    key, body = f"{size}.bin", body_of(size)
    upload = store.create(key, content_type=ANY_TYPE, head_size=4)
    upload.write(body)
    assert upload.finish(b"head").size == 4 + size
    assert lost
    assert store.get(key) == b"head" + body


def test_an_upload_cleaned_away_under_way_is_named(store):
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=4)
    upload.write(body_of(2 * PART))
    assert store.clean_partial("", timedelta(0)) == ["a.bin"]
    with pytest.raises(UploadLost) as caught:
        upload.finish(b"head")
    assert caught.value.transient
    assert store.stat("a.bin") is None


def test_wrong_keys_are_denied_without_naming_them(server):
    wrong = type(server.admin)(server.admin.access, "not-the-secret-" + "x" * 20)
    for keys in (wrong, type(server.admin).fresh()):
        store = store_on(server, "denied", keys=keys)
        with pytest.raises(StorageDenied, match="check the storage's access_key") as caught:
            store.put("a.bin", b"x", content_type=ANY_TYPE)
        assert not caught.value.transient
        assert keys.secret not in str(caught.value)
        assert keys.access not in str(caught.value)


def test_who_may_only_read_cannot_write(server):
    store_on(server, "readonly").put("a.bin", b"there", content_type=ANY_TYPE)
    reader = store_on(server, "readonly", keys=server.reader)
    assert reader.get("a.bin") == b"there"
    with pytest.raises(StorageDenied):
        reader.put("b.bin", b"x", content_type=ANY_TYPE)
    upload = reader.create("c.bin", content_type=ANY_TYPE, head_size=4)
    with pytest.raises(StorageDenied):
        upload.write(body_of(3 * PART))
    upload.abort()
    assert [found.key for found in store_on(server, "readonly").list()] == ["a.bin"]


def test_a_missing_bucket_is_unwritable(server):
    with pytest.raises(StorageUnwritable, match="create the bucket"):
        store_on(server, "x", bucket="no-such-bucket").put("a.bin", b"x", content_type=ANY_TYPE)


def profile_of(size, bands, **changes):
    described = tuple(CogBand(f"b{i}", 1e-4, 0.0, "1", 450.0 + i, 10.0) for i in range(bands))
    facts = {
        "width": size, "height": size, "dtype": "int16", "crs": "EPSG:32633",
        "transform": (10.0, 0.0, 6e5, 0.0, -10.0, 53e5), "nodata": -32768, "bands": described, "block": 96,
        "overviews": "mean",
    }  # fmt: skip
    return CogProfile(**(facts | changes))


def cube(profile, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(-100, 9000, (len(profile.bands), profile.height, profile.width)).astype(profile.dtype)


@pytest.mark.parametrize("size", [50, 500])
def test_a_cog_is_streamed_to_s3_and_verified_through_gdal(store, size):
    profile = profile_of(size, 20)
    values, key = cube(profile), f"scene/{size}.tif"
    with ThreadPoolExecutor(2) as pool, CogWriter(profile, store, key, pool=pool) as writer:
        for row in range(0, size, 192):
            for column in range(0, size, 192):
                writer.write(column, row, values[:, row : row + 192, column : column + 192])
        summary = writer.finish()
    check = verify_cog(store, key, profile, summary)
    assert check.size == store.stat(key).size == summary.size
    assert check.multihash == "1220" + hash_object(store, key)[0]
    assert unfinished(store) == []


def test_a_failing_scene_aborts_its_upload(store):
    profile = profile_of(960, 80)
    values = cube(profile)

    def fail_half_way(pool):
        with CogWriter(profile, store, "scene/half.tif", pool=pool) as writer:
            for row in range(0, 960, 96):
                writer.write(0, row, values[:, row : row + 96])
                if row == 576:
                    assert unfinished(store) == [store._full("scene/half.tif")]
                    raise RuntimeError("the model failed")

    with ThreadPoolExecutor(2) as pool, pytest.raises(RuntimeError, match="the model failed"):
        fail_half_way(pool)
    assert unfinished(store) == []
    assert list(store.list()) == []


def test_a_power_cut_in_mid_upload_leaves_nothing_after_cleaning(tmp_path, caplog):
    """SIGKILL the server between two parts: a clear error, old objects whole, and cleaning removes the rest."""
    seaweed = Seaweed(tmp_path).start()
    try:
        seaweed.make_bucket("products")
        store = store_on(seaweed, "scene")
        kept = body_of(3 * PART)
        old = store.create("old.bin", content_type=ANY_TYPE, head_size=4)
        old.write(kept)
        old.finish(b"head")
        upload = store.create("new.bin", content_type=ANY_TYPE, head_size=4)
        upload.write(body_of(3 * PART))
        upload._settle(0)
        seaweed.kill()

        def go_on():
            upload.write(body_of(3 * PART))
            upload.finish(b"head")

        with pytest.raises(StorageUnavailable, match=r"uploading part \d of new\.bin failed") as caught:
            go_on()
        assert caught.value.transient
        upload.abort()
        assert "cleaning partial uploads removes it later" in caplog.text

        seaweed.start()
        store = store_on(seaweed, "scene")
        assert unfinished(store) == ["scene/new.bin"]
        assert store.clean_partial("", timedelta(hours=1)) == []
        assert store.clean_partial("", timedelta(0)) == ["new.bin"]
        assert unfinished(store) == []
        assert [found.key for found in store.list()] == ["old.bin"]
        assert store.get("old.bin") == b"head" + kept
    finally:
        seaweed.kill()
