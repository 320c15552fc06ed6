"""What operators do to single scenes: one function behind the CLI's verbs and the deployments of the Prefect UI."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from catalog.states import SceneState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog.ledger import Ledger


class Intervention(StrEnum):
    """What an operator may ask for."""

    RETRY = "retry"
    """Make a failed or rejected scene again now, whatever its pause or limits said."""
    RELEASE = "release"
    """Let a scene out of quarantine: its cause is removed."""
    REJECT = "reject"
    """Be done with a scene that is not wanted."""
    SUPERSEDE = "supersede"
    """Be done with a scene that another one stands for."""


_TARGETS: Final[Mapping[Intervention, tuple[SceneState, frozenset[SceneState] | None]]] = MappingProxyType(
    {
        Intervention.RETRY: (SceneState.DISCOVERED, frozenset({SceneState.FAILED, SceneState.REJECTED})),
        Intervention.RELEASE: (SceneState.DISCOVERED, frozenset({SceneState.QUARANTINED})),
        Intervention.REJECT: (SceneState.REJECTED, None),
        Intervention.SUPERSEDE: (SceneState.SUPERSEDED, None),
    }
)
"""Where each leads, and from which states beyond what the table of moves allows."""


def intervene(
    ledger: Ledger, scene_id: int, what: Intervention, *, reason: str, actor: str, dry_run: bool = False
) -> str:
    """Do one thing to one scene, as `catalog.states.BY_HAND` allows.

    Args:
        ledger: The ledger.
        scene_id: The scene's number in it.
        what: What is asked for.
        reason: Why, for the history; a rejection tells it to people.
        actor: Who asks.
        dry_run: Only see whether it can be done.

    Returns:
        What was, or would be, done; one line.

    Raises:
        UnknownScene: no such scene.
        NotMovable: the scene stands where this does not apply.
    """
    after, of = _TARGETS[what]
    row = ledger.intervene(scene_id, after, actor=actor, why=f"{what}: {reason}", of=of, dry_run=dry_run)
    verb = "would become" if dry_run else "is now"
    return f"scene {scene_id} {row.tile} {row.sensed:%Y-%m-%d} {row.region} was {row.state} and {verb} {after}"
