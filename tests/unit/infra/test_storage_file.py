"""A folder as a store: whole files or nothing, never overwritten, every failure named."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.settings import StorageSettings
from infra.storage import (
    FileStore,
    InvalidKey,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StorageUnwritable,
    Upload,
    open_store,
)

ANY_TYPE = "application/octet-stream"


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "products")


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_file_store_fulfils_the_protocols(store):
    assert isinstance(store, ObjectStore)
    upload = store.create("a", content_type=ANY_TYPE, head_size=0)
    assert isinstance(upload, Upload)
    upload.abort()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(head=st.binary(max_size=300), pieces=st.lists(st.binary(max_size=5000), max_size=8))
def test_head_comes_first_however_the_body_was_cut(store, head, pieces):
    upload = store.create("x/object", content_type=ANY_TYPE, head_size=len(head))
    for piece in pieces:
        upload.write(memoryview(piece))
    stored = upload.finish(head)
    assert store.get("x/object") == head + b"".join(pieces)
    assert stored.size == len(head) + sum(map(len, pieces))
    store.delete("x/object")


def test_nothing_is_seen_before_the_upload_is_finished(store):
    upload = store.create("scene/hsi.tif", content_type=ANY_TYPE, head_size=4)
    upload.write(b"body")
    assert list(store.list()) == []
    assert store.stat("scene/hsi.tif") is None
    with pytest.raises(ObjectMissing):
        store.get("scene/hsi.tif")
    upload.finish(b"head")
    assert [found.key for found in store.list()] == ["scene/hsi.tif"]


def test_abort_leaves_nothing_and_may_be_repeated(store, tmp_path):
    upload = store.create("scene/a/hsi.tif", content_type=ANY_TYPE, head_size=4)
    upload.write(b"x" * 3_000_000)
    upload.abort()
    upload.abort()
    assert list((tmp_path / "products").iterdir()) == []
    with pytest.raises(ValueError, match="finished or aborted"):
        upload.write(b"more")


def test_abort_after_finish_keeps_the_object(store):
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=1)
    upload.finish(b"1")
    upload.abort()
    assert store.get("a.bin") == b"1"


def test_a_head_of_another_size_than_promised_is_refused(store, tmp_path):
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=4)
    with pytest.raises(ValueError, match="3 bytes; 4 were promised"):
        upload.finish(b"123")
    assert files_below(tmp_path) == []


def test_a_taken_key_is_refused_at_once_and_at_the_end(store, tmp_path):
    late = store.create("a.bin", content_type=ANY_TYPE, head_size=4)
    late.write(b"mine")
    store.put("a.bin", b"theirs", content_type=ANY_TYPE)
    with pytest.raises(ObjectExists, match="never overwritten"):
        late.finish(b"head")
    with pytest.raises(ObjectExists):
        store.create("a.bin", content_type=ANY_TYPE, head_size=0)
    with pytest.raises(ObjectExists):
        store.put("a.bin", b"again", content_type=ANY_TYPE)
    assert store.get("a.bin") == b"theirs"
    assert files_below(tmp_path) == ["a.bin"]


def test_of_several_uploads_of_one_key_exactly_one_wins(store, tmp_path):
    uploads = [store.create("a.bin", content_type=ANY_TYPE, head_size=1) for _ in range(4)]
    outcomes = []
    for number, upload in enumerate(uploads):
        try:
            outcomes.append(upload.finish(bytes([number])).size)
        except ObjectExists:
            outcomes.append(0)
    assert outcomes == [1, 0, 0, 0]
    assert store.get("a.bin") == b"\0"
    assert files_below(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("big", [True, False])
def test_full_disk_is_named_and_leaves_nothing(store, monkeypatch, tmp_path, big):
    """/dev/full answers every write as a full disk does; big bodies meet it early, small ones when finishing."""
    monkeypatch.setattr("infra.storage.file._open_new", lambda _path: os.open("/dev/full", os.O_WRONLY))
    upload = store.create("a.bin", content_type=ANY_TYPE, head_size=4)

    def fill():
        upload.write(b"x" * (3_000_000 if big else 10))
        upload.finish(b"head")

    with pytest.raises(StorageFull, match="free space") as caught:
        fill()
    assert caught.value.transient
    assert files_below(tmp_path) == []


def test_a_file_where_a_folder_is_needed_is_unwritable(tmp_path):
    (tmp_path / "products").write_text("not a folder")
    for key in ("a.bin", "scene/a.bin", "scene/deep/a.bin"):
        with pytest.raises(StorageUnwritable, match="another storage url"):
            FileStore(tmp_path / "products").put(key, b"x", content_type=ANY_TYPE)


@pytest.mark.parametrize(
    ("number", "kind", "transient"),
    [
        (errno.EROFS, StorageUnwritable, False),
        (errno.EACCES, StorageDenied, False),
        (errno.EDQUOT, StorageFull, True),
        (errno.EIO, StorageUnavailable, True),
    ],
)
def test_system_errors_are_named(store, monkeypatch, number, kind, transient):
    def refuse(_path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("infra.storage.file._open_new", refuse)
    with pytest.raises(kind, match=r"creating a\.bin failed") as caught:
        store.put("a.bin", b"x", content_type=ANY_TYPE)
    assert caught.value.transient is transient


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", ".hidden", "a b", "a\\b", "a\0b", "ä", "a/..", "a*",
     "a.partial-0123", "x" * 201, "/".join(["abcdefghij"] * 99)],
)  # fmt: skip
def test_unsafe_keys_are_refused_everywhere(store, tmp_path, key):
    calls = [
        lambda: store.create(key, content_type=ANY_TYPE, head_size=0),
        lambda: store.put(key, b"", content_type=ANY_TYPE),
        lambda: store.get(key),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.gdal_path(key),
        lambda: store.href(key),
    ]
    for call in calls:
        with pytest.raises(InvalidKey, match="expected a relative path"):
            call()
    assert files_below(tmp_path) == []


def test_ranges_are_read(store):
    store.put("a.bin", b"0123456789", content_type=ANY_TYPE)
    assert store.get("a.bin", 3) == b"3456789"
    assert store.get("a.bin", 3, 4) == b"3456"
    assert store.get("a.bin", 8, 100) == b"89"
    assert store.get("a.bin", 100, 5) == b""


def test_missing_objects(store):
    assert store.stat("scene/none.tif") is None
    store.delete("scene/none.tif")
    store.put("scene", b"a file, not a folder", content_type=ANY_TYPE)
    store.delete("scene/none.tif")
    with pytest.raises(ObjectMissing):
        store.get("scene/none.tif")


def test_listing_by_prefix(store):
    for key in ("a/1.tif", "a/2.tif", "ab/3.tif", "b.tif"):
        store.put(key, key.encode(), content_type=ANY_TYPE)
    assert [found.key for found in store.list()] == ["a/1.tif", "a/2.tif", "ab/3.tif", "b.tif"]
    assert [found.key for found in store.list("a/")] == ["a/1.tif", "a/2.tif"]
    assert [found.key for found in store.list("a")] == ["a/1.tif", "a/2.tif", "ab/3.tif"]
    assert list(store.list("nothing/")) == []
    found = store.stat("b.tif")
    assert (found.key, found.size) == ("b.tif", 5)
    assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)


def test_deleting_removes_empty_folders_but_not_the_root(store, tmp_path):
    store.put("a/b/c.tif", b"", content_type=ANY_TYPE)
    store.delete("a/b/c.tif")
    assert list((tmp_path / "products").iterdir()) == []


def test_cleaning_removes_only_old_unfinished_uploads_below_the_prefix(store, tmp_path):
    store.put("a/done.tif", b"done", content_type=ANY_TYPE)
    uploads = [store.create(key, content_type=ANY_TYPE, head_size=0) for key in ("a/old.tif", "a/new.tif", "b/old.tif")]
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    for path in tmp_path.rglob("old.tif.partial-*"):
        os.utime(path, (long_ago, long_ago))
    assert store.clean_partial("a/", timedelta(hours=1)) == ["a/old.tif"]
    assert store.clean_partial("", timedelta(0)) == ["a/new.tif", "b/old.tif"]
    assert files_below(tmp_path) == ["done.tif"]
    for upload in uploads:
        upload.abort()


def test_names_for_readers(store, tmp_path):
    root = tmp_path / "products"
    assert store.url == root.as_uri()
    assert store.gdal_path("a/b.tif") == str(root / "a/b.tif")
    assert store.href("a/b.tif") == (root / "a/b.tif").as_uri()
    assert repr(store) == f"FileStore('{root.as_uri()}')"


def test_a_url_with_spaces_names_its_folder(tmp_path):
    folder = tmp_path / "my products"
    opened = open_store(StorageSettings(url="file://" + quote(str(folder))))
    opened.put("a.bin", b"1", content_type=ANY_TYPE)
    assert (folder / "a.bin").read_bytes() == b"1"


def test_an_empty_url_is_refused():
    with pytest.raises(StorageError, match="expected file:///"):
        open_store(StorageSettings())
