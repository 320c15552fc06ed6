"""Where a source's assets may lie, and how GDAL gets at them: everything else is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

import rasterio
from rasterio.session import Session

from infra.scene.errors import ForbiddenAsset
from infra.settings import FolderSourceSettings, SafeSourceSettings, StacSourceSettings
from infra.sources.services import OPEN_HOSTS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infra.settings import SourceSettings

_BASE_OPTIONS: Final[Mapping[str, Any]] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no side-car files: nothing but the file itself is looked at
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_NUM_THREADS": "1",  # with more, GDAL's JP2 threads lose decoding errors and leave zeros behind
    "GDAL_CACHEMAX": 128 * 1024 * 1024,  # bytes of decoded blocks; the default is a share of the machine
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds, doubled by GDAL after each try, with jitter
    "CPL_VSIL_CURL_USE_HEAD": "YES",
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsicurl?:/vsis3/",  # a failure must not be remembered beyond the open file
}

_SAFE_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]+")
"""Characters of a plain URL path; no escapes, spaces or control characters are needed by any service."""


@dataclass(frozen=True)
class Location:
    """An asset's address after it was found harmless."""

    path: str
    """What GDAL opens."""
    shown: str
    """What messages show; never holds a credential."""
    remote: bool
    """Whether reading it may fail for reasons that pass."""
    signed: bool = False
    """Whether it is read with a token that expires; a refusal may then pass, too."""


class _Keys(Session):  # type: ignore[misc]  # rasterio ships no types
    """S3 keys of a source, given to GDAL for the current thread and block only; without keys GDAL finds its own."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.credentials = dict(options)

    @classmethod
    def hascreds(cls, config: Mapping[str, Any]) -> bool:
        """Say that nothing has to be looked up elsewhere."""
        return "AWS_ACCESS_KEY_ID" in config

    def get_credential_options(self) -> dict[str, str]:
        """Return the options as GDAL names them."""
        return dict(self.credentials)


@dataclass(frozen=True)
class AssetAccess:
    """The places that one source's assets may lie in. Use `asset_access` to make one."""

    root: Path | None
    """Folder that local assets must lie below; None when the source has no local assets."""
    hosts: frozenset[str]
    """Hosts (``host`` or ``host:port``), ``http://host:port`` where plain http is meant, and S3 buckets."""
    options: Mapping[str, str] = field(default_factory=dict)
    """GDAL options beside the usual ones."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """GDAL options that are secret."""
    signed_collection: str = ""
    """Collection that read tokens are asked for; empty when files need none."""

    def environment(self) -> rasterio.Env:
        """Return GDAL's settings for a block of work in the current thread."""
        return rasterio.Env(session=_Keys(self.keys), **{**_BASE_OPTIONS, **self.options})

    def locate(self, href: str) -> Location:
        """Check an asset's address.

        Args:
            href: As the item gives it.

        Returns:
            Where GDAL finds it.

        Raises:
            ForbiddenAsset: it leads anywhere else than this source's places.
        """
        parts = _split(href)
        if parts.scheme in {"", "file"}:
            return self._local(href)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ForbiddenAsset(f"address on {parts.hostname!r} carries credentials or a query; expected a plain path")
        if not _SAFE_PATH.fullmatch(parts.path) or ".." in parts.path.split("/"):
            raise ForbiddenAsset(f"asset {href!r}: the path holds '..' or unusual characters")
        place = parts.netloc.lower() if parts.scheme in {"https", "s3"} else f"{parts.scheme}://{parts.netloc.lower()}"
        if place not in self.hosts:
            raise ForbiddenAsset(
                f"asset {href!r} lies on {place!r}, which this source may not use; add it to the source's "
                "asset_hosts if it is trusted"
            )
        if parts.scheme == "s3":
            return Location(f"/vsis3/{parts.netloc}{parts.path}", href, remote=True)
        return Location(self._curl(href), href, remote=True, signed=bool(self.signed_collection))

    def _curl(self, url: str) -> str:
        if not self.signed_collection:
            return f"/vsicurl/{url}"
        return f"/vsicurl?pc_url_signing=yes&pc_collection={self.signed_collection}&url={quote(url, safe='')}"

    def _local(self, href: str) -> Location:
        if self.root is None:
            raise ForbiddenAsset(f"asset {href!r} is a local path, but its source is a service on the network")
        parts = _split(href)
        if parts.netloc not in {"", "localhost"}:
            raise ForbiddenAsset(f"asset {href!r} names another machine; expected a path below {self.root}")
        root = self.root.resolve()
        try:
            path = (root / (unquote(parts.path) if parts.scheme else href)).resolve()
        except (OSError, ValueError) as error:  # a zero byte, a ring of links
            raise ForbiddenAsset(f"asset {href!r} is no path: {error}") from error
        if not path.is_relative_to(root):
            raise ForbiddenAsset(f"asset {href!r} leads outside the source's folder {self.root}")
        return Location(str(path), href, remote=False)


def asset_access(settings: SourceSettings) -> AssetAccess:
    """Return the places that a source's assets may lie in.

    Args:
        settings: The source.

    Returns:
        The access rules, with credentials inside.
    """
    if isinstance(settings, FolderSourceSettings):
        return AssetAccess(settings.path, frozenset(OPEN_HOSTS), {"AWS_NO_SIGN_REQUEST": "YES"})
    if isinstance(settings, SafeSourceSettings):
        return AssetAccess(settings.path, frozenset())
    service = SERVICES[settings.kind]
    sign_url = settings.sign_url or service.sign_url
    return AssetAccess(
        root=None,
        hosts=frozenset(host.lower() for host in (*service.asset_hosts, *settings.asset_hosts)),
        options=_s3_options(settings, service.s3_endpoint)
        | ({"VSICURL_PC_SAS_TOKEN_URL": f"{sign_url.rstrip('/')}/"} if sign_url else {}),
        keys=_keys(settings),
        signed_collection=(settings.collection or service.collection) if sign_url else "",
    )


def _s3_options(settings: StacSourceSettings, usual: str | None) -> dict[str, str]:
    options = {"AWS_REQUEST_PAYER": "requester"} if settings.requester_pays else {}
    if settings.access_key is None and not settings.requester_pays:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    endpoint = settings.s3_endpoint_url or usual
    if endpoint:
        parts = urlsplit(endpoint)
        options["AWS_S3_ENDPOINT"] = parts.netloc
        options["AWS_HTTPS"] = "NO" if parts.scheme == "http" else "YES"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    return options


def _keys(settings: StacSourceSettings) -> dict[str, str]:
    if settings.access_key is None or settings.secret_key is None:
        return {}
    return {
        "AWS_ACCESS_KEY_ID": settings.access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.secret_key.get_secret_value(),
    }


def _split(href: str) -> Any:
    if not href.isprintable():  # urlsplit would drop line breaks silently
        raise ForbiddenAsset(f"asset {href!r} holds control characters")
    try:
        return urlsplit(href)
    except ValueError as error:
        raise ForbiddenAsset(f"asset {href!r} is no address: {error}") from error
