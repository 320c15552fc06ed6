"""LIKE as CQL2 has it: case counts, ``%`` is any text, ``_`` one character, a backslash takes the next as it is."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_PARTS: Final = re.compile(r"\\(.)|(.)", re.DOTALL)
_LIKE: Final = frozenset("%_\\")
_GLOB: Final = frozenset("*?[")


class _Like(FunctionElement[bool]):
    """Column, pattern for LIKE, pattern for GLOB: SQLite's LIKE does not tell upper from lower case."""

    inherit_cache = True
    type = Boolean()


@compiles(_Like, "sqlite")
def _glob(element: _Like, compiler: Any, **options: Any) -> str:
    column, _, pattern = element.clauses
    return f"({compiler.process(column, **options)} GLOB {compiler.process(pattern, **options)})"


@compiles(_Like, "postgresql")
def _like(element: _Like, compiler: Any, **options: Any) -> str:
    column, pattern, _ = element.clauses
    return f"({compiler.process(column, **options)} LIKE {compiler.process(pattern, **options)})"


def like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Return whether a text is like a pattern, in SQL."""
    in_like, in_glob = [], []
    for escaped, plain in _PARTS.findall(pattern):
        if plain == "%":
            in_like.append("%")
            in_glob.append("*")
        elif plain == "_":
            in_like.append("_")
            in_glob.append("?")
        else:
            character = escaped or plain
            in_like.append(f"\\{character}" if character in _LIKE else character)
            in_glob.append(f"[{character}]" if character in _GLOB else character)
    return _Like(column, "".join(in_like), "".join(in_glob))
