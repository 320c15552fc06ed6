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
from typing import TYPE_CHECKING, ClassVar, Final

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
_STOPPED: Final = "its lease ended (the worker died or lost the database), or the worker was asked to stop"
_GATE: Final = "a gate refused it, with the measured value and the limit"
_MAY_GO: Final = "an error that may pass; it is due again after a pause that grows with every attempt"
_REPEATS: Final = "an error that repeats for ever, or the last of its attempts"
_REPLACED: Final = "a newer processing of the same acquisition was published"
_ENDS: Final = {
    # How work on a scene can end without a product.
    _S.REJECTED: _GATE,
    _S.FAILED: _MAY_GO,
    _S.QUARANTINED: _REPEATS,
    _S.SUPERSEDED: _REPLACED,
    _S.DISCOVERED: _STOPPED,
}

MOVES: Final[Mapping[SceneState, Mapping[SceneState, str]]] = MappingProxyType(
    {
        _S.DISCOVERED: {_S.CLAIMED: "a worker takes it", _S.SUPERSEDED: _REPLACED},
        _S.CLAIMED: {_S.PROCESSING: "the worker knows what it will produce and begins", **_ENDS},
        _S.PROCESSING: {_S.PUBLISHED: "everybody sees the product", **_ENDS},
        _S.FAILED: {_S.CLAIMED: "its pause is over, or someone asks for it", _S.SUPERSEDED: _REPLACED},
        _S.REJECTED: {_S.CLAIMED: "someone asks for it again, with other limits", _S.SUPERSEDED: _REPLACED},
        _S.QUARANTINED: {_S.CLAIMED: "someone asks for it again, the cause removed", _S.SUPERSEDED: _REPLACED},
        _S.PUBLISHED: {_S.SUPERSEDED: _REPLACED},
        _S.SUPERSEDED: {},
    }
)
"""From each state the states that may follow, and when."""

HELD: Final = frozenset({_S.CLAIMED, _S.PROCESSING})
"""States in which one worker holds the scene by a lease."""

CLAIMABLE: Final = frozenset(state for state, moves in MOVES.items() if _S.CLAIMED in moves)
"""States from which a worker may take a scene: discovered and failed ones by themselves, the others by hand."""


class IllegalMove(RuntimeError):
    """A move that the table does not have: a defect in the caller, never a matter of timing."""

    transient: ClassVar[bool] = False


def check_move(before: SceneState, after: SceneState) -> None:
    """Raise `IllegalMove` when the table has no such move."""
    if after not in MOVES[before]:
        allowed = ", ".join(sorted(MOVES[before])) or "nothing"
        raise IllegalMove(f"a {before} scene cannot become {after}; allowed: {allowed}")
