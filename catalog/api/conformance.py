"""What the server says it can do: the addresses of the specifications, old and new where clients look for either."""

from __future__ import annotations

from typing import Final

_STAC: Final = "https://api.stacspec.org"
_OGC: Final = "http://www.opengis.net/spec"

FILTER: Final = [
    f"{_OGC}/ogcapi-features-3/1.0/conf/filter",
    f"{_OGC}/ogcapi-features-3/1.0/conf/features-filter",
    f"{_OGC}/ogcapi-features-3/1.0/conf/queryables",
    f"{_STAC}/v1.0.0-rc.2/item-search#filter",
    f"{_STAC}/v1.0.0/item-search#filter",
    f"{_STAC}/v1.0.0/ogcapi-features#filter",
    *(
        f"{_OGC}/cql2/1.0/conf/{name}"
        for name in (
            "cql2-text", "cql2-json", "basic-cql2", "advanced-comparison-operators", "basic-spatial-functions",
            "basic-spatial-functions-plus", "spatial-functions", "temporal-functions", "property-property",
            "case-insensitive-comparison",
        )
    ),
]  # fmt: skip
SORT: Final = [
    f"{_STAC}/{version}/{part}#sort" for version in ("v1.0.0", "v1.1.0") for part in ("item-search", "ogcapi-features")
]
SORTABLES: Final = [f"{_STAC}/v1.1.0/item-search#sortables", f"{_OGC}/ogcapi-features-5/1.0/conf/sortables"]
FIELDS: Final = [f"{_STAC}/v1.0.0/item-search#fields", f"{_STAC}/v1.0.0/ogcapi-features#fields"]
QUERY: Final = [f"{_STAC}/v1.0.0/item-search#query", f"{_STAC}/v1.0.0/ogcapi-features#query"]
COLLECTIONS: Final = [
    f"{_OGC}/ogcapi-common-2/1.0/conf/simple-query",
    *(
        f"{_STAC}/{version}/collection-search{part}"
        for version in ("v1.0.0-rc.1", "v1.0.0")
        for part in ("", "#free-text", "#fields")
    ),
]
