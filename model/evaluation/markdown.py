"""Markdown of the chapters that holds measured numbers: tables, and the marks between which they are renewed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are aligned left, the others right."""
    ruler = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ruler, *rows))


def rewrite(text: str, blocks: Mapping[str, str]) -> str:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        ValueError: if a block has no marks in the text.
    """
    for name, content in blocks.items():
        pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the text has {count} places for {name!r}; one pair of begin and end marks is needed")
    return text
