"""What can be wrong with a search; the API answers 400 and names the parameter."""

from __future__ import annotations

from typing import ClassVar


class InvalidSearch(ValueError):
    """A parameter of a search cannot be understood or is out of bounds."""

    transient: ClassVar[bool] = False

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter


class SearchTooSlow(RuntimeError):
    """A search took longer than it may."""

    transient: ClassVar[bool] = False

    def __init__(self, seconds: float | None) -> None:
        super().__init__(f"took longer than {seconds:g} s; narrow it by collections, bbox, datetime or ids")
