"""Answers are written once, by orjson: an API framework would walk through every number of every item again."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response


class JsonAnswer(Response):
    """A JSON document."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write the content."""
        return orjson.dumps(content)


class GeoJsonAnswer(JsonAnswer):
    """An item or a page of them."""

    media_type = "application/geo+json"


class SchemaAnswer(JsonAnswer):
    """A JSON Schema."""

    media_type = "application/schema+json"
