"""The model as a STAC item of its own (MLM extension), so that products can say what they derive from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from catalog.items import MODEL_COLLECTION, PREFIX
from model.bands import CHANNELS, SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from model.card import ModelCard

MLM: Final = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
_WORLD: Final = [-180.0, -90.0, 180.0, 90.0]


def model_item_id(card: ModelCard) -> str:
    """Name one set of weights."""
    return f"{card.name}-{card.version}-{card.digest[:12]}".lower().replace(" ", "-")


def build_model_collection() -> dict[str, Any]:
    """Write the collection of models."""
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": MODEL_COLLECTION,
        "title": "Models behind the hyperspectral product",
        "description": "Each item is one set of weights with its card; products link to the one that made them.",
        "license": "Apache-2.0",
        "extent": {"spatial": {"bbox": [_WORLD]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }


def build_model_item(card: ModelCard) -> dict[str, Any]:
    """Write the item of one set of weights.

    Args:
        card: The model's card.

    Returns:
        The item. It has no assets: the weights travel with the software and are known by their digest.
    """
    west, south, east, north = _WORLD
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM],
        "id": model_item_id(card),
        "collection": MODEL_COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": _WORLD,
        "properties": {
            "datetime": card.trained,
            "title": f"{card.name} {card.version}",
            "description": " ".join(card.limits),
            "license": card.licence,
            "mlm:name": card.name,
            "mlm:architecture": "spectral-spatial duality model",
            "mlm:tasks": ["super-resolution", "regression"],
            "mlm:framework": "PyTorch",
            "mlm:input": [_input()],
            "mlm:output": [_output()],
            PREFIX + "digest": card.digest,
            PREFIX + "version": card.version,
            PREFIX + "subspace_dimension": card.subspace_dimension,
            PREFIX + "calibration": card.calibration,
            PREFIX + "source_bands": list(SOURCE_BAND_NAMES),
            PREFIX + "platforms": list(card.platforms),
        },
        "links": [{"rel": "cite-as", "href": "https://arxiv.org/abs/2604.19007", "title": "the method"}],
        "assets": {},
    }


def _input() -> dict[str, Any]:
    """Describe what goes in: core STAC ties band objects to assets, of which there are none, so bands go by name."""
    return {
        "name": "Sentinel-2 L2A surface reflectance",
        "description": f"Bands {', '.join(SOURCE_BAND_NAMES)}, each at its own resolution; nan: nothing known.",
        "input": {
            "shape": [-1, 12, -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
    }


def _output() -> dict[str, Any]:
    return {
        "name": "Hyperspectral surface reflectance",
        "description": f"The {len(CHANNELS)} channels of the products' `hsi` asset, times 10 000.",
        "tasks": ["super-resolution"],
        "result": {
            "shape": [-1, len(CHANNELS), -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "int16",
        },
    }
