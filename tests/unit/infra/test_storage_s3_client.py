"""What an S3 store does without a server to talk to: naming errors, trying again, keeping secrets."""

from __future__ import annotations

import aiohttp
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from infra.settings import StorageSettings
from infra.storage import (
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StorageUnwritable,
    UploadLost,
    open_store,
)
from infra.storage.s3_client import Retry, S3Client, named_error

SETTINGS = StorageSettings(
    url="s3://bucket/pre/fix", endpoint_url="http://127.0.0.1:9", access_key="AKIDVISIBLE", secret_key="s3cr3t-t0ken"
)


def answer(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("PreconditionFailed", 412), ObjectExists),
        (answer("NoSuchKey", 404), ObjectMissing),
        (answer("404", 404), ObjectMissing),
        (answer("NoSuchUpload", 404), UploadLost),
        (answer("NoSuchBucket", 404), StorageUnwritable),
        (answer("AccessDenied", 403), StorageDenied),
        (answer("InvalidAccessKeyId", 403), StorageDenied),
        (answer("QuotaExceeded", 403), StorageFull),
        (answer("InsufficientStorage", 507), StorageFull),
        (answer("SlowDown", 503), StorageUnavailable),
        (answer("TooManyRequests", 429), StorageUnavailable),
        (answer("RequestTimeout", 400), StorageUnavailable),
        (answer("InternalError", 500), StorageUnavailable),
        (answer("InvalidArgument", 400), StorageError),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), StorageUnavailable),
        (aiohttp.ClientPayloadError("cut off"), StorageUnavailable),
        (TimeoutError(), StorageUnavailable),
        (NoCredentialsError(), StorageDenied),
    ],
)
def test_failures_are_named_by_their_cause(error, kind):
    named = named_error(error, "writing a.tif")
    assert type(named) is kind
    assert str(named).startswith("writing a.tif failed: ")


def failing(monkeypatch, *failures):
    """Let requests fail in order, then succeed; return the list of operations that were sent."""
    sent, left = [], list(failures)

    async def send(_self, operation, _read, _arguments):
        sent.append(operation)
        if left:
            raise left.pop(0)
        return {"ETag": '"1"'}

    monkeypatch.setattr(S3Client, "_send", send)
    return sent


QUICK = Retry(attempts=4, first_delay=0.001, longest_delay=0.002)


def test_throttling_and_broken_connections_are_tried_again(monkeypatch):
    sent = failing(monkeypatch, answer("SlowDown", 503), aiohttp.ServerDisconnectedError(), TimeoutError())
    assert S3Client(SETTINGS, QUICK).call("upload_part", "uploading part 7") == {"ETag": '"1"'}
    assert sent == ["upload_part"] * 4


def test_trying_again_ends(monkeypatch):
    sent = failing(monkeypatch, *[answer("InternalError", 500)] * 9)
    with pytest.raises(StorageUnavailable, match="uploading part 7 failed: InternalError") as caught:
        S3Client(SETTINGS, QUICK).call("upload_part", "uploading part 7")
    assert caught.value.transient
    assert len(sent) == QUICK.attempts


@pytest.mark.parametrize("code", ["AccessDenied", "PreconditionFailed", "NoSuchUpload"])
def test_what_cannot_heal_is_not_tried_again(monkeypatch, code):
    sent = failing(monkeypatch, answer(code, 403 if code == "AccessDenied" else 412))
    with pytest.raises(StorageError):
        S3Client(SETTINGS, QUICK).call("put_object", "writing a.tif")
    assert len(sent) == 1


def test_doubt_about_an_earlier_try_is_reported(monkeypatch):
    failing(monkeypatch, TimeoutError())
    doubts = []
    S3Client(SETTINGS, QUICK).call("put_object", "writing a.tif", retried=lambda: doubts.append(1))
    assert doubts == [1]


def test_delays_double_up_to_the_longest_and_vary():
    retry = Retry(first_delay=1, longest_delay=5)
    for attempt, longest in enumerate((1, 2, 4, 5, 5)):
        delays = {retry.delay(attempt) for _ in range(20)}
        assert len(delays) > 1
        assert all(longest / 2 <= delay <= longest for delay in delays)


def test_secrets_are_shown_nowhere(monkeypatch):
    store = open_store(SETTINGS)
    failing(monkeypatch, answer("SignatureDoesNotMatch", 403))
    with pytest.raises(StorageDenied) as caught:
        store.put("a.tif", b"", content_type="image/tiff")
    shown = " ".join(
        [repr(store), str(store), repr(store.gdal_env()), str(caught.value), repr(caught.value), store.url]
    )
    assert "s3cr3t-t0ken" not in shown
    assert "AKIDVISIBLE" not in shown


def test_gdal_is_given_endpoint_and_keys():
    env = open_store(SETTINGS).gdal_env()
    assert env["AWS_S3_ENDPOINT"] == "127.0.0.1:9"
    assert env["AWS_HTTPS"] == "NO"
    assert env["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert env["session"].get_credential_options() == {
        "AWS_ACCESS_KEY_ID": "AKIDVISIBLE",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t-t0ken",
    }


def test_without_keys_gdal_looks_for_its_own():
    env = open_store(StorageSettings(url="s3://bucket", region="eu-central-1")).gdal_env()
    assert "session" not in env
    assert "AWS_S3_ENDPOINT" not in env
    assert env["AWS_REGION"] == "eu-central-1"


def test_names_for_readers():
    store = open_store(SETTINGS)
    assert store.href("a/b.tif") == "s3://bucket/pre/fix/a/b.tif"
    assert store.gdal_path("a/b.tif") == "/vsis3/bucket/pre/fix/a/b.tif"
    assert open_store(StorageSettings(url="s3://bucket")).gdal_path("a.tif") == "/vsis3/bucket/a.tif"
