"""Items as one table: stac-geoparquet 1.0 (GeoParquet 1.1), for whoever wants all of them at once.

Band lists are left out: the collection has those of the spectra, every item's document its own. Needs pyarrow, which
the extra ``[export]`` installs.
"""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

import shapely
from shapely.geometry import shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMES: Final = ("datetime", "created", "updated")
_LEFT_OUT: Final = ("bands", "classification:bitfields")


class TablesUnavailable(RuntimeError):
    """pyarrow is not installed."""

    transient: ClassVar[bool] = False


def require_tables() -> None:
    """Raise where tables cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise TablesUnavailable("tables need pyarrow; install explains2a[export] or export without tables") from error


def write_table(items: Sequence[Mapping[str, Any]], collection: Mapping[str, Any]) -> bytes:
    """Write items of one collection as stac-geoparquet.

    Args:
        items: STAC items, at least one.
        collection: Theirs, kept in the file's metadata.

    Returns:
        The file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_row(item) for item in items])
    kinds = {shape(item["geometry"]).geom_type for item in items}
    edges = {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}
    geometry = {"encoding": "WKB", "geometry_types": sorted(kinds), "edges": "planar", "covering": {"bbox": edges}}
    metadata = {
        "geo": {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}},
        "stac-geoparquet": {"version": "1.0.0", "collections": {collection["id"]: collection}},
    }
    file = io.BytesIO()
    described = table.replace_schema_metadata({name: json.dumps(value) for name, value in metadata.items()})
    pq.write_table(described, file, compression="zstd")
    return file.getvalue()


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    properties = {name: _kept(value) for name, value in item["properties"].items()}
    for name in _TIMES:
        if properties.get(name) is not None:
            properties[name] = datetime.fromisoformat(properties[name])
    assets = {
        key: {name: _kept(value) for name, value in asset.items() if name not in _LEFT_OUT}
        for key, asset in item["assets"].items()
    }
    return {
        "type": item["type"],
        "stac_version": item["stac_version"],
        "stac_extensions": list(item["stac_extensions"]),
        "id": item["id"],
        "collection": item["collection"],
        "geometry": shapely.to_wkb(shape(item["geometry"])),
        "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), item["bbox"], strict=True)),
        "links": list(item["links"]),
        "assets": assets or None,
        **properties,
    }


def _kept(value: Any) -> Any:
    """Parquet has no struct without fields."""
    return None if value == {} else value
