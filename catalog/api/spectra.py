"""Spectra over HTTP: of a place, of many places, of a small area, and of one place over time; JSON or CSV."""

# No postponed annotations here: FastAPI reads those of the routes.

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from fastapi import Body, FastAPI, HTTPException, Query, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from starlette.responses import Response

from catalog.api.answers import JsonAnswer
from catalog.api.links import GEOJSON, link, page_links
from catalog.api.parameters import read_query
from catalog.places import Pixels, ProductGrid, TooLarge
from catalog.publishing import published_layers
from catalog.search.areas import area_of_geometry
from catalog.search.collections import has_collection
from catalog.search.errors import InvalidSearch
from catalog.search.items import search_items
from catalog.spectra import (
    GROUP_OF_CHANNEL,
    MAX_POINTS,
    NODATA_BIT,
    NoSpectra,
    PixelSpectra,
    SpectraReader,
    SpectraUnreadable,
    flag_names,
    flag_shares,
    mean_spectra,
    source_reflectance,
    spread,
)
from model.bands import CHANNELS, SOURCE_BANDS, SPECTRAL_GROUPS

if TYPE_CHECKING:
    from catalog.session import Database
    from infra.settings import Settings

MAX_ITEMS: Final = 50
"""Items of one answer about a place over time."""

_AT_ONCE: Final = 4
"""Requests that read files at the same time; others wait a little, then are sent away."""
_PATIENCE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = "5"
_DIGITS: Final = 5
_CSV: Final = "text/csv"
_COLUMNS: Final = (
    "item", "datetime", "lon", "lat", "kind", "name", "wavelength_nm", "fwhm_nm", "reflectance", "sigma",
    "measured_fraction", "flags",
)  # fmt: skip

_Longitude = Annotated[float, Query(ge=-180, le=180, allow_inf_nan=False, description="Degrees east, WGS 84.")]
_Latitude = Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False, description="Degrees north, WGS 84.")]
_Format = Annotated[
    Literal["json", "csv"] | None, Query(description="Form of the answer; else as the Accept header asks, JSON first.")
]
_Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS, description="At most so many items.")]
_Place = Annotated[list[float], Field(min_length=2, max_length=2)]


