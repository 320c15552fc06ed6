"""What the export asks of the place it writes to."""

from __future__ import annotations

from typing import Protocol


class Shelf(Protocol):
    """Small documents that are replaced whole, by keys below one root. Readers see the old one or the new one."""

    url: str
    """Root without a trailing slash: ``file:///folder`` or ``s3://bucket/prefix``."""

    def read(self, key: str) -> bytes | None:
        """Return a document, None where there is none."""

    def write(self, key: str, content: bytes, content_type: str) -> None:
        """Put a document in the place of whatever was there."""
