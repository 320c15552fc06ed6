"""The states of a scene and the moves between them: the one table that decides what may happen.

A scene is *discovered* by a watcher and *claimed* by one worker, which holds it by a lease. While the worker computes,
the scene is *processing*. It ends *published*, or *rejected* by a gate. An error makes it *failed*: tried again after
a pause when the cause may pass, until its attempts are used up and it is *quarantined*, as is what can never work. A
lease that ends returns a claimed or processing scene to *discovered*: that is how a dead worker is noticed. A
published scene becomes *superseded* when a newer processing of the same acquisition is published over its region.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class SceneState(StrEnum):
    """Where a scene stands."""

    DISCOVERED = "discovered"
    CLAIMED = "claimed"
    PROCESSING = "processing"
    PUBLISHED = "published"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"


_S = SceneState
_ENDS: Final = (_S.REJECTED, _S.FAILED, _S.QUARANTINED, _S.SUPERSEDED)
"""How work on a scene can end without a product."""

MOVES: Final[Mapping[SceneState, frozenset[SceneState]]] = MappingProxyType(
    {
        _S.DISCOVERED: frozenset({_S.CLAIMED, _S.SUPERSEDED}),
        _S.CLAIMED: frozenset({_S.PROCESSING, *_ENDS, _S.DISCOVERED}),
        _S.PROCESSING: frozenset({_S.PUBLISHED, *_ENDS, _S.DISCOVERED}),
        _S.FAILED: frozenset({_S.CLAIMED, _S.SUPERSEDED}),
        _S.PUBLISHED: frozenset({_S.SUPERSEDED}),
        _S.REJECTED: frozenset({_S.CLAIMED, _S.SUPERSEDED}),
        _S.QUARANTINED: frozenset({_S.CLAIMED, _S.SUPERSEDED}),
        _S.SUPERSEDED: frozenset(),
    }
)
"""From each state, the states that may follow. Rejected and quarantined scenes can be claimed again by hand."""

HELD: Final = frozenset({_S.CLAIMED, _S.PROCESSING})
"""States in which one worker holds the scene by a lease."""


class IllegalMove(RuntimeError):
    """A move that the table does not have: a defect in the caller, never a matter of timing."""

    transient = False


def check_move(before: SceneState, after: SceneState) -> None:
    """Raise `IllegalMove` when the table has no such move."""
    if after not in MOVES[before]:
        allowed = ", ".join(sorted(MOVES[before])) or "nothing"
        raise IllegalMove(f"a {before} scene cannot become {after}; allowed: {allowed}")
