"""Helpers that people run beside the tests."""
