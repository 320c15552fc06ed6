"""The look that the figures share: colours, signs, text, size, and how a figure is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from model.evaluation.figures.rows import BOUND, baseline_errors, file_name, in_training

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from model.evaluation.figures.rows import Row

BLUE, VERMILLION, ORANGE, GREEN = "#0072b2", "#d55e00", "#e69f00", "#009e73"
SKY, PURPLE, GREY, BLACK = "#56b4e9", "#cc79a7", "#777777", "#000000"
WIDTH: Final[float] = 12.0
"""Inches; with fonts from 9 points up, legible at 1200 pixels."""
DPI: Final[int] = 150


class Style(NamedTuple):
    """How a method is drawn: by colour and sign, never by colour alone."""

    label: str
    colour: str
    marker: str


MODEL: Final = Style("model", BLUE, "o")
STYLES: Final[dict[str, Style]] = {
    "mean": Style("mean spectrum", GREY, "x"),
    "wiener": Style("Wiener", VERMILLION, "s"),
    "bicubic_wiener": Style("bicubic + Wiener", ORANGE, "^"),
    "guided_wiener": Style("guided + Wiener", PURPLE, "D"),
    "mixture": Style("Gaussian mixture", SKY, "<"),
    "untrained": Style("model without its learned parts", SKY, "P"),
    "mlp": Style("perceptron", ORANGE, "v"),
    "guided_mlp": Style("guided + perceptron", ORANGE, "v"),
    "cos2a_like": Style("COS2A-like network", GREEN, "h"),
    BOUND: Style("bound: all bands at 10 m + Wiener", BLACK, "|"),
}
_MORE_STYLES: Final = tuple(Style("", c, m) for c, m in ((SKY, "X"), (PURPLE, "*"), (GREEN, ">"), (ORANGE, "p")))
RESOLUTIONS: Final[dict[int, tuple[str, str]]] = {10: ("#222222", "o"), 20: ("#777777", "s"), 60: ("#aaaaaa", "^")}
"""Pixel size of a source band, metres -> its grey and its marker."""


@dataclass(frozen=True)
class Drawn:
    """A figure with what stands beside it in the report."""

    stem: str
    title: str
    caption: str
    figure: Figure


def _style(name: str, unknown: Sequence[str]) -> Style:
    if name in STYLES:
        return STYLES[name]
    return _MORE_STYLES[unknown.index(name) % len(_MORE_STYLES)]._replace(label=name.replace("_", " "))


def styles_of(rows: Iterable[Row]) -> dict[str, Style]:
    """How each baseline of these rows is drawn, in the order of `STYLES`, unknown ones last."""
    names = {name for row in rows for name in baseline_errors(row)}
    unknown = sorted(names - set(STYLES))
    return {name: _style(name, unknown) for name in [*(n for n in STYLES if n in names), *unknown]}


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def plain(text: str) -> str:
    """Text as the figure's font can write it, read literally: file names may hold anything."""
    return "".join(c if ord(c) in _glyphs() else "□" for c in text).replace("$", r"\$")


def short(text: str, letters: int) -> str:
    """Text cut in its middle, where file names differ least."""
    return text if len(text) <= letters else f"{text[: letters // 2]}…{text[-(letters - letters // 2 - 1) :]}"


def new_figure(height: float, width: float = WIDTH, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A white figure of so many inches that no global state of matplotlib knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, title: str | None = None) -> None:
    """Write a figure as a PNG that is the same whenever it is drawn, and free its parts."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None, "Title": title})
    figure.clear()


def legend(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """The signs of a figure, above all of its axes."""
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, fontsize=9.5, frameon=False,
        handletextpad=0.5, columnspacing=1.5,
    )  # fmt: skip


def row_label(row: Row) -> str:
    """A file as axes name it, with an asterisk if the weights were fitted to it."""
    return plain(short(file_name(row), 38)) + (" *" if in_training(row) else "")


def slug(text: str) -> str:
    """A file name that holds on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:60] or "unnamed"
