"""How scenes, products, files and runs are called: every name is made here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from catalog.ledger import SceneRow
    from infra.settings import ProductSettings, Region
    from infra.sources.acquisition import Acquisition

PRODUCT_FORMAT: Final = "1"
"""Raised when the files of a product change their meaning for the same model, source and settings."""

_REVISION_DIGITS = 16

TOKEN_DIGITS: Final = 8
"""Digits of a claim's token in the name of its attempt's folder."""

_KEY: Final = re.compile(
    r"[0-9]{2}[A-Z]{3}/[0-9]{4}/[0-9]{2}/[^/]+"
    rf"/(?P<revision>[0-9a-f]{{{_REVISION_DIGITS}}})-(?P<token>[0-9a-f]{{{TOKEN_DIGITS}}})/[^/]+"
)


def item_id(acquisition: Acquisition, region: Region) -> str:
    """Name the STAC item of one acquisition over one region; stable over reprocessing."""
    return f"{acquisition.key.id}_{region.id}"


def product_revision(acquisition: Acquisition, region: Region, product: ProductSettings, model_digest: str) -> str:
    """Name what would be produced: the idempotency key of ledger and store.

    Args:
        acquisition: The acquisition with its source revision.
        region: The region; its geometry and crop decide which pixels exist.
        product: Which files are written.
        model_digest: Digest of the weights in force.

    Returns:
        16 hexadecimal digits of a SHA-256 over everything that changes pixels.
    """
    facts = {
        "format": PRODUCT_FORMAT,
        "acquisition": acquisition.key.id,
        "baseline": acquisition.revision.baseline,
        "generated": acquisition.revision.generated.isoformat() if acquisition.revision.generated else None,
        "region": region.id,
        "geometry": region.geometry if region.crop else None,
        "product": product.model_dump(),
        "model": model_digest,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


@dataclass(frozen=True)
class ProductKeys:
    """Where the files of one attempt at one product lie in the store."""

    item_prefix: str
    """Folder of everything that was ever written for the item."""
    prefix: str
    """Folder of this attempt: holds the product revision and the claim, so two attempts never share a file."""

    def file(self, name: str) -> str:
        """Return the key of one file of the product."""
        return f"{self.prefix}/{name}"


def product_keys(acquisition: Acquisition, region: Region, revision: str, token: str) -> ProductKeys:
    """Lay out the store: tile / year / month / item / revision-claim."""
    key = acquisition.key
    folder = f"{key.tile}/{key.sensed:%Y/%m}/{item_id(acquisition, region)}"
    return ProductKeys(item_prefix=folder, prefix=f"{folder}/{revision}-{token[:TOKEN_DIGITS]}")


@dataclass(frozen=True)
class Attempt:
    """Which attempt at which product a file belongs to."""

    revision: str
    token: str
    """The first digits of its claim's token."""


def attempt_of(key: str) -> Attempt | None:
    """Read a file's key back; None when it is not laid out as `product_keys` does."""
    found = _KEY.fullmatch(key)
    return Attempt(found["revision"], found["token"]) if found else None


def device_limit() -> str:
    """Name the limit of scenes at once on this machine's device: one name per machine and set of visible GPUs."""
    device = os.environ.get("CUDA_VISIBLE_DEVICES") or "all"
    return re.sub(r"[^A-Za-z0-9-]+", "-", f"explains2a-device-{socket.gethostname()}-{device}")


def run_url(ui_url: str, run: object) -> str:
    """Return the page of a flow run in the Prefect UI."""
    return f"{ui_url.rstrip('/')}/runs/flow-run/{run}"


def run_name(row: SceneRow) -> str:
    """Name a process run for people: tile, date, region and source revision."""
    return f"{row.tile} {row.sensed:%Y-%m-%d} {row.region} ({row.baseline or 'no baseline'})"
