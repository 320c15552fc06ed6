"""Everything an operator sets, checked once at start: every problem is reported, not only the first.

Settings come from, strongest first: environment variables (``EXPLAINS2A_STORAGE__URL=...``), a ``.env`` file beside the
TOML file, the TOML file named by ``EXPLAINS2A_CONFIG`` (default ``explains2a.toml`` in the working directory), and the
defaults below. Relative paths are taken from the TOML file's folder.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon, Polygon, shape

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_VARIABLE = "EXPLAINS2A_CONFIG"
"""Environment variable that names the TOML file."""

_PREFIX = "EXPLAINS2A_"
_MAX_REGION_FILE_BYTES = 16 * 1024 * 1024
_SLUG = r"^[a-z0-9][a-z0-9_-]{0,62}$"


def config_file() -> Path:
    """The TOML file in use, absolute; it need not exist unless the environment names it."""
    return Path(os.environ.get(CONFIG_VARIABLE, "explains2a.toml")).expanduser().resolve()


def env_file() -> Path:
    """The ``.env`` file that is read, beside the TOML file; it need not exist."""
    return config_file().parent / ".env"


def _absolute(path: Path) -> Path:
    """Take a relative path as the operator meant it: from the folder of the TOML file."""
    return (config_file().parent / path.expanduser()).resolve()


AnyPath = Annotated[Path, AfterValidator(_absolute)]


class SettingsInvalid(ValueError):
    """The settings cannot be used; the message lists every problem, one per line."""

    transient: ClassVar[bool] = False


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(_Part):
    """Where product files are written and how to reach them."""

    url: str = Field(default="", description="file:///folder or s3://bucket/prefix; empty: 'products' in the home")
    endpoint_url: str | None = Field(default=None, description="S3 endpoint other than AWS's own, http(s)://host:port")
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    region: str | None = Field(default=None, description="S3 region name")
    part_size: int = Field(
        default=8 * 1024 * 1024,
        ge=5 * 1024 * 1024,
        le=1024**3,
        description="multipart size, bytes; each file of a product holds one part",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url and not url.startswith(("file:///", "s3://")):
            msg = f"storage url is {url!r}; expected file:///absolute/folder or s3://bucket/prefix"
            raise ValueError(msg)
        return url.rstrip("/")

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            msg = "storage access_key and secret_key belong together: set both or neither"
            raise ValueError(msg)
        return self


class _Source(_Part):
    name: str = Field(pattern=_SLUG, description="how this source is called in the ledger and in logs")
    wait_hours: float = Field(
        default=0.0, ge=0, le=24 * 365,
        description="what sources before this one in the list may still deliver is left to them for so long after its "
        "publication; at once while one of them is silent",
    )  # fmt: skip


class FolderSourceSettings(_Source):
    """A folder of STAC items (``*.json``); assets may be relative to the folder."""

    kind: Literal["folder"] = "folder"
    path: AnyPath


class SafeSourceSettings(_Source):
    """A folder that holds Sentinel-2 L2A ``*.SAFE`` product folders."""

    kind: Literal["safe"] = "safe"
    path: AnyPath


class StacSourceSettings(_Source):
    """A live STAC API: Earth Search v1, Planetary Computer or the Copernicus Data Space."""

    kind: Literal["earth_search", "planetary_computer", "cdse"]
    url: str | None = Field(default=None, description="API address; empty: the service's own")
    collection: str | None = Field(default=None, description="collection id; empty: the service's usual one")
    page_size: int = Field(default=100, ge=1, le=1000)
    timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    max_attempts: int = Field(
        default=5, ge=1, le=20, description="tries per request on 429, 5xx and broken connections"
    )
    asset_hosts: tuple[str, ...] = Field(
        default=(), description="hosts and S3 buckets that assets may lie on besides the service's own"
    )
    sign_url: str | None = Field(default=None, description="SAS signing endpoint (Planetary Computer); empty: its own")
    s3_endpoint_url: str | None = Field(default=None, description="endpoint for s3:// assets (Copernicus Data Space)")
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    requester_pays: bool = False
    api_token: SecretStr | None = Field(
        default=None, description="bearer token for the API itself; sent to its own host only, never to files"
    )


SourceSettings = Annotated[FolderSourceSettings | SafeSourceSettings | StacSourceSettings, Field(discriminator="kind")]


class Reprocessing(StrEnum):
    """What follows when a source delivers an acquisition again in a newer baseline or generation."""

    IGNORE = "ignore"
    """Nothing, once a product exists or is being made, or a gate has refused it."""
    REPROCESS = "reprocess"
    """It is made again; the new product replaces the old one."""
    IF_QUALITY_DIFFERS = "if-quality-differs"
    """As `REPROCESS`, but only where what the provider says of the quality has changed."""


class Region(_Part):
    """One area an operator cares about."""

    id: str = Field(pattern=_SLUG)
    geometry: dict[str, Any] = Field(description="GeoJSON Polygon or MultiPolygon, WGS 84 degrees")
    title: str = ""
    cloud_limit: float = Field(default=0.6, ge=0, le=1, description="largest accepted cloud fraction, 0-1")
    crop: bool = Field(default=True, description="limit the product to region and tile instead of the whole tile")
    reprocessing: Reprocessing = Field(
        default=Reprocessing.REPROCESS,
        description="ignore, reprocess or if-quality-differs: what newer revisions cause",
    )

    @field_validator("geometry")
    @classmethod
    def _usable_area(cls, geometry: dict[str, Any]) -> dict[str, Any]:
        try:
            area = shape(geometry)
        except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            msg = f"geometry is not GeoJSON: {error}"
            raise ValueError(msg) from error
        if not isinstance(area, Polygon | MultiPolygon) or area.is_empty:
            msg = f"geometry is {geometry.get('type')!r}; expected a non-empty Polygon or MultiPolygon"
            raise ValueError(msg)
        west, south, east, north = area.bounds
        if west < -180 or east > 180 or south < -90 or north > 90:
            msg = f"geometry reaches ({west}, {south}, {east}, {north}); expected longitude and latitude in degrees"
            raise ValueError(msg)
        if not area.is_valid:
            msg = "geometry crosses itself; repair it (for instance with shapely.make_valid) and try again"
            raise ValueError(msg)
        return geometry


class GateSettings(_Part):
    """Limits beyond which a scene is rejected before the model sees it."""

    min_valid_fraction: float = Field(default=0.05, ge=0, le=1, description="of the product window's pixels")
    max_sun_zenith: float = Field(default=75.0, gt=0, le=90, description="degrees")


class ProductSettings(_Part):
    """Which files a product has; only what changes pixels enters the product revision."""

    hsi: bool = Field(default=True, description="write the 172-band file; off: compact only")
    explanation: bool = True
    residual: bool = True


class ProcessingSettings(_Part):
    """How a worker treats one scene."""

    lease_seconds: int = Field(default=300, ge=5, le=86400, description="a claim not renewed for this long is lost")
    heartbeat_seconds: int = Field(default=30, ge=1, le=3600)
    max_attempts: int = Field(default=5, ge=1, le=100, description="transient failures before quarantine")
    threads: int = Field(default=2, ge=1, le=256, description="threads that compress and read")
    look_back_hours: float = Field(default=72, ge=0, description="the watcher asks again for this long before its mark")
    first_look_back_days: float = Field(default=30, ge=0, description="how far the first watch of a source looks back")
    late_hours: float = Field(
        default=24, gt=0, description="from sensing to publication; later deliveries count as late"
    )
    withdrawn_after_hours: float = Field(
        default=48, ge=0, description="a delivery that its source has not shown for so long counts as withdrawn"
    )

    @model_validator(mode="after")
    def _heartbeat_within_lease(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            msg = (
                f"heartbeat_seconds is {self.heartbeat_seconds} and lease_seconds {self.lease_seconds}; "
                "the heartbeat must fit at least twice into the lease"
            )
            raise ValueError(msg)
        return self


class ApiSettings(_Part):
    """The catalog's own web server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=1, le=65535)
    workers: int | None = Field(
        default=None, ge=1, le=64, description="processes that answer side by side; empty: by processors and database"
    )
    public_url: str | None = Field(default=None, description="the catalog's address in links from the Prefect UI")
    title: str = "ExplainS2A catalog"
    search_seconds: float = Field(default=10.0, gt=0, le=300, description="a search that takes longer is ended")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="of a posted request")
    cors_origins: tuple[str, ...] = Field(default=("*",), description="sites whose pages may read the catalog; *: all")
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="that one client address may send; empty: as many as it likes"
    )
    asset_links: Literal["stored", "https", "signed"] = Field(
        default="stored", description="how items name their files: as stored, below asset_url, or signed for a while"
    )
    asset_url: str | None = Field(default=None, description="https address under which the store's files are read")
    signed_seconds: int = Field(default=3600, ge=60, le=604800, description="how long a signed link can be read, s")
    push_token: SecretStr | None = Field(
        default=None, min_length=16, description="bearer token of /notifications; empty: the push door is closed"
    )
    push_per_minute: int = Field(default=60, ge=1, description="notifications that one client address may send")