class SpectraBody(BaseModel):
    """Many places, or one small area."""

    model_config = ConfigDict(extra="forbid")

    points: Annotated[list[_Place], Field(min_length=1, max_length=MAX_POINTS)] | None = None
    """Longitude and latitude of each."""
    area: dict[str, Any] | None = None
    """GeoJSON Polygon or MultiPolygon."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "SpectraBody":
        if (self.points is None) == (self.area is None):
            raise ValueError("points or area is expected, one of them")
        for lon, lat in self.points or ():
            if not (-180 <= lon <= 180 and -90 <= lat <= 90):
                raise ValueError(f"points: [{lon}, {lat}] is no longitude and latitude in degrees")
        return self


def register_spectra(
    application: FastAPI, database: "Database", settings: "Settings", *, reader: SpectraReader
) -> None:
    """Add the routes of spectra to an application; `reader` is closed by the caller."""
    routes = _Spectra(database, settings.api.search_seconds, reader)
    item = "/collections/{collection_id}/items/{item_id}/spectra"
    csv_too: dict[int | str, dict[str, Any]] = {200: {"content": {_CSV: {}}}}
    for path, endpoint, method, name in (
        (item, routes.at_point, "GET", "Get Spectrum"),
        (item, routes.at_places, "POST", "Get Spectra"),
        ("/collections/{collection_id}/spectra", routes.over_time, "GET", "Get Spectra over Time"),
    ):
        application.add_api_route(
            path, endpoint, methods=[method], name=name, response_class=JsonAnswer, responses=csv_too, tags=["spectra"]
        )


class _Spectra:
    """Answers from the database and a reader."""

    def __init__(self, database: "Database", seconds: float, reader: SpectraReader) -> None:
        self._database, self._seconds, self._reader = database, seconds, reader
        self._slots = BoundedSemaphore(_AT_ONCE)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="spectra")

    def at_point(
        self, collection_id: str, item_id: str, request: Request, lon: _Longitude, lat: _Latitude, f: _Format = None
    ) -> Response:
        """Return the spectrum of the pixel that holds a place, with the uncertainty of every channel."""
        item = self._item(collection_id, item_id)
        pixels, inside = ProductGrid.of(item).locate([(lon, lat)])
        if not inside[0]:
            raise HTTPException(404, f"lon {lon}, lat {lat} lies outside the product {item_id!r}")
        with self._reading():
            spectra = self._reader.read(item, pixels)
        if spectra.flags[0] & NODATA_BIT:
            raise HTTPException(422, f"the product {item_id!r} has no data at lon {lon}, lat {lat}")
        told = _pixel(spectra, 0, (lon, lat), ProductGrid.of(item), pixels)
        if _wants_csv(request, f):
            return _table(_rows(item, told))
        return JsonAnswer({**_head(item), **_axes(), **told, "links": _links(request, item)})

    def at_places(
        self, collection_id: str, item_id: str, request: Request, body: Annotated[SpectraBody, Body()],
        f: _Format = None,
    ) -> Response:  # fmt: skip
        """Return the spectra of up to 100 places, or the mean spectrum of a small area."""
        item = self._item(collection_id, item_id)
        grid = ProductGrid.of(item)
        if body.area is not None:
            told = [self._area(item, grid, body.area)]
        else:
            points = [(lon, lat) for lon, lat in body.points or ()]
            told = self._points(item, grid, points)
        if _wants_csv(request, f):
            return _table(row for each in told if "reflectance" in each for row in _rows(item, each))
        return JsonAnswer({**_head(item), **_axes(), "spectra": told, "links": _links(request, item)})

    def over_time(
        self, collection_id: str, request: Request, lon: _Longitude, lat: _Latitude,
        datetime: Annotated[str | None, Query(description="An RFC 3339 time or interval.", max_length=100)] = None,
        limit: _Limit = 20, token: Annotated[str | None, Query(max_length=1000)] = None, f: _Format = None,
    ) -> Response:  # fmt: skip
        """Return the spectra of a place in all items that cover it, newest first."""
        if not has_collection(self._database, collection_id):
            raise NotFoundError(f"there is no collection {collection_id!r}")
        place = {"type": "Point", "coordinates": [lon, lat]}
        query = read_query(
            {"collections": [collection_id], "intersects": place, "datetime": datetime, "limit": limit, "token": token}
        )
        page = search_items(self._database, query, seconds=self._seconds)
        with self._reading():
            told = list(self._pool.map(lambda item: self._at_time(item, (lon, lat)), page.items))
        if _wants_csv(request, f):
            pairs = zip(page.items, told, strict=True)
            return _table(row for item, each in pairs if "reflectance" in each for row in _rows(item, each))
        links = page_links(request, page.next.token() if page.next else None, None, "application/json")
        head = {"collection": collection_id, "lon": lon, "lat": lat}
        return JsonAnswer({**head, **_axes(), "spectra": told, "numberReturned": len(told), "links": links})

    def _item(self, collection_id: str, item_id: str) -> dict[str, Any]:
        printable = collection_id.isprintable() and item_id.isprintable()
        item = published_layers(self._database, collection_id, item_id, "explanation") if printable else None
        if item is None:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r}")
        if "compact" not in item["assets"]:
            raise NotFoundError(f"item {item_id!r} has no spectra")
        return item

    def _points(
        self, item: Mapping[str, Any], grid: ProductGrid, points: Sequence[tuple[float, float]]
    ) -> list[dict[str, Any]]:
        pixels, inside = grid.locate(points)
        told: list[dict[str, Any]] = [
            {"lon": lon, "lat": lat, "status": "outside the product"} for lon, lat in points
        ]  # fmt: skip
        if len(pixels):
            with self._reading():
                spectra = self._reader.read(item, pixels)
            for number, place in enumerate(np.flatnonzero(inside).tolist()):
                told[place] = _pixel(spectra, number, points[place], grid, pixels)
        return told

    def _area(self, item: Mapping[str, Any], grid: ProductGrid, geometry: dict[str, Any]) -> dict[str, Any]:
        area = area_of_geometry(geometry, "area")
        if area.geom_type not in {"Polygon", "MultiPolygon"}:
            raise InvalidSearch("area", f"is a {area.geom_type}; expected a Polygon or MultiPolygon")
        try:
            pixels = grid.cover(area)
        except TooLarge as error:
            raise InvalidSearch("area", str(error)) from error
        if not len(pixels):
            raise HTTPException(404, f"the area lies outside the product {item['id']!r}")
        with self._reading():
            spectra = self._reader.read(item, pixels)
        used = int(np.isfinite(spectra.reflectance[0]).sum())
        if not used:
            raise HTTPException(422, f"the product {item['id']!r} has no data in this area")
        lon, lat = grid.centres(pixels).mean(axis=0)
        return {
            "lon": round(float(lon), 7),
            "lat": round(float(lat), 7),
            "status": "ok",
            "pixels": {"inside": len(pixels), "with_data": used},
            **_numbers(mean_spectra(spectra), 0),
            "spread": _rounded(spread(spectra)),
            "flag_shares": flag_shares(spectra.flags),
        }

    def _at_time(self, item: dict[str, Any], place: tuple[float, float]) -> dict[str, Any]:
        """Read one item of many; what is wrong with it is told in its place, beside the others."""
        if "compact" not in item["assets"]:
            return {**_head(item), "lon": place[0], "lat": place[1], "status": "no spectra"}
        grid = ProductGrid.of(item)
        pixels, inside = grid.locate([place])
        if not inside[0]:
            return {**_head(item), "lon": place[0], "lat": place[1], "status": "outside the product"}
        try:
            return {**_head(item), **_pixel(self._reader.read(item, pixels), 0, place, grid, pixels)}
        except (NoSpectra, SpectraUnreadable):
            return {**_head(item), "lon": place[0], "lat": place[1], "status": "unreadable"}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let few requests read at once, and say in HTTP what a reader cannot do."""
        if not self._slots.acquire(timeout=_PATIENCE_SECONDS):
            raise HTTPException(503, "too many spectra are being read; try again", {"Retry-After": _RETRY_SECONDS})
        try:
            yield
        except NoSpectra as error:
            raise NotFoundError(str(error)) from error
        except SpectraUnreadable as error:
            if error.transient:
                said = "the product's files cannot be reached just now; try again"
                raise HTTPException(503, said, {"Retry-After": _RETRY_SECONDS}) from error
            raise HTTPException(500, "the product's files cannot be read; its operator has been told") from error
        finally:
            self._slots.release()


