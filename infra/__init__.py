"""Adapters to the outside world: settings, sources, scenes, storage, files."""
