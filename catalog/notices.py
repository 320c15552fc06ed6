"""What becomes of a notification that a source has something new: the answer of whoever looks it up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class NoticeOutcome(StrEnum):
    """How the look-up ended."""

    RECORDED = "recorded"
    """The source confirms it; the ledger has it, now or since before."""
    ELSEWHERE = "elsewhere"
    """The source confirms it, but it lies over none of the regions."""
    UNKNOWN_SOURCE = "unknown source"
    NO_SUCH_ITEM = "no such item"
    """The source has nothing of that name."""
    UNREADABLE = "unreadable"
    """The source's item, or its answer, cannot be understood."""
    UNAVAILABLE = "unavailable"
    """The source does not answer; the notification may be sent again."""


@dataclass(frozen=True)
class Notice:
    """What became of one notification."""

    outcome: NoticeOutcome
    said: str
    """For whoever sent it; names no address and no secret."""
    deliveries: tuple[tuple[int, str], ...] = ()
    """Scene and what the ledger made of the delivery, for each region that the item lies over."""


class TakesNotices(Protocol):
    """Looks a notified item up at its source and writes what the source says into the ledger."""

    def __call__(self, source: str, item_id: str) -> Notice:
        """Take one notification; nothing of it but the two names is believed."""
        ...
