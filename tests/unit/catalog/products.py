"""Products made for tests of the catalog: complete, plausible, cheap."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from catalog.api.links import linked_collection, linked_item
from catalog.assets import ASSET_KINDS, COG
from catalog.collection import build_collection
from catalog.items import AssetFile, Product, build_item
from catalog.ledger import Claim, Discovery
from catalog.model_item import build_model_collection, build_model_item, model_item_id
from catalog.publishing import publish, published_item
from catalog.search.collections import collection
from infra.settings import load_settings
from model.card import load_card
from model.layers import Layer
from tests.contract.stac_schemas import SCHEMAS, faults

BASE = "https://catalog.example.org/"

SENSED = datetime(2024, 6, 17, 11, 33, 21, tzinfo=UTC)
HOUR = timedelta(hours=1)
CARD = load_card()
_METRES = {"residual_20m": 20, "residual_60m": 60}


def settings(tmp_path):
    """Default settings with their home in a test's folder."""
    return load_settings(home=tmp_path)


def files(revision: str) -> tuple[AssetFile, ...]:
    """Every file that a product can have."""
    return tuple(_file(key, revision) for key in ASSET_KINDS)


def _file(key: str, revision: str) -> AssetFile:
    kind = ASSET_KINDS[key]
    href = f"s3://bucket/{revision}/{kind.file}"
    digest = hashlib.sha256(href.encode()).hexdigest()
    if kind.media_type != COG:
        return AssetFile(key, href, 1234, digest)
    layered = key not in {"hsi", "qa", "visual"}
    layers = tuple(Layer(f"{key}_{n}", f"Layer {n}", scale=1e-4 * (n + 1)) for n in range(3)) if layered else ()
    metres = _METRES.get(key, 10)
    edge = 1200 * 10 // metres
    return AssetFile(key, href, 12345, digest, layers, (edge, edge), (metres, 0, 5e5, 0, -metres, 6e6), metres)


def box(west: float, south: float, east: float, north: float) -> dict:
    """A rectangle, counter-clockwise; two on both sides when west is beyond east."""
    if west > east:
        parts = [box(west, south, 180, north), box(-180, south, east, north)]
        return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def product(id: str = "S2A_20240617T113321_29UPU_R080_site", revision: str = "r1", **changes) -> Product:  # noqa: A002
    """A product with every asset and every optional field."""
    bbox = changes.pop("bbox", (-9.0, 54.0, -8.8, 54.1))
    made = Product(
        collection="explains2a-l3-hsi", id=id, title="29UPU 2024-06-17 site", geometry=box(*bbox), bbox=bbox,
        sensed=SENSED, created=SENSED + HOUR, platform="sentinel-2a", tile="29UPU", relative_orbit=80,
        crs="EPSG:32629", shape=(1200, 1200), transform=(10.0, 0.0, 5e5, 0.0, -10.0, 6e6), region="site",
        acquisition="S2A_20240617T113321_29UPU_R080", source="earth-search", source_item_id="S2A_29UPU_20240617_0_L2A",
        source_href="https://earth-search.aws.element84.com/v1/collections/sentinel-2-c1-l2a/items/S2A_29UPU",
        source_baseline="05.10", cloud_cover=0.125, sun_zenith=33.25, product_revision=revision,
        model_id=model_item_id(CARD), software={"explains2a": "0.1.0"},
        quality={"valid_fraction": 0.98, "resimulation_rmse": 0.0021, "mean_uncertainty": 0.013}, grade="B",
        grade_reasons=("no cloud mask",), gates={"valid_fraction": "pass"}, assets=files(f"{id}/{revision}"),
        extra={"seconds": 12.5},
    )  # fmt: skip
    return replace(made, **changes)


def item(*arguments, **changes) -> dict:
    """A product as an item."""
    return build_item(product(*arguments, **changes))


def discovery(number: int = 0, **changes) -> Discovery:
    """A delivery of the number-th acquisition."""
    sensed = SENSED + timedelta(days=number)
    made = Discovery(
        acquisition=f"S2A_{sensed:%Y%m%dT%H%M%S}_29UPU_R080", region="site", source="earth-search",
        source_item_id=f"S2A_29UPU_{sensed:%Y%m%d}_0_L2A", platform="sentinel-2a", tile="29UPU", sensed=sensed,
        baseline="05.10", generated=sensed + HOUR, published=sensed + 2 * HOUR,
        source_item={"type": "Feature", "id": f"item-{number}"},
    )  # fmt: skip
    return replace(made, **changes)


def take(ledger, scene_id: int, revision: str = "r1", lease: timedelta = HOUR) -> Claim:
    """Claim a scene and begin its product."""
    claim = ledger.claim(scene_id, actor="test", lease=lease)
    ledger.begin(claim, revision)
    return claim


def put_online(database, ledger, claim, made: dict, configured, **more):
    """Publish an item as the flows do; what was written must be valid."""
    done = publish(
        database, ledger, claim, made, collection=build_collection(configured, CARD),
        model_item=build_model_item(CARD), model_collection=build_model_collection(), **more,
    )  # fmt: skip
    require_valid(database, made["collection"], made["id"])
    return done


def require_valid(database, collection_id: str, item_id: str) -> None:
    """Hold an item and its collection, as they are served, against the published schemas."""
    if not (SCHEMAS.is_dir() or os.environ.get("CI") == "true"):
        return  # tests of the schemas themselves say so
    item, held = published_item(database, collection_id, item_id), collection(database, collection_id)
    assert faults(linked_item(item, BASE)) == [] if item else True
    assert faults(linked_collection(held, BASE)) == []
