"""Where the rooms are wired together: what a command or a flow run needs, opened from the settings once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from catalog.ledger import Ledger, SceneState
from catalog.publishing import published_item
from catalog.releases import model_in_force
from catalog.session import Database, connect, migrate
from infra.settings import load_settings
from infra.sources import open_source
from infra.storage import open_store
from model.card import load_card

if TYPE_CHECKING:
    from catalog.ledger import SceneRow
    from infra.settings import Region, Settings, SourceSettings
    from infra.sources import AcquisitionSource
    from infra.storage import ObjectStore
    from model.duality import SpectralModel


class UnknownName(LookupError):
    """The ledger names a region or source that the settings no longer have."""

    transient: ClassVar[bool] = False


class WeightsChanged(RuntimeError):
    """The weights in force are not those that were promoted."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Assembly:
    """The parts of a running system. Use `assemble` to open one."""

    settings: Settings
    database: Database
    ledger: Ledger
    store: ObjectStore

    @cached_property
    def model_path(self) -> Path | None:
        """Folder of the weights in force: those promoted last, else the settings'; None for the shipped ones.

        Raises:
            WeightsChanged: what lies there now is not what was promoted.
        """
        release = model_in_force(self.database)
        if release is None:
            return self.settings.model_path
        path = Path(release.path) if release.path else None
        found = load_card(path).digest
        if found != release.digest:
            raise WeightsChanged(
                f"{release.path or 'the shipped weights'} hold {found[:12]}, promoted was {release.digest[:12]} "
                f"({release.model}); put them back, or promote or roll back: explains2a model --help"
            )
        return path

    @cached_property
    def model(self) -> SpectralModel:
        """The model in force, loaded on first use and kept: one model per process."""
        from model.duality import load_model

        return load_model(self.model_path, self.settings.device)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The operator's regions, read once."""
        return self.settings.regions

    def region(self, name: str) -> Region:
        """Return a region by its id.

        Raises:
            UnknownName: the settings have no such region.
        """
        for region in self.regions:
            if region.id == name:
                return region
        known = ", ".join(region.id for region in self.regions) or "none"
        raise UnknownName(f"region {name!r} is not in the settings (known: {known}); add it back to the regions file")

    def source_settings(self, name: str) -> SourceSettings:
        """Return a source's settings by its name.

        Raises:
            UnknownName: the settings have no such source.
        """
        for source in self.settings.sources:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self.settings.sources) or "none"
        raise UnknownName(f"source {name!r} is not in the settings (known: {known}); add it back to the settings")

    def source(self, name: str) -> AcquisitionSource:
        """Open a source by its name."""
        return open_source(self.source_settings(name))

    def published_item(self, row: SceneRow) -> dict[str, Any] | None:
        """Return the item that a scene was published as, or None."""
        if row.item_id is None or row.state != SceneState.PUBLISHED:
            return None
        return published_item(self.database, self.settings.collection_id, row.item_id)

    def close(self) -> None:
        """Return the database's connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def assemble(settings: Settings | None = None) -> Assembly:
    """Open the database (brought to the newest schema) and the store.

    Args:
        settings: The settings; read from the environment when None.

    Returns:
        The parts, ready for use; close it when done.
    """
    settings = settings or load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    migrate(settings.resolved_database_url)
    database = connect(settings.resolved_database_url)
    return Assembly(
        settings,
        database,
        Ledger(database, max_attempts=settings.processing.max_attempts),
        open_store(settings.resolved_storage),
    )
