"""What is particular to each live service: where it is, what it is asked for, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class PublicationQuery(StrEnum):
    """How a service is asked for what is new."""

    QUERY_UPDATED = "query updated"
    """STAC ``query`` extension on ``updated``; Earth Search silently ignores ``filter``."""
    FILTER_PUBLISHED = "filter published"
    """CQL2-JSON ``filter`` on ``published``."""
    FILTER_GENERATED = "filter s2:generation_time"
    """CQL2-JSON ``filter`` on the generation time: Planetary Computer's items carry no publication time."""


@dataclass(frozen=True)
class Service:
    """One live STAC API."""

    url: str
    """Address of the API, without trailing slash."""
    collection: str
    """Collection asked for unless the settings name another."""
    publication: PublicationQuery
    asset_hosts: tuple[str, ...]
    """HTTPS hosts and S3 buckets that its assets may lie on."""
    look_back: timedelta = timedelta(0)
    """How much further back than asked it is searched, because its times are not publication times."""
    s3_endpoint: str | None = None
    """Endpoint of its ``s3://`` assets where that is not AWS."""
    sign_url: str | None = None
    """Endpoint that hands out read tokens, where its files need them."""


SERVICES: Final[Mapping[str, Service]] = MappingProxyType(
    {
        "earth_search": Service(
            url="https://earth-search.aws.element84.com/v1",
            collection="sentinel-2-c1-l2a",
            publication=PublicationQuery.QUERY_UPDATED,
            asset_hosts=(
                "sentinel-cogs.s3.us-west-2.amazonaws.com",
                "e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com",
                "sentinel-cogs",
                "e84-earth-search-sentinel-data",
            ),
        ),
        "planetary_computer": Service(
            url="https://planetarycomputer.microsoft.com/api/stac/v1",
            collection="sentinel-2-l2a",
            publication=PublicationQuery.FILTER_GENERATED,
            asset_hosts=("sentinel2l2a01.blob.core.windows.net",),
            look_back=timedelta(days=14),
            sign_url="https://planetarycomputer.microsoft.com/api/sas/v1/token",
        ),
        "cdse": Service(
            url="https://stac.dataspace.copernicus.eu/v1",
            collection="sentinel-2-l2a",
            publication=PublicationQuery.FILTER_PUBLISHED,
            asset_hosts=("eodata",),
            s3_endpoint="https://eodata.dataspace.copernicus.eu",
        ),
    }
)
"""By the settings' ``kind``."""

OPEN_HOSTS: Final = SERVICES["earth_search"].asset_hosts
"""Hosts and buckets that anyone may read; items of a folder may point there too."""
