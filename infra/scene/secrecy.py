"""Keep read tokens out of logs: GDAL warns with whole addresses, signature included."""

from __future__ import annotations

import logging
import re
from typing import Final

_QUERY: Final = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
_LOGGERS: Final = ("rasterio._env", "rasterio._err", "rasterio._base", "rasterio._io")


class _WithoutQueries(logging.Filter):
    """Cuts the query off every address in a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        record.msg, record.args = without_queries(message), ()
        return True


_FILTER: Final = _WithoutQueries()


def without_queries(text: str) -> str:
    """Return a text whose addresses have lost their queries.

    Args:
        text: Any text.

    Returns:
        The text with ``?...`` in place of each query.
    """
    return _QUERY.sub(r"\1?...", text)


def guard_gdal_logs() -> None:
    """Make the loggers that carry GDAL's messages drop queries; calling it again changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
