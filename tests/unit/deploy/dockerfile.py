"""A Dockerfile as its stages, read far enough to ask who runs what in each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One stage: what it starts from and its instructions, continuation lines joined."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        """Return the arguments of every instruction of a kind."""
        return [arguments for found, arguments in self.instructions if found == keyword]


def stages(path: Path) -> dict[str, Stage]:
    """Return the stages by name, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        keyword, _, arguments = line.partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", arguments).groups()
            found[name] = Stage(name, base, ())
        elif found:
            name = list(found)[-1]
            last = found[name]
            found[name] = Stage(name, last.base, (*last.instructions, (keyword, arguments)))
    return found
