"""Where acquisitions come from: every service, a folder or a SAFE product behind one interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, assert_never

from infra.settings import FolderSourceSettings, SafeSourceSettings, StacSourceSettings
from infra.sources.acquisition import (
    Acquisition,
    AcquisitionKey,
    Asset,
    SourceRevision,
    Unreadable,
    whole_acquisition,
)
from infra.sources.folder import FolderSource
from infra.sources.items import Passes, pass_nothing, revision_stamp
from infra.sources.safe import SafeSource
from infra.sources.stac_api import StacApiSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from infra.settings import Region, SourceSettings

__all__ = [
    "Acquisition",
    "AcquisitionKey",
    "AcquisitionSource",
    "Asset",
    "SourceRevision",
    "Unreadable",
    "open_source",
    "revision_stamp",
    "whole_acquisition",
]


class AcquisitionSource(Protocol):
    """Something that can be asked for what was published over a region."""

    name: str
    """Name of the source in the settings."""

    def search(
        self, region: Region, since: datetime, *, passes: Passes = pass_nothing
    ) -> Iterator[Acquisition | Unreadable]:
        """List what was published over a region since a time, page after page.

        Args:
            region: Where.
            since: Publication time to begin with, aware.
            passes: Asked with the id and the `revision_stamp` of an item before it is read, where that saves work;
                items for which it says yes are left out.

        Yields:
            Acquisitions, and `Unreadable` for items that cannot be understood: one bad item never stops the rest.

        Raises:
            SourceUnavailable: the source did not answer (transient).
            SourceAnswerInvalid: it answered with something else than STAC.
        """
        ...

    def find(self, item_id: str) -> Acquisition | None:
        """Look one item up by its id.

        Args:
            item_id: As `Acquisition.item_id`.

        Returns:
            What the source itself says of it, or None where it has no such item.

        Raises:
            SourceUnavailable: the source did not answer (transient).
            SourceAnswerInvalid: it answered with something else than the item asked for.
            ItemUnreadable: the item cannot be understood.
        """
        ...

    def restore(self, item: dict[str, Any]) -> Acquisition:
        """Rebuild an acquisition from the item kept in the ledger.

        Args:
            item: `Acquisition.item` as it was stored.

        Raises:
            ItemUnreadable: the item is not one of this source.
        """
        ...


def open_source(settings: SourceSettings) -> AcquisitionSource:
    """Open a source.

    Args:
        settings: One of the settings' sources.

    Returns:
        The source; nothing is asked before `search`.
    """
    match settings:
        case FolderSourceSettings():
            return FolderSource(settings)
        case SafeSourceSettings():
            return SafeSource(settings)
        case StacSourceSettings():
            return StacApiSource(settings)
        case _:
            assert_never(settings)
