"""Keep a claim alive while a scene is worked on, and notice when it was lost."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Self

from catalog.ledger import ClaimLost

if TYPE_CHECKING:
    from datetime import timedelta

    from catalog.ledger import Claim, Ledger

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews a claim's lease from a thread of its own until closed.

    The worker calls `check` between steps: a worker that lost its claim must stop, for another may hold it already.
    Publishing is conditional on the claim anyway; stopping early only saves work.
    """

    def __init__(self, ledger: Ledger, claim: Claim, *, lease: timedelta, every_seconds: float) -> None:
        self._ledger, self._claim, self._lease, self._every = ledger, claim, lease, every_seconds
        self._closing = threading.Event()
        self._lost: ClaimLost | None = None
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{claim.scene_id}", daemon=True)

    def check(self) -> None:
        """Raise `ClaimLost` when a renewal found the claim gone."""
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._closing.wait(self._every):
            try:
                self._ledger.heartbeat(self._claim, self._lease)
            except ClaimLost as error:
                self._lost = error
                return
            except Exception:
                # A database that is away for a moment must not end the work: the lease outlasts several beats.
                logger.warning("heartbeat of scene %d failed; trying again", self._claim.scene_id, exc_info=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=10)
