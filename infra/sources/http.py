"""JSON over HTTP from a service that may be slow, busy, broken or hostile."""

from __future__ import annotations

import gc
import json
import logging
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson

from infra.sources.errors import NothingThere, SourceAnswerInvalid, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

logger = logging.getLogger(__name__)

_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""

_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 120.0
"""Seconds; a service that asks for more patience is asked again by the next look instead."""


class _Busy(Exception):
    """One try failed in a way that passes."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class JsonClient:
    """Asks one service; every address stays on the service's own host."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float,
        max_attempts: int,
        sleep: Callable[[float], object] = time.sleep,
        token: SecretStr | None = None,
    ) -> None:
        """Prepare a client.

        Args:
            base_url: Address of the service; its scheme, host and port are the only ones that are asked.
            timeout_seconds: For one try, from the connection to the last byte.
            max_attempts: Tries per request on 429, 5xx and broken connections.
            sleep: Waits between tries.
            token: Bearer token, sent with every request; none ever leaves the host.
        """
        self._origin = _origin(base_url)
        self._timeout = timeout_seconds
        self._max_attempts = max_attempts
        self._sleep = sleep
        headers = {"Accept": "*/*"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._client = httpx.Client(timeout=timeout_seconds, follow_redirects=False, headers=headers)

    def request(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, again if need be, with exponential waits, jitter and the service's own ``Retry-After``.

        Args:
            method: ``GET`` or ``POST``.
            url: Absolute address on the service's host.
            body: JSON to send.

        Returns:
            The JSON object of the answer.

        Raises:
            SourceUnavailable: no answer within the tries (transient).
            NothingThere: HTTP 404.
            SourceAnswerInvalid: another host, a refusal, too large, or no JSON object.
        """
        if _origin(url) != self._origin:
            raise SourceAnswerInvalid(f"address {_shown(url)} leaves the service's host {self._origin[1]}; refused")
        for attempt in range(1, self._max_attempts + 1):
            try:
                return self._try(method, url, body)
            except _Busy as busy:
                reason, wait = str(busy), _wait(attempt, busy.wait)
            if attempt == self._max_attempts or wait > _LONGEST_WAIT:
                break
            logger.info("%s %s: %s; try %d follows in %.1f s", method, _shown(url), reason, attempt + 1, wait)
            self._sleep(wait)
        raise SourceUnavailable(f"{_shown(url)}: {reason}, after {attempt} of {self._max_attempts} tries")

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, method: str, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            with self._client.stream(method, url, json=body) as response:
                _check_status(response, url)
                content = self._read(response, url)
        except httpx.TransportError as error:
            raise _Busy(f"{type(error).__name__} ({error})") from error
        except (httpx.DecodingError, httpx.InvalidURL) as error:
            raise SourceAnswerInvalid(f"{_shown(url)}: {error}") from error
        try:
            answer = _parsed(content)
        except (ValueError, RecursionError) as error:
            raise SourceAnswerInvalid(f"{_shown(url)} answered with something that is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise SourceAnswerInvalid(f"{_shown(url)} answered with {type(answer).__name__}; expected a JSON object")
        return answer

    def _read(self, response: httpx.Response, url: str) -> bytes:
        """Read an answer within its limits of size (decompressed) and time (a trickle never ends by itself)."""
        began, content = time.monotonic(), bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_ANSWER_BYTES:
                raise SourceAnswerInvalid(f"{_shown(url)} answered with more than {_MAX_ANSWER_BYTES} bytes")
            if time.monotonic() - began > self._timeout:
                raise _Busy(f"the answer was not complete within {self._timeout:g} s")
        return bytes(content)


def _parsed(content: bytes) -> object:
    """Parse an answer, NaN and Infinity (which are no JSON) as null.

    A page of a thousand items is half a million objects, none of them garbage: the collector would look at all of them
    again and again while they are made, and take longer than the parsing.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content, parse_constant=lambda _: None)
    finally:
        if collecting:
            gc.enable()


def _check_status(response: httpx.Response, url: str) -> None:
    if response.status_code in _BUSY:
        raise _Busy(f"HTTP {response.status_code}", _retry_after(response.headers.get("Retry-After")))
    if response.status_code == httpx.codes.NOT_FOUND:
        raise NothingThere(f"{_shown(url)} answered HTTP 404; check the source's settings")
    if not response.is_success:
        raise SourceAnswerInvalid(f"{_shown(url)} answered HTTP {response.status_code}; check the source's settings")


def _retry_after(value: str | None) -> float | None:
    """Return the wait that a service asks for, seconds; RFC 9110, section 10.2.3."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())


def _wait(attempt: int, asked: float | None) -> float:
    """Return the seconds to wait: at least what was asked for, else doubling; jitter spreads many watchers."""
    doubling = _FIRST_WAIT * 2 ** (attempt - 1)
    jitter: float = random.uniform(0.5, 1.0) * doubling  # noqa: S311 - spreads load, guards nothing
    return min(jitter, _LONGEST_WAIT) if asked is None else asked + jitter


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.lower()
        parts.port  # noqa: B018 - raises when it is no number
    except ValueError as error:
        raise SourceAnswerInvalid(f"{url!r} is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not netloc or "@" in netloc:
        raise SourceAnswerInvalid(f"{_shown(url)} is no address of a service; expected http(s)://host/path")
    usual = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.scheme, netloc.removesuffix(usual)


def _shown(url: str) -> str:
    """Return an address without anything that may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
