"""What the ledger is told and what it tells, as plain values, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from infra.settings import Reprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from catalog.states import SceneState


class UnknownScene(LookupError):
    """The ledger has no scene of that number."""

    transient: ClassVar[bool] = False


class NotClaimable(RuntimeError):
    """Another worker holds the scene, or it is finished."""

    transient: ClassVar[bool] = False

    def __init__(self, scene_id: int, state: SceneState) -> None:
        super().__init__(
            f"scene {scene_id} is {state}; it can be claimed when discovered, failed, rejected or quarantined, or when "
            "the lease of its worker has ended"
        )
        self.scene_id = scene_id
        self.state = state


class NotMovable(RuntimeError):
    """A scene stands where the wanted action does not apply: a worker holds it, or it is done with."""

    transient: ClassVar[bool] = False

    def __init__(self, scene_id: int, state: SceneState, wanted: SceneState, allowed: Iterable[SceneState]) -> None:
        super().__init__(
            f"scene {scene_id} is {state}; it can be made {wanted} by hand when {' or '.join(sorted(allowed))}"
        )
        self.scene_id = scene_id
        self.state = state


class ClaimLost(RuntimeError):
    """The claim's lease ended or another worker holds the scene; stop and leave it to them."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Discovery:
    """One delivery by one source, as a watcher saw it."""

    acquisition: str
    """Stable id of the acquisition."""
    region: str
    source: str
    """Name of the source in the settings."""
    source_item_id: str
    platform: str
    tile: str
    sensed: datetime
    """Sensing start, aware."""
    baseline: str
    """Processing baseline such as ``05.11``; empty when unknown."""
    generated: datetime | None
    """Generation time of the source product, aware."""
    published: datetime | None
    """When the source made it available, aware."""
    source_item: dict[str, Any]
    """The STAC item, enough to open the scene again."""
    policy: Reprocessing = Reprocessing.REPROCESS
    """What the region wants to follow from a newer revision."""
    preferred_to: frozenset[str] = frozenset()
    """Sources that this delivery's source comes before."""
    area: dict[str, Any] | None = None
    """The region's geometry, within which two stations' deliveries are compared; None: their whole footprints are."""
    stamp: str = ""
    """Changes whenever what the item says of its revision does; empty: unknown."""
    as_part: Callable[[int], Discovery] | None = field(default=None, repr=False, compare=False)
    """Tells the same delivery as the acquisition's part of a number, from 2 on; None: it cannot be one."""

    @property
    def revision(self) -> tuple[str, str]:
        """Baseline, then generation time in whole seconds (services cut it differently); both order as text."""
        generated = self.generated.astimezone(UTC).replace(microsecond=0).isoformat() if self.generated else ""
        return self.baseline, generated

    @property
    def offered(self) -> datetime | None:
        """When the source made it available; where it does not say, the product's generation stands for it."""
        return self.published or self.generated


@dataclass(frozen=True)
class KnownDelivery:
    """A delivery that tells nothing new as long as its item has the same stamp."""

    stamps: frozenset[str]
    """More than one where an item was replaced in place."""
    sensed: datetime
    offered: datetime | None
    """When the source made it available, or when it was generated."""


DeliveryOutcome = Literal[
    "new", "known", "duplicate", "reprocessing", "outdated", "ignored", "unchanged", "covered", "part"
]

MAKES_SCENES: Final[frozenset[DeliveryOutcome]] = frozenset({"new", "reprocessing", "part"})
"""Outcomes after which there is a scene more."""


@dataclass(frozen=True)
class Discovered:
    """What the ledger made of one delivery."""

    scene_id: int
    outcome: DeliveryOutcome
    """``new``; ``known``: this very item was seen before; ``duplicate``: the same product from elsewhere;
    ``reprocessing``: a newer revision of a known acquisition, a scene of its own; ``outdated``: an older one, left;
    ``ignored``, ``unchanged``: a newer one, left because the region wants none, or none of the same quality;
    ``part``: another station's delivery with pixels that nobody has, a scene of its own; ``covered``: one without."""
    discovery: Discovery


@dataclass(frozen=True)
class Claim:
    """The right to work on a scene, until its lease ends."""

    scene_id: int
    token: str
    attempt: int
    """Counted from one."""
    actor: str
    """Who works, for the audit trail."""


@dataclass(frozen=True)
class SceneRow:
    """One scene of the ledger."""

    id: int
    acquisition: str
    region: str
    source: str
    source_item_id: str
    source_item: dict[str, Any]
    platform: str
    tile: str
    sensed: datetime
    baseline: str
    generated: datetime | None
    state: SceneState
    attempts: int
    next_attempt: datetime | None
    """When a failed scene is due again; None in every other state."""
    product_revision: str | None
    item_id: str | None
    reason: str | None
    error_class: str | None
    discovered_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Step:
    """One line of a scene's history."""

    at: datetime
    before: SceneState | None
    after: SceneState
    actor: str
    why: str | None
