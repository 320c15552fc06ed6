"""Searching items: SQL narrows, shapely decides, keyset tokens page."""
