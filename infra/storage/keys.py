"""Keys: relative paths of safe characters that cannot leave the store's root."""

from __future__ import annotations

import re
from typing import Final

from infra.storage.errors import InvalidKey

PARTIAL_MARK: Final = ".partial-"
"""Stands between a file's name and the token of its unfinished upload; no key may hold it."""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=@+-]*")
_MAX_KEY: Final = 900
_MAX_SEGMENT: Final = 200


def check_key(key: str) -> str:
    """Return the key unchanged when it is safe for every kind of store.

    Raises:
        InvalidKey: it is empty, absolute, too long, holds ``..``, an empty or odd segment or an unsafe character.
    """
    segments = key.split("/")
    safe = all(_SEGMENT.fullmatch(segment) and len(segment) <= _MAX_SEGMENT for segment in segments)
    if not safe or len(key) > _MAX_KEY or PARTIAL_MARK in key:
        raise InvalidKey(
            f"key is {key[:_MAX_KEY]!r}; expected a relative path of letters, digits and . _ = @ + - in segments of at "
            f"most {_MAX_SEGMENT} characters that start with a letter, digit or _, and without {PARTIAL_MARK!r}"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return a listing prefix unchanged when it is empty or the safe beginning of keys (a trailing ``/`` is fine)."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix
