"""One letter for people in a hurry, with the reasons that make it: never better than what was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flows.gates import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flows.gates import GateResult

GRADES: Final = ("A", "B", "C", "D")
"""A: use it; B: use it after reading why; C: large parts are doubtful; D: do not use without inspection."""

_LIMITS: Final[tuple[tuple[str, str, tuple[float, float, float]], ...]] = (
    # quality number, words, largest value for A, B and C
    ("out_of_domain_fraction", "{:.0%} of the valid pixels are unlike the training spectra", (0.10, 0.30, 0.60)),
    ("low_consistency_fraction", "{:.1%} of the valid pixels disagree with the source bands", (0.01, 0.05, 0.20)),
    ("missing_fraction", "{:.0%} of the window has no data", (0.10, 0.50, 0.90)),
)


@dataclass(frozen=True)
class Grade:
    """The letter and its reasons."""

    letter: str
    reasons: tuple[str, ...]
    """Every reason for not being an A, in words."""


def grade(quality: Mapping[str, float], gates: Iterable[GateResult]) -> Grade:
    """Grade a product from its quality numbers and its gates.

    Args:
        quality: The model's quality numbers plus ``missing_fraction``.
        gates: The gates' results; one that was not evaluated caps the grade at B.

    Returns:
        The worst letter that any number or cap asks for.
    """
    worst, reasons = 0, []
    for name, words, limits in _LIMITS:
        value = quality[name]
        step = sum(value > limit for limit in limits)
        if step:
            reasons.append(words.format(value))
        worst = max(worst, step)
    blind = [gate.gate for gate in gates if gate.verdict is Verdict.NOT_EVALUATED]
    if blind:
        reasons.append(f"capped at B: not evaluated: {', '.join(blind)}")
        worst = max(worst, 1)
    return Grade(GRADES[worst], tuple(reasons))
