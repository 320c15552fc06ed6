"""The states of a scene and the moves between them: the one table that decides what may happen.

A scene is *discovered* by a watcher and *claimed* by one worker, which holds it by a lease. While the worker computes,
the scene is *processing*. It ends *published*, or *rejected* by a gate. An error makes it *failed*: tried again after
a pause when the cause may pass, until its attempts are used up and it is *quarantined*, as is what can never work. A
lease that ends returns a claimed or processing scene to *discovered*: that is how a dead worker is noticed. A
published scene becomes *superseded* when a newer processing of the same acquisition is published over its region.

People may move what no worker holds: back to *discovered* to have it made (again), to *rejected* or to *superseded* to
be done with it. What was published is taken back to *discovered* only to be made anew; its product stays visible until
the next one replaces it.
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
_ASKED: Final = "an operator asks for it again, the cause removed or the limits changed; its attempts count from none"
_REFUSED: Final = "an operator refuses it, with a reason"
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
        _S.DISCOVERED: {_S.CLAIMED: "a worker takes it", _S.SUPERSEDED: _REPLACED, _S.REJECTED: _REFUSED},
        _S.CLAIMED: {_S.PROCESSING: "the worker knows what it will produce and begins", **_ENDS},
        _S.PROCESSING: {_S.PUBLISHED: "everybody sees the product", **_ENDS},
        _S.FAILED: {
            _S.CLAIMED: "its pause is over, or someone asks for it",
            _S.DISCOVERED: _ASKED,
            _S.REJECTED: _REFUSED,
            _S.SUPERSEDED: _REPLACED,
        },
        _S.REJECTED: {
            _S.CLAIMED: "someone asks for it again, with other limits",
            _S.DISCOVERED: _ASKED,
            _S.SUPERSEDED: _REPLACED,
        },
        _S.QUARANTINED: {
            _S.CLAIMED: "someone asks for it again, the cause removed",
            _S.DISCOVERED: _ASKED,
            _S.REJECTED: _REFUSED,
            _S.SUPERSEDED: _REPLACED,
        },
        _S.PUBLISHED: {
            _S.SUPERSEDED: _REPLACED,
            _S.DISCOVERED: "its files were lost or it is wanted from another model: it is made again",
        },
        _S.SUPERSEDED: {},
    }
)
"""From each state the states that may follow, and when."""

HELD: Final = frozenset({_S.CLAIMED, _S.PROCESSING})
"""States in which one worker holds the scene by a lease."""

CLAIMABLE: Final = frozenset(state for state, moves in MOVES.items() if _S.CLAIMED in moves)
"""States from which a worker may take a scene: discovered and failed ones by themselves, the others by hand."""


BY_HAND: Final[Mapping[SceneState, frozenset[SceneState]]] = MappingProxyType(
    {
        _S.DISCOVERED: frozenset({_S.FAILED, _S.REJECTED, _S.QUARANTINED, _S.PUBLISHED}),
        _S.REJECTED: frozenset({_S.DISCOVERED, _S.FAILED, _S.QUARANTINED}),
        _S.SUPERSEDED: frozenset({_S.DISCOVERED, _S.FAILED, _S.REJECTED, _S.QUARANTINED}),
    }
)
"""Of the moves above those that people make: to each state, from which ones. A worker's scene is never touched."""


class IllegalMove(RuntimeError):
    """A move that the table does not have: a defect in the caller, never a matter of timing."""

    transient: ClassVar[bool] = False


def check_move(before: SceneState, after: SceneState) -> None:
    """Raise `IllegalMove` when the table has no such move."""
    if after not in MOVES[before]:
        allowed = ", ".join(sorted(MOVES[before])) or "nothing"
        raise IllegalMove(f"a {before} scene cannot become {after}; allowed: {allowed}")
