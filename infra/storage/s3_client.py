"""One S3 client, s3fs' own, with retries and errors that name their cause."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, on which its network errors stand
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)

from infra.storage.errors import (
    ObjectExists,
    ObjectMissing,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StorageUnwritable,
    UploadLost,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from infra.settings import StorageSettings

logger = logging.getLogger(__name__)

_NETWORK: Final = (
    ConnectionError,
    HTTPClientError,
    ResponseStreamingError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    OSError,
)
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500
_BUSY_CODES: Final = {
    "SlowDown",
    "RequestTimeout",
    "ConditionalRequestConflict",
    "OperationAborted",
    "ThrottlingException",
}
_FULL_CODES: Final = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_TAKEN_CODES: Final = {"PreconditionFailed", "412"}
_MISSING_CODES: Final = {"NoSuchKey", "NotFound", "404"}
_DENIED_STATUS: Final = (401, 403)


class RangeBeyondEnd(StorageError):
    """Bytes were asked for behind the object's end."""


@dataclass(frozen=True)
class Retry:
    """How often and how patiently a request is tried again."""

    attempts: int = 6
    """Tries in all."""
    first_delay: float = 0.5
    """Seconds before the second try; doubled each time, with jitter."""
    longest_delay: float = 20.0
    """Seconds."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the given failed try (0 is the first)."""
        longest = min(self.longest_delay, self.first_delay * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


class S3Client:
    """Sends requests through the client of an `s3fs.S3FileSystem`, on fsspec's event loop thread."""

    def __init__(self, settings: StorageSettings, retry: Retry) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            settings: Endpoint, region and credentials; without credentials the usual AWS chain is asked.
            retry: For every request.
        """
        config: dict[str, Any] = {
            "retries": {"total_max_attempts": 1},  # ours are the retries: counted, logged and named in one place
            "connect_timeout": 10,
            "read_timeout": 60,
        }
        if settings.endpoint_url:
            config["s3"] = {"addressing_style": "path"}
        self._fs = s3fs.S3FileSystem(
            key=settings.access_key.get_secret_value() if settings.access_key else None,
            secret=settings.secret_key.get_secret_value() if settings.secret_key else None,
            endpoint_url=settings.endpoint_url,
            client_kwargs={"region_name": settings.region or "us-east-1"} if settings.endpoint_url else
            ({"region_name": settings.region} if settings.region else {}),
            config_kwargs=config,
            skip_instance_cache=True,
            use_listings_cache=False,
        )  # fmt: skip
        self._retry = retry
        self._sent: Counter[str] = Counter()
        """Written on the loop's thread alone."""

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the client's loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self._fs.loop)

    def call(self, operation: str, doing: str, **arguments: Any) -> Any:
        """Send a request and wait for its answer (see `request`)."""
        return self.start(self.request(operation, doing, **arguments)).result()

    async def request(
        self,
        operation: str,
        doing: str,
        *,
        read: bool = False,
        retried: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Send one request, again while that may help.

        Args:
            operation: botocore's name, such as ``upload_part``.
            doing: What the request is for, for messages.
            read: Return the body's bytes instead of the answer.
            retried: Told when an earlier try may have succeeded without our knowing.
            arguments: Of the operation.

        Raises:
            StorageError: one of its kinds, after the last try or at once where trying again cannot help.
        """
        for attempt in range(self._retry.attempts):
            try:
                return await self._send(operation, read, arguments)
            except (ClientError, BotoCoreError, *_NETWORK) as error:
                named = named_error(error, doing)
                if not isinstance(named, StorageUnavailable) or attempt + 1 == self._retry.attempts:
                    raise named from error
                logger.info("%s; try %d of %d", named, attempt + 2, self._retry.attempts)
                if retried is not None:
                    retried()
            await asyncio.sleep(self._retry.delay(attempt))
        raise StorageUnavailable(f"{doing} was not tried; allow at least one attempt")

    def requests(self) -> dict[str, int]:
        """Return how many requests of each operation were sent so far, further tries included."""
        return dict(self._sent)

    async def _send(self, operation: str, read: bool, arguments: dict[str, Any]) -> Any:
        client = await self._fs.set_session()
        self._sent[operation] += 1
        answer = await getattr(client, operation)(**arguments)
        if not read:
            return answer
        async with answer["Body"] as body:
            return await body.read()


def named_error(error: Exception, doing: str) -> StorageError:
    """Name the cause of a failed request and say what to do. Only codes go into the message, never what was sent."""
    if isinstance(error, ClientError):
        return _answered(error, doing)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StorageDenied(f"{doing} failed: no complete credentials; set the storage's access_key and secret_key")
    if isinstance(error, _NETWORK):
        return StorageUnavailable(f"{doing} failed: {type(error).__name__}; check that the storage endpoint answers")
    return StorageError(f"{doing} failed: {type(error).__name__}; check the storage settings")


def _answered(error: ClientError, doing: str) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{doing} failed: {code} (HTTP {status})"
    if code in _TAKEN_CODES:
        return ObjectExists(f"{said}; finished objects are never overwritten")
    if code == "NoSuchBucket":
        return StorageUnwritable(f"{said}; create the bucket or correct the storage url")
    if code == "NoSuchUpload":
        return UploadLost(f"{said}; it was aborted or cleaned away, the work is tried again")
    if code in _MISSING_CODES:
        return ObjectMissing(said)
    if code == "InvalidRange":
        return RangeBeyondEnd(said)
    if code in _FULL_CODES:
        return StorageFull(f"{said}; free space or raise the quota, the work is tried again")
    if status in _DENIED_STATUS:
        return StorageDenied(f"{said}; check the storage's access_key, secret_key and what they may do")
    if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS or code in _BUSY_CODES:
        return StorageUnavailable(f"{said}; the store is busy or broken")
    return StorageError(f"{said}; check the storage settings")
