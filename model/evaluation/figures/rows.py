"""What the evaluation's rows say: numbers that may lack, baselines, skill, coverage, tiers."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Row = Mapping[str, Any]
    """One file judged, as `explains2a evaluate --json` writes it."""

REFERENCES: Final[tuple[str, ...]] = ("wiener", "guided_wiener", "bicubic_wiener")
"""Baselines that skill is measured against: the first that a row holds."""

BOUND: Final[str] = "all_at_10m_wiener"
"""Not a rival: it is given every band at 10 m."""


def finite(value: object) -> float:
    """A finite number as it is, anything else (absent, null, text) as nan."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return float("nan")
    return float(value) if math.isfinite(value) else float("nan")


def numbers(values: object) -> NDArray[np.float64] | None:
    """A list of numbers, null = nan; ``None`` if it is no such list."""
    if not isinstance(values, list | tuple | np.ndarray) or len(values) == 0:
        return None
    return np.array([finite(value) for value in values])


def within(row: Row, *keys: str) -> object:
    """The value under nested keys, ``None`` where one is absent."""
    found: Any = row
    for key in keys:
        if not hasattr(found, "get"):
            return None
        found = found.get(key)
    return found


def file_name(row: Row) -> str:
    """The file's name without its folder, whatever system wrote it."""
    return PurePath(str(row.get("file", "unnamed")).replace("\\", "/")).name.removesuffix(".npz")


def in_training(row: Row) -> bool:
    """Whether the weights were fitted to the file."""
    return bool(row.get("in_training"))


def baseline_errors(row: Row) -> dict[str, float]:
    """RMSE of each baseline that has one."""
    named = within(row, "baselines")
    found = {str(key): finite(within(value, "rmse")) for key, value in named.items()} if named else {}  # type: ignore[attr-defined]
    return {key: value for key, value in found.items() if np.isfinite(value)}


def reference(row: Row) -> str | None:
    """The baseline that a row's skill is measured against."""
    return next((name for name in REFERENCES if name in baseline_errors(row)), None)


def skill(row: Row) -> float:
    """``1 - RMSE^2 / RMSE^2_Wiener``: 1 is perfect, 0 no better than linear, below 0 worse; nan where unknown."""
    name = reference(row)
    wiener = baseline_errors(row)[name] if name else float("nan")
    return float(1.0 - finite(row.get("rmse")) ** 2 / wiener**2) if wiener > 0 else float("nan")


def coverage_90(row: Row) -> float:
    """Coverage of the 90 % interval, 0-1."""
    return finite(within(row, "coverage", "90"))


def coverage_in_domain(row: Row) -> float:
    """Coverage of the 90 % interval over the pixels that the model did not refuse."""
    return finite(within(row, "coverage_in_domain", "90"))


def by_tier(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by tier, in the order in which tiers first appear."""
    tiers: dict[str, list[Row]] = {}
    for row in rows:
        tiers.setdefault(str(row.get("tier", "")), []).append(row)
    return tiers