def _head(item: Mapping[str, Any]) -> dict[str, Any]:
    said = item["properties"]
    return {
        "item": item["id"],
        "collection": item["collection"],
        "version": said.get("version"),  # a model's item has none
        "datetime": said["datetime"],
        "deprecated": said.get("deprecated", False),
    }


def _axes() -> dict[str, Any]:
    return {
        "unit": "reflectance",
        "wavelength_nm": [channel.centre_nm for channel in CHANNELS],
        "fwhm_nm": [channel.fwhm_nm for channel in CHANNELS],
    }


def _pixel(
    spectra: PixelSpectra, number: int, place: tuple[float, float], grid: ProductGrid, pixels: Pixels
) -> dict[str, Any]:
    """Tell of one pixel of several."""
    column, row = int(pixels.columns[number]), int(pixels.rows[number])
    centre = grid.centres(Pixels(pixels.columns[number : number + 1], pixels.rows[number : number + 1]))[0]
    known = not spectra.flags[number] & NODATA_BIT
    return {
        "lon": place[0],
        "lat": place[1],
        "status": "ok" if known else "no data",
        "pixel": {"column": column, "row": row, "lon": round(float(centre[0]), 7), "lat": round(float(centre[1]), 7)},
        **(_numbers(spectra, number) if known else {}),
        "flags": flag_names(int(spectra.flags[number])),
    }


def _numbers(spectra: PixelSpectra, number: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "reflectance": _rounded(spectra.reflectance[:, number]),
        "sigma": _rounded(spectra.sigma[:, number]),
    }
    source = source_reflectance(spectra)
    if source is not None and spectra.seen is not None:
        told["source_bands"] = {
            "name": [band.name for band in SOURCE_BANDS],
            "wavelength_nm": [band.centre_nm for band in SOURCE_BANDS],
            "resolution_m": [band.resolution_m for band in SOURCE_BANDS],
            "reflectance": _rounded(source[:, number]),
            "product": _rounded(spectra.seen[:, number]),
        }
    known = {name: round(float(values[number]), 4) for name, values in spectra.explanation.items()}
    groups = {
        group.name: known[f"measured_{group.name}"] for group in SPECTRAL_GROUPS if f"measured_{group.name}" in known
    }
    if groups:
        told["measured_fraction"] = {"mean": known.get("measured_fraction"), **groups}
    told |= {name: known[name] for name in ("out_of_domain_score", "consistency_chi2") if name in known}
    return told


def _rounded(values: NDArray[np.float32]) -> list[float | None]:
    return [round(float(value), _DIGITS) if np.isfinite(value) else None for value in values]


def _links(request: Request, item: Mapping[str, Any]) -> list[dict[str, Any]]:
    base = get_base_url(request)
    href = f"{base}collections/{item['collection']}/items/{item['id']}"
    return [link("root", base, "application/json"), link("item", href, GEOJSON)]


def _wants_csv(request: Request, f: str | None) -> bool:
    if f is not None:
        return f == "csv"
    accepted = [part.split(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    return _CSV in accepted and "application/json" not in accepted


def _rows(item: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Write one spectrum as lines of a table: its channels, then the source bands."""
    place = (item["id"], item["properties"]["datetime"], told["lon"], told["lat"])
    flags = "|".join(told.get("flags", told.get("flag_shares", ())))
    measured = told.get("measured_fraction", {})
    groups = [measured.get(SPECTRAL_GROUPS[number].name, "") for number in GROUP_OF_CHANNEL]
    for channel, value, sigma, share in zip(CHANNELS, told["reflectance"], told["sigma"], groups, strict=True):
        yield *place, "channel", channel.name, channel.centre_nm, channel.fwhm_nm, value, sigma, share, flags
    source = told.get("source_bands")
    for band, value in zip(SOURCE_BANDS, source["reflectance"], strict=True) if source else ():
        yield *place, "source_band", band.name, band.centre_nm, band.fwhm_nm, value, "", "", flags


def _table(rows: Iterator[Sequence[Any]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return Response(text.getvalue(), media_type=_CSV)
