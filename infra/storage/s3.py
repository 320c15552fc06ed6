"""An S3 bucket as a store."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from infra.storage.errors import ObjectExists, ObjectMissing, StorageError
from infra.storage.keys import check_key, check_prefix
from infra.storage.protocol import StoredObject
from infra.storage.s3_client import RangeBeyondEnd, Retry, S3Client
from infra.storage.s3_upload import S3Upload, Wire, conditional_put

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator
    from datetime import timedelta

    from infra.settings import StorageSettings

_DEFAULT_RETRY: Final = Retry()


class S3Store:
    """Objects below a prefix of one bucket, on AWS or any server that speaks S3."""

    def __init__(self, settings: StorageSettings, *, retry: Retry = _DEFAULT_RETRY) -> None:
        """Name the bucket; nothing is sent yet.

        Args:
            settings: With an ``s3://bucket/prefix`` URL.
            retry: For every request.
        """
        parts = urlsplit(settings.url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self.url = settings.url.rstrip("/")
        self._settings = settings
        self._client = S3Client(settings, retry)
        self._wire = Wire()

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    def create(self, key: str, *, content_type: str, head_size: int) -> S3Upload:
        """Begin a streaming upload (see `ObjectStore.create`); nothing is sent before a part is full."""
        if self.stat(key) is not None:
            raise ObjectExists(f"{key} exists already in {self.url}; finished objects are never overwritten")
        target = {"Bucket": self._bucket, "Key": self._full(key)}
        return S3Upload(
            self._client, key, target, content_type, head_size=head_size, part_size=self._settings.part_size,
            wire=self._wire,
        )  # fmt: skip

    def put(self, key: str, data: bytes, *, content_type: str) -> StoredObject:
        """Store a small object at once (see `ObjectStore.put`)."""
        target = {"Bucket": self._bucket, "Key": self._full(key)}
        conditional_put(self._client, key, target, data, content_type, secrets.token_hex(16))
        return StoredObject(key, len(data), datetime.now(UTC))

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read bytes of an object (see `ObjectStore.get`)."""
        if length == 0:
            return b""
        end = "" if length is None else start + length - 1
        try:
            data: bytes = self._client.call(
                "get_object", f"reading {key}", read=True, Bucket=self._bucket, Key=self._full(key),
                Range=f"bytes={start}-{end}",
            )  # fmt: skip
        except RangeBeyondEnd:
            return b""
        except ObjectMissing as error:
            raise ObjectMissing(f"there is no {key} in {self.url}") from error
        return data

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object, None when there is none."""
        try:
            head = self._client.call("head_object", f"looking for {key}", Bucket=self._bucket, Key=self._full(key))
        except ObjectMissing:
            return None
        return StoredObject(key, head["ContentLength"], head["LastModified"].astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """List finished objects, page by page."""
        start = self._full_prefix(prefix)
        following: dict[str, str] = {}
        while True:
            page = self._client.call(
                "list_objects_v2", f"listing {self.url}", Bucket=self._bucket, Prefix=start, **following
            )
            for entry in page.get("Contents", ()):
                yield StoredObject(self._own(entry["Key"]), entry["Size"], entry["LastModified"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        self._client.call("delete_object", f"deleting {key}", Bucket=self._bucket, Key=self._full(key))

    def clean_partial(self, prefix: str, older_than: timedelta) -> builtins.list[str]:
        """Abort multipart uploads that were never finished (see `ObjectStore.clean_partial`)."""
        limit = datetime.now(UTC) - older_than
        removed = []
        for upload in list(self._uploads(self._full_prefix(prefix))):
            key = self._own(upload["Key"])
            if upload["Initiated"] <= limit:
                self._client.call(
                    "abort_multipart_upload", f"aborting the upload of {key}",
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"],
                )  # fmt: skip
                removed.append(key)
        return removed

    def gdal_path(self, key: str) -> str:
        """Name an object for `rasterio.open`: a ``/vsis3/`` path."""
        return f"/vsis3/{self._bucket}/{self._full(key)}"

    def gdal_env(self) -> dict[str, Any]:
        """Arguments of `rasterio.Env`; credentials travel in its session, so that printing them shows none."""
        settings = self._settings
        env: dict[str, Any] = {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_MAX_RETRY": "5",
            "GDAL_HTTP_RETRY_DELAY": "0.5",
            "CPL_VSIL_CURL_NON_CACHED": f"/vsis3/{self._bucket}/{self._prefix}",
        }
        if settings.region:
            env["AWS_REGION"] = settings.region
        if settings.endpoint_url:
            endpoint = urlsplit(settings.endpoint_url)
            env["AWS_S3_ENDPOINT"] = endpoint.netloc.rpartition("@")[2] + endpoint.path.rstrip("/")
            env["AWS_HTTPS"] = "YES" if endpoint.scheme == "https" else "NO"
            env["AWS_VIRTUAL_HOSTING"] = "FALSE"
        if settings.access_key and settings.secret_key:
            from infra.storage.gdal_session import KeySession

            env["session"] = KeySession(settings.access_key, settings.secret_key)
        return env

    def href(self, key: str) -> str:
        """Name an object for a STAC asset: an ``s3://`` URL."""
        return f"{self.url}/{check_key(key)}"

    def requests(self) -> dict[str, int]:
        """Return how many requests were sent so far by S3's name of each, such as ``upload_part``."""
        return self._client.requests()

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        following: dict[str, str] = {}
        while True:
            page = self._client.call(
                "list_multipart_uploads", f"listing unfinished uploads of {self.url}",
                Bucket=self._bucket, Prefix=prefix, **following,
            )  # fmt: skip
            yield from (upload for upload in page.get("Uploads", ()) if upload["Key"].startswith(prefix))
            if not page.get("IsTruncated"):
                return
            following = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{check_key(key)}" if self._prefix else check_key(key)

    def _full_prefix(self, prefix: str) -> str:
        check_prefix(prefix)
        return f"{self._prefix}/{prefix}" if self._prefix else prefix

    def _own(self, full: str) -> str:
        if self._prefix and not full.startswith(self._prefix + "/"):
            raise StorageError(f"the store answered with {full!r}, which is not below {self.url}")
        return full[len(self._prefix) + 1 :] if self._prefix else full
