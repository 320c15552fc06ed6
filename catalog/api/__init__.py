"""The catalog as a STAC API: stac-fastapi in front, our own queries behind. Read-only."""

from catalog.api.application import create_app

__all__ = ["create_app"]
