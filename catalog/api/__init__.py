"""The catalog as a STAC API: stac-fastapi in front, our own queries behind. Read-only."""

import logging

# At its import stac-fastapi warns that it has no title, before anybody can give it one; `create_app` gives it ours.
logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)

from catalog.api.application import create_app  # noqa: E402 - after the line above

__all__ = ["create_app"]