class PrefectSettings(_Part):
    """Where operators watch."""

    ui_url: str = Field(default="http://127.0.0.1:4200", description="address of the Prefect UI, for links")
    concurrency: int = Field(default=2, ge=1, le=64, description="scenes processed at once by `explains2a up`")


class _OwnDotEnv(DotEnvSettingsSource):
    """A ``.env`` file that other programs may share: only our own variables are read."""

    def _read_env_files(self) -> Mapping[str, str | None]:
        own = _PREFIX.lower()
        found = super()._read_env_files().items()
        return {k: v for k, v in found if k.lower().startswith(own) and k.upper() != CONFIG_VARIABLE}


class Settings(BaseSettings):
    """The whole tree. Build it with `load_settings`, which reports every problem at once."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    home: AnyPath = Field(
        default=Path("explains2a-data"), description="folder of the database and files on a single machine"
    )
    database_url: SecretStr = Field(
        default=SecretStr(""), description="SQLAlchemy URL (sqlite or postgresql+psycopg); empty: SQLite in the home"
    )
    storage: StorageSettings = StorageSettings()
    regions_file: AnyPath | None = Field(
        default=None, description="GeoJSON FeatureCollection; each feature is a region"
    )
    sources: tuple[SourceSettings, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    model_path: AnyPath | None = Field(default=None, description="folder of other weights than the shipped ones")
    gates: GateSettings = GateSettings()
    product: ProductSettings = ProductSettings()
    processing: ProcessingSettings = ProcessingSettings()
    api: ApiSettings = ApiSettings()
    prefect: PrefectSettings = PrefectSettings()
    log_format: Literal["text", "json"] = Field(
        default="text", description="of what processes write to their standard error: for people, or one object a line"
    )
    collection_id: str = Field(default="explains2a-l3-hsi", pattern=_SLUG)
    provider_name: str = Field(default="ExplainS2A operator", description="named as producer in the collection")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours reads only our own variables
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook has this signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file behind the environment."""
        own = _OwnDotEnv(settings_cls, env_file=env_file())
        toml = TomlConfigSettingsSource(settings_cls, config_file())
        return init_settings, env_settings, own, toml

    @field_validator("sources")
    @classmethod
    def _distinct_names(cls, sources: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [source.name for source in sources]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            msg = f"source names must differ; used more than once: {', '.join(doubled)}"
            raise ValueError(msg)
        return sources

    @field_validator("regions_file")
    @classmethod
    def _readable_regions(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_regions(path)
        return path

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of `regions_file`; none when no file is set."""
        return read_regions(self.regions_file) if self.regions_file else ()

    @property
    def resolved_database_url(self) -> str:
        """The database to use, SQLite in the home unless set."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'catalog.db'}"

    @property
    def resolved_storage(self) -> StorageSettings:
        """The store to use, a folder in the home unless set."""
        if self.storage.url:
            return self.storage
        return self.storage.model_copy(update={"url": (self.home / "products").as_uri()})

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without a heartbeat."""
        return timedelta(seconds=self.processing.lease_seconds)


def read_regions(path: Path) -> tuple[Region, ...]:
    """Read regions from a GeoJSON FeatureCollection.

    Args:
        path: File whose features carry ``id`` (or a property of that name) and may carry ``title``, ``cloud_limit``,
            ``crop`` and ``reprocessing``.

    Returns:
        The regions in file order.

    Raises:
        ValueError: the file is missing, is not GeoJSON or holds an unusable region; every problem is named.
    """
    try:
        if path.stat().st_size > _MAX_REGION_FILE_BYTES:
            msg = f"regions file {path} is larger than {_MAX_REGION_FILE_BYTES} bytes; simplify its outlines"
            raise ValueError(msg)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"regions file {path} cannot be read: {error.strerror}"
        raise ValueError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"regions file {path} is not JSON: {error}"
        raise ValueError(msg) from error
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or not features:
        msg = f"regions file {path} holds no features; expected a GeoJSON FeatureCollection with at least one"
        raise ValueError(msg)
    regions, problems = [], []
    for position, feature in enumerate(features):
        try:
            regions.append(_region(feature))
        except (ValidationError, ValueError) as error:
            problems.append(f"feature {position}: {_one_line(error)}")
    ids = [region.id for region in regions]
    problems += [f"region id {name!r} is used more than once" for name in sorted({i for i in ids if ids.count(i) > 1})]
    if problems:
        raise ValueError(f"regions file {path}: " + "; ".join(problems))
    return tuple(regions)


def _region(feature: object) -> Region:
    if not isinstance(feature, dict):
        msg = "not a GeoJSON feature"
        raise ValueError(msg)  # noqa: TRY004 - reported with the other problems of the file
    properties = feature.get("properties") or {}
    known = {key: properties[key] for key in ("title", "cloud_limit", "crop", "reprocessing") if key in properties}
    identifier = feature.get("id", properties.get("id"))
    return Region(id=identifier, geometry=feature.get("geometry"), **known)


def _one_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
    return str(error)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings and refuse them with one message per problem.

    Args:
        **overrides: Fields that win over every other place, as the command line's options do.

    Returns:
        The settings, frozen.

    Raises:
        SettingsInvalid: at least one problem; none of the message's lines holds a secret.
    """
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        raise SettingsInvalid(f"{CONFIG_VARIABLE} names {config_file()}, which is not a file")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SettingsInvalid("\n".join(lines)) from None
    except ValueError as error:  # the TOML file does not parse, an environment variable is not JSON
        raise SettingsInvalid(str(error)) from error
