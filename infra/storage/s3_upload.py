"""A streaming upload to S3 whose first bytes are known last.

Part 1 is the head and as much of the body behind it as S3's smallest part size asks for; it is kept and sent last. The
rest of the body goes out in parts 2, 3, ... while it comes. What fits one part in all is a single conditional PUT.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from infra.storage.errors import ObjectExists, ObjectMissing, StorageError, UploadInterrupted, UploadLost
from infra.storage.protocol import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.storage.s3_client import S3Client

logger = logging.getLogger(__name__)

_MIN_PART: Final = 5 << 20
"""S3 refuses smaller parts, the last excepted."""

_PARTS_IN_FLIGHT: Final = 3
"""Parts of one upload that may be on the wire at once; each is held in memory."""

_PARTS_ON_THE_WIRE: Final = 4
"""The same over all uploads of a store: the nine files of a product do not hold nine times as much."""

_MAX_PART: Final = 5 << 30
"""S3 refuses larger parts."""

MOST_PARTS: Final = 10_000
"""S3 refuses more parts of one object."""

_GROW_EVERY: Final = 2000
"""After so many parts the part size grows by itself once: all parts that S3 allows then hold 30 000 first parts."""

_MARK: Final = "explains2a-upload"
"""Metadata by which an object is known as ours when the answer to its creation was lost."""


def size_of_part(number: int, first_size: int) -> int:
    """Say how large a part of the body is: larger and larger, so that a small first size holds a large object.

    Args:
        number: 2 is the first of the body; 1 is the head.
        first_size: Bytes of the first parts.

    Returns:
        Bytes; all but the last part have exactly these.
    """
    return min(_MAX_PART, first_size * (1 + number // _GROW_EVERY))


class Wire:
    """Parts on their way to one store, whatever uploads they belong to."""

    def __init__(self) -> None:
        self._sending: set[Future[str]] = set()
        self._lock = threading.Lock()

    def send(self, start: Callable[[], Future[str]], interrupted: Future[None]) -> Future[str] | None:
        """Start a part as soon as there is room.

        Args:
            start: Starts it.
            interrupted: Ends the wait when it is done.

        Returns:
            The part on its way; None when the wait was interrupted.
        """
        while not interrupted.done():
            with self._lock:
                self._sending = {future for future in self._sending if not future.done()}
                if len(self._sending) < _PARTS_ON_THE_WIRE:
                    future = start()
                    self._sending.add(future)
                    return future
                pending: list[Future[Any]] = [*self._sending, interrupted]
            wait(pending, return_when=FIRST_COMPLETED)
        return None


class S3Upload:
    """One object on its way (see `infra.storage.Upload`)."""

    def __init__(
        self,
        client: S3Client,
        key: str,
        target: Mapping[str, str],
        content_type: str,
        *,
        head_size: int,
        part_size: int,
        wire: Wire,
    ) -> None:
        """Prepare an empty upload.

        Args:
            client: Sends the requests.
            key: The object's key below the store's root.
            target: Bucket and full key.
            content_type: Media type.
            head_size: Bytes supplied last.
            part_size: Bytes per part, at least 5 MiB.
            wire: Shared by all uploads of the store.
        """
        self._wire = wire
        self._client, self._key, self._target, self._content_type = client, key, target, content_type
        self._head_size, self._part_size = head_size, part_size
        self._first = bytearray()
        self._first_room = max(0, _MIN_PART - head_size)
        self._buffer = bytearray()
        self._body_size = 0
        self._token = secrets.token_hex(16)
        self._upload_id: str | None = None
        self._sending: dict[int, Future[str]] = {}
        self._interrupted: Future[None] = Future()
        self._etags: dict[int, str] = {}
        self._next_part = 2
        self._open = True

    def write(self, data: bytes | memoryview) -> None:
        """Append to the body; waits while too many parts are on the wire."""
        self._ensure_open()
        view = memoryview(data).cast("B")
        self._body_size += len(view)
        taken = min(len(view), self._first_room - len(self._first))
        self._first += view[:taken]
        view = view[taken:]
        while len(view):
            room = self._size_of_next() - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == self._size_of_next():
                self._send_buffer()

    def finish(self, head: bytes) -> StoredObject:
        """Send what is left and the head, then make the object appear unless the key is taken."""
        self._ensure_open()
        if len(head) != self._head_size:
            self.abort()
            raise ValueError(f"head of {self._key} has {len(head)} bytes; {self._head_size} were promised")
        try:
            if self._upload_id is None:
                body = b"".join((head, self._first, self._buffer))
                conditional_put(self._client, self._key, self._target, body, self._content_type, self._token)
            else:
                self._complete(head)
        except BaseException:
            self.abort()
            raise
        self._open = False
        return StoredObject(self._key, self._head_size + self._body_size, datetime.now(UTC))

    def interrupt(self) -> None:
        """Let whoever waits for a part or for the next try of a request end with `UploadInterrupted`."""
        with contextlib.suppress(InvalidStateError):
            self._interrupted.set_result(None)

    def abort(self) -> None:
        """Stop sending and remove the parts that arrived. A store that does not answer is left to `clean_partial`."""
        if not self._open:
            return
        self._open = False
        self.interrupt()
        for future in self._sending.values():
            future.cancel()
        self._sending.clear()
        self._first, self._buffer = bytearray(), bytearray()
        if self._upload_id is None:
            return
        try:
            self._client.call("abort_multipart_upload", f"aborting the upload of {self._key}", **self._upload())
        except UploadLost:
            logger.debug("the upload of %s is gone already", self._key)
        except StorageError as error:
            logger.warning("%s; cleaning partial uploads removes it later", error)

    def _ensure_open(self) -> None:
        if not self._open:
            raise ValueError(f"the upload of {self._key} is finished or aborted")

    def _upload(self) -> dict[str, Any]:
        return {**self._target, "UploadId": self._upload_id}

    def _size_of_next(self) -> int:
        return size_of_part(self._next_part, self._part_size)

    def _send_buffer(self) -> None:
        if self._next_part > MOST_PARTS:
            raise StorageError(
                f"{self._key} needs more than {MOST_PARTS} parts, which is all that S3 takes; raise the storage's "
                f"part_size (now {self._part_size} bytes)"
            )
        if self._upload_id is None:
            answer = self._client.call(
                "create_multipart_upload", f"beginning the upload of {self._key}", retried=self._go_on,
                **self._target, ContentType=self._content_type, Metadata={_MARK: self._token},
            )  # fmt: skip
            self._upload_id = answer["UploadId"]
        self._settle(_PARTS_IN_FLIGHT - 1)
        data, self._buffer = bytes(self._buffer), bytearray()
        self._send(self._next_part, data)
        self._next_part += 1

    def _send(self, number: int, data: bytes) -> None:
        future = self._wire.send(lambda: self._client.start(self._part(number, data)), self._interrupted)
        if future is None:
            self._go_on()
        else:
            self._sending[number] = future

    async def _part(self, number: int, data: bytes) -> str:
        doing = f"uploading part {number} of {self._key}"
        answer = await self._client.request(
            "upload_part", doing, retried=self._go_on, **self._upload(), PartNumber=number, Body=data
        )
        etag: str = answer["ETag"]
        return etag

    def _settle(self, still_in_flight: int) -> None:
        """Wait until at most so many parts are on the wire; a failure of any of them is raised at once."""
        while True:
            for number in [number for number, future in self._sending.items() if future.done()]:
                self._etags[number] = self._sending.pop(number).result()
            if len(self._sending) <= still_in_flight:
                return
            pending: list[Future[Any]] = [*self._sending.values(), self._interrupted]
            wait(pending, return_when=FIRST_COMPLETED)
            self._go_on()

    def _go_on(self) -> None:
        if self._interrupted.done():
            raise UploadInterrupted(f"the upload of {self._key} was given up")

    def _complete(self, head: bytes) -> None:
        if self._buffer:
            self._send_buffer()
        self._settle(_PARTS_IN_FLIGHT - 1)
        self._send(1, head + bytes(self._first))
        self._settle(0)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        with _known_as_ours(self._client, self._target, self._token) as doubt:
            self._client.call(
                "complete_multipart_upload", f"completing the upload of {self._key}", retried=doubt.set,
                **self._upload(), MultipartUpload={"Parts": parts}, IfNoneMatch="*",
            )  # fmt: skip


def conditional_put(
    client: S3Client, key: str, target: Mapping[str, str], data: bytes, content_type: str, token: str
) -> None:
    """Create an object in one request unless the key is taken.

    Args:
        client: Sends the request.
        key: The object's key, for messages.
        target: Bucket and full key.
        data: The whole object.
        content_type: Media type.
        token: Marks the object as this call's own.

    Raises:
        ObjectExists: the key is taken.
    """
    with _known_as_ours(client, target, token) as doubt:
        client.call(
            "put_object", f"writing {key}", retried=doubt.set,
            **target, Body=data, ContentType=content_type, Metadata={_MARK: token}, IfNoneMatch="*",
        )  # fmt: skip


class _known_as_ours(contextlib.AbstractContextManager["_known_as_ours"]):  # noqa: N801 - reads as a phrase
    """Tells our own object from another's when an earlier try may have made it and its answer was lost."""

    def __init__(self, client: S3Client, target: Mapping[str, str], token: str) -> None:
        self._client, self._target, self._token = client, target, token
        self._doubtful = False

    def set(self) -> None:
        """An earlier try may have succeeded."""
        self._doubtful = True

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if not self._doubtful or not isinstance(error, ObjectExists | UploadLost):
            return False
        with contextlib.suppress(ObjectMissing):
            found = self._client.call("head_object", "looking whose object it is", **self._target)
            return bool(found.get("Metadata", {}).get(_MARK) == self._token)
        return False
