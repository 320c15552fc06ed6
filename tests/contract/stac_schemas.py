"""The published JSON schemas of STAC 1.1 and its extensions, without any network."""

from __future__ import annotations

import json
import os
from datetime import datetime
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest
from jsonschema import Draft7Validator, FormatChecker
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

SCHEMAS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "schemas"
"""The extensions' schemas as published; pystac bundles only those of the core and of GeoJSON."""

_CORE = "https://schemas.stacspec.org/v1.1.0/{}.json"
_CORE_OF = {
    "Feature": _CORE.format("item-spec/json-schema/item"),
    "Collection": _CORE.format("collection-spec/json-schema/collection"),
}

_FOREIGN = {
    # What the extensions' schemas refer to and nobody bundles; permissive except where the answer is short.
    # PROJJSON: we write no projjson, only codes.
    "https://proj.org/schemas/v0.7/projjson.schema.json": {},
    # Older versions that the MLM schema names.
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json": {
        "definitions": {
            "bands": {"items": {"properties": {"data_type": {"enum": [
                "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
                "float64", "cint16", "cint32", "cfloat32", "cfloat64", "other",
            ]}}}}
        }
    },
    "https://stac-extensions.github.io/processing/v1.1.0/schema.json": {
        "definitions": {
            "fields": {"properties": {"processing:expression": {
                "type": "object", "required": ["format", "expression"], "properties": {"format": {"type": "string"}},
            }}}
        }
    },
}  # fmt: skip

_FORMATS = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def require_schemas() -> None:
    """Skip where the published schemas are not beside the checkout; in CI they must be."""
    if SCHEMAS.is_dir():
        return
    reason = f"the published extension schemas are not at {SCHEMAS}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI must provide them")
    pytest.skip(reason)


def problems(document: dict) -> list[str]:
    """Return what the core schema and every extension schema that a document declares find wrong with it.

    Args:
        document: An item or a collection.

    Returns:
        One line per problem, led by the schema and the place; empty when valid.
    """
    core = _CORE_OF[document["type"]]
    return [
        f"{uri.split('/')[-3]}/{uri.split('/')[-2]} {error.json_path}: {error.message[:300]}"
        for uri in (core, *document["stac_extensions"])
        for error in _flat(_validator(uri).iter_errors(document))
    ]


def faults(document: dict) -> list[str]:
    """Return the same as `problems`, at once where there are none: cheap enough for everything that tests write."""
    uris = (_CORE_OF[document["type"]], *document["stac_extensions"])
    return [] if all(_quick(uri).is_valid(document) for uri in uris) else problems(document)


def _flat(errors):
    """Yield errors, and those of every branch where a schema offers alternatives: they tell which field is wrong."""
    for error in errors:
        if error.context:
            yield from _flat(error.context)
        else:
            yield error


@cache
def published_schemas() -> dict[str, dict]:
    """Return every schema by its address: the core's, the extensions' and what they refer to."""
    extensions = [json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.json"))]
    return {**get_local_schema_cache(), **_FOREIGN, **{schema["$id"].rstrip("#"): schema for schema in extensions}}


@cache
def _registry() -> Registry:
    return Registry().with_resources(
        (uri, Resource.from_contents(schema, default_specification=DRAFT7))
        for uri, schema in published_schemas().items()
    )


@cache
def _validator(uri: str) -> Draft7Validator:
    return Draft7Validator(_registry().contents(uri), registry=_registry(), format_checker=_FORMATS)


@cache
def _quick_registry() -> jsonschema_rs.Registry:
    # Extensions that we do not use refer to files that nobody bundles.
    return jsonschema_rs.Registry(list(published_schemas().items()), draft=jsonschema_rs.Draft7, retriever=lambda _: {})


@cache
def _quick(uri: str) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(published_schemas()[uri], registry=_quick_registry(), validate_formats=True)
