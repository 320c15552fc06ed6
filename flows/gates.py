"""Reject before computing: small named predicates, each a verdict with the measured value and its limit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import GateSettings, Region


class Verdict(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    REJECT = "reject"
    NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict on one scene."""

    gate: str
    verdict: Verdict
    measured: float | None
    """What was found, in `unit`; None when the scene does not say."""
    limit: float | None
    """The value that decides, in `unit`."""
    unit: str
    explanation: str
    """One sentence for people."""


@dataclass(frozen=True)
class SceneFacts:
    """What is known of a scene before the model sees it."""

    valid_fraction: float
    """Share of the product window with data in every band, 0-1."""
    cloud_fraction: float | None
    """Share of the window's valid pixels under cloud by the scene's own classes, 0-1; None without classes."""
    reported_cloud: float | None
    """Cloud fraction of the whole tile as the provider states it, 0-1."""
    sun_zenith: float | None
    """Mean sun zenith, degrees."""


def evaluate_gates(facts: SceneFacts, region: Region, limits: GateSettings) -> tuple[GateResult, ...]:
    """Judge a scene.

    Args:
        facts: What the scene and its metadata say.
        region: Carries the region's own cloud limit.
        limits: The operator's limits.

    Returns:
        One result per gate, in the order in which they are reported.
    """
    return (
        _valid_fraction(facts, limits.min_valid_fraction),
        _cloud(facts, region.cloud_limit),
        _sun(facts, limits.max_sun_zenith),
    )


def first_rejection(results: Iterable[GateResult]) -> GateResult | None:
    """Return the first gate that rejects, or None."""
    return next((result for result in results if result.verdict is Verdict.REJECT), None)


def _valid_fraction(facts: SceneFacts, limit: float) -> GateResult:
    measured = facts.valid_fraction
    rejected = measured < limit or measured == 0
    verdict = Verdict.REJECT if rejected else Verdict.PASS
    said = f"{measured:.1%} of the product window has data in every band; at least {limit:.1%} is asked for"
    return GateResult("valid_fraction", verdict, measured, limit, "1", said)


def _cloud(facts: SceneFacts, limit: float) -> GateResult:
    if facts.cloud_fraction is None:
        said = "the scene carries no classes, so cloud over the window is not known"
        if facts.reported_cloud is not None:
            said += f"; the provider reports {facts.reported_cloud:.1%} for its whole tile"
        return GateResult("cloud", Verdict.NOT_EVALUATED, None, limit, "1", said)
    measured = facts.cloud_fraction
    verdict = Verdict.REJECT if measured > limit else Verdict.PASS
    said = f"{measured:.1%} of the window's valid pixels are under cloud; the region accepts up to {limit:.1%}"
    return GateResult("cloud", verdict, measured, limit, "1", said)


def _sun(facts: SceneFacts, limit: float) -> GateResult:
    if facts.sun_zenith is None:
        said = "the metadata state no sun angle"
        return GateResult("sun_zenith", Verdict.NOT_EVALUATED, None, limit, "deg", said)
    verdict = Verdict.REJECT if facts.sun_zenith > limit else Verdict.PASS
    said = f"the sun stood {facts.sun_zenith:.1f} degrees from the zenith; up to {limit:.1f} is accepted"
    return GateResult("sun_zenith", verdict, facts.sun_zenith, limit, "deg", said)
