"""Where tiles lie at the edges of the map, on both databases: across the antimeridian and close to the poles.

The oracle is the projection itself: a place is on a tile when its metres are, whatever its degrees look like.
"""

import numpy as np
import pytest
from pyproj import Transformer
from shapely.geometry import Point, shape

from catalog.places import ProductGrid
from catalog.search.areas import area_of_bbox
from catalog.search.collections import collection as stored_collection
from catalog.search.items import Query, search_items
from infra.scene import Grid, Window
from infra.scene.footprint import window_footprint
from tests.unit.catalog.products import discovery, item, put_online, settings, take

EDGE = 10980
"""Pixels of a whole tile."""

TILES = {
    # CRS, upper left corner in metres: how Sentinel-2's tiles lie in their zones
    "fiji-east": ("EPSG:32701", 99960.0, 8200000.0),
    "fiji-west": ("EPSG:32760", 799980.0, 8200000.0),
    "chukotka": ("EPSG:32601", 399960.0, 7500000.0),
    "arctic-ocean": ("EPSG:32601", 399960.0, 9300000.0),
    "svalbard": ("EPSG:32633", 499980.0, 9100020.0),
    "north-greenland": ("EPSG:32625", 499980.0, 9300000.0),
    "ross-ice-shelf": ("EPSG:32760", 499980.0, 1300000.0),
}
ACROSS = {"fiji-east", "fiji-west", "arctic-ocean", "ross-ice-shelf"}


def grid_of(name):
    crs, left, top = TILES[name]
    return Grid(crs, (10.0, 0.0, left, 0.0, -10.0, top), EDGE, EDGE)


def footprint_of(name):
    return window_footprint(grid_of(name), Window(0, 0, EDGE, EDGE))


def degrees(name, columns, rows):
    """Longitude and latitude of pixels (n, 2), which may lie beyond the tile."""
    crs, left, top = TILES[name]
    project = Transformer.from_crs(crs, 4326, always_xy=True)
    return np.stack(project.transform(left + 10 * np.asarray(columns), top - 10 * np.asarray(rows)), axis=1)


@pytest.fixture
def world(database, ledger, tmp_path):
    """One item on every tile."""
    for number, name in enumerate(TILES):
        place, (crs, left, top) = footprint_of(name), TILES[name]
        made = item(
            name, f"r{number}", geometry=place.geometry, bbox=place.bbox, crs=crs, shape=(EDGE, EDGE),
            transform=(10.0, 0.0, left, 0.0, -10.0, top),
        )  # fmt: skip
        (found,) = ledger.discover([discovery(number)], actor="watch")
        put_online(database, ledger, take(ledger, found.scene_id, f"r{number}"), made, settings(tmp_path))
    return database


def found_at(database, area):
    return {each["id"] for each in search_items(database, Query(area=area, limit=100)).items}


def test_the_tiles_that_should_cross_the_antimeridian_do():
    crossing = {name for name in TILES if footprint_of(name).bbox[0] > footprint_of(name).bbox[2]}
    assert crossing == ACROSS
    for name in TILES:
        place = footprint_of(name)
        assert shape(place.geometry).is_valid
        assert max(abs(place.bbox[1]), abs(place.bbox[3])) <= 90
        assert shape(place.geometry).bounds[0] >= -180
        assert shape(place.geometry).bounds[2] <= 180


def test_places_on_a_tile_find_it_and_places_beyond_do_not(world):
    middle, beyond = EDGE / 2, 800
    for name in TILES:
        inside = degrees(name, [300, middle, EDGE - 300, 300, EDGE - 300], [300, middle, 300, EDGE - 300, EDGE - 300])
        outside = degrees(name, [-beyond, EDGE + beyond, middle, middle], [middle, middle, -beyond, EDGE + beyond])
        for lon, lat in inside:
            assert name in found_at(world, Point(lon, lat)), (name, lon, lat)
            box = [max(lon - 1e-4, -180.0), lat - 1e-4, min(lon + 1e-4, 180.0), lat + 1e-4]
            assert name in found_at(world, area_of_bbox(box)), (name, box)
        for lon, lat in outside:
            assert name not in found_at(world, Point(lon, lat)), (name, lon, lat)


def test_boxes_across_the_antimeridian_and_to_the_poles(world):
    assert ACROSS <= found_at(world, area_of_bbox([179.999, -90, -179.999, 90]))
    assert found_at(world, area_of_bbox([-180, 79, 180, 90])) == {"arctic-ocean", "svalbard", "north-greenland"}
    assert found_at(world, area_of_bbox([-180, -90, 180, -70])) == {"ross-ice-shelf"}
    assert found_at(world, area_of_bbox([-100, -90, 0, 75])) == set()


def test_the_collection_holds_all_of_them(world):
    west, south, east, north = stored_collection(world, "explains2a-l3-hsi")["extent"]["spatial"]["bbox"][0]
    for name in TILES:
        lons, lats = degrees(name, [0, EDGE, EDGE, 0], [0, 0, EDGE, EDGE]).T
        assert south - 1e-6 <= lats.min()
        assert lats.max() <= north + 1e-6
        behind, before = lons >= west - 1e-6, lons <= east + 1e-6  # footprints are rounded
        inside = behind & before if west <= east else behind | before
        assert inside.all(), name


def test_a_place_leads_to_its_pixel_on_every_tile():
    for name, (crs, left, top) in TILES.items():
        grid = ProductGrid(crs, (10.0, 0.0, left, 0.0, -10.0, top), EDGE, EDGE)
        columns, rows = np.array([0, 17, EDGE - 1, 5000]), np.array([0, EDGE - 1, 3, 5000])
        pixels, inside = grid.locate(degrees(name, columns + 0.5, rows + 0.5).tolist())
        assert inside.all()
        assert pixels.columns.tolist() == columns.tolist()
        assert pixels.rows.tolist() == rows.tolist()
        np.testing.assert_allclose(grid.centres(pixels), degrees(name, columns + 0.5, rows + 0.5), atol=1e-9)
