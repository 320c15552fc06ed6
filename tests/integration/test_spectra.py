"""Spectra of a real product over HTTP, against the product's own files, its source's files and the model itself."""

import csv
import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from catalog.api import create_app
from catalog.api.spectra import register_spectra
from catalog.places import Pixels
from flows.assembly import assemble
from flows.processing import process_scene
from flows.spectra import ProductReader
from flows.watching import watch_sources
from infra.settings import StorageSettings
from infra.storage import open_store
from model.bands import CENTRE_NM, FWHM_NM, SOURCE_BAND_NAMES, SOURCE_BANDS
from tests.served import served

pytestmark = pytest.mark.server

COLLECTION = "explains2a-l3-hsi"
BITS = {"nodata": 0, "cloud": 1, "shadow": 2, "water": 3, "snow": 4, "saturated": 5, "out_of_domain": 6,
        "low_consistency": 7, "class_unknown": 8}  # fmt: skip


@pytest.fixture(scope="module")
def job(tmp_path_factory, demo_scenes):
    """Two real products, one with a part without data."""
    from infra.settings import load_settings

    settings = load_settings(
        home=tmp_path_factory.mktemp("spectra"),
        regions_file=demo_scenes.regions_file,
        sources=({"kind": "folder", "name": "patches", "path": str(demo_scenes.items)},),
        processing={"first_look_back_days": 36500},
    )
    with assemble(settings) as assembly:
        watch_sources(assembly, actor="test")
        for row in assembly.ledger.due(100):
            if row.tile in {"33UUP", "35VPK"}:
                process_scene(assembly, row.id, actor="test")
        yield assembly


@pytest.fixture(scope="module")
def items(job):
    found = (job.published_item(row) for row in job.ledger.scenes(limit=100))
    return [item for item in found if item]


@pytest.fixture(scope="module")
def item(items):
    return next(each for each in items if "33UUP" in each["id"])


@pytest.fixture(scope="module")
def server(job):
    with ProductReader(job.store, job.settings.resolved_storage, held=2) as reader:
        application = create_app(job.database, job.settings, routes=[partial(register_spectra, reader=reader)])
        with served(application) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client


def path_of(item, asset):
    return item["assets"][asset]["href"].removeprefix("file://")


def place(item, column, row):
    """Longitude and latitude inside a pixel, a little off its centre."""
    a, _, left, _, e, top = item["properties"]["proj:transform"][:6]
    to_degrees = Transformer.from_crs(item["properties"]["proj:code"], 4326, always_xy=True)
    return to_degrees.transform(left + a * (column + 0.6), top + e * (row + 0.3))


def of(item):
    return f"/collections/{COLLECTION}/items/{item['id']}/spectra"


def ask(server, item, column, row, **more):
    lon, lat = place(item, column, row)
    return server.get(of(item), params={"lon": lon, "lat": lat, **more})


def pixel(item, asset, column, row):
    with rasterio.open(path_of(item, asset)) as file:
        return file.read(window=rasterio.windows.Window(column, row, 1, 1))[:, 0, 0], np.array(file.scales)


PLACES = [(0, 0), (119, 119), (60, 60), (7, 93)]


@pytest.mark.parametrize(("column", "row"), PLACES)
def test_a_spectrum_is_that_of_the_products_files(server, job, item, column, row):
    answer = ask(server, item, column, row)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["item"], told["version"], told["status"]) == (item["id"], "1", "ok")
    assert (told["pixel"]["column"], told["pixel"]["row"]) == (column, row)
    assert told["wavelength_nm"] == CENTRE_NM.tolist()
    assert told["fwhm_nm"] == FWHM_NM.tolist()
    stored, _ = pixel(item, "hsi", column, row)
    assert np.abs(np.array(told["reflectance"]) * 1e4 - stored).max() <= 2
    uncertainty, _ = pixel(item, "uncertainty", column, row)
    assert told["sigma"] == pytest.approx(job.model.channel_sigma(uncertainty), abs=2e-5)
    bits, _ = pixel(item, "qa", column, row)
    assert told["flags"] == [name for name, bit in BITS.items() if bits[0] >> bit & 1]
    names = [band["name"] for band in item["assets"]["explanation"]["bands"]]
    layers, scales = pixel(item, "explanation", column, row)
    values = dict(zip(names, layers * scales, strict=True))
    assert told["measured_fraction"]["mean"] == pytest.approx(values["measured_fraction"], abs=1e-4)
    for group in ("blue", "red_edge", "nir_gap", "swir2"):
        assert told["measured_fraction"][group] == pytest.approx(values[f"measured_{group}"], abs=1e-4)
    assert told["consistency_chi2"] == pytest.approx(values["consistency_chi2"], abs=1e-4)
    assert told["out_of_domain_score"] == pytest.approx(values["out_of_domain_score"], abs=1e-4)


def source_band(job, item, name):
    """The band's pixels as the source delivered them, reflectance."""
    (row,) = [row for row in job.ledger.scenes(limit=100) if row.item_id == item["id"]]
    from flows.processing import open_scene
    from infra.scene import Window

    acquisition = job.source(row.source).restore(row.source_item)
    with open_scene(acquisition, job.source_settings(row.source)) as scene:
        height, width = item["properties"]["proj:shape"]
        a, _, left, _, _, top = scene.grid.transform
        its = item["properties"]["proj:transform"]
        window = Window(round((its[2] - left) / a), round((top - its[5]) / a), width, height)
        pixels = scene.read(window)
    from model.bands import BANDS_BY_RESOLUTION

    metres = next(band.resolution_m for band in SOURCE_BANDS if band.name == name)
    stack = {10: pixels.b10, 20: pixels.b20, 60: pixels.b60}[metres]
    return stack[BANDS_BY_RESOLUTION[metres].index(name)]


def test_source_bands_at_10_m_are_the_sources_own_values(server, job, item):
    for column, row in PLACES:
        told = ask(server, item, column, row).json()["source_bands"]
        assert told["name"] == list(SOURCE_BAND_NAMES)
        for name in ("B02", "B03", "B04", "B08"):
            value = told["reflectance"][told["name"].index(name)]
            assert value == pytest.approx(source_band(job, item, name)[row, column], abs=2e-4), name


@pytest.mark.parametrize(("name", "step"), [("B05", 2), ("B11", 2), ("B8A", 2), ("B09", 6)])
def test_source_bands_of_a_coarse_pixel_have_its_value_on_average(server, job, item, name, step):
    source, offsets = source_band(job, item, name), []
    for coarse_column, coarse_row in ((5, 5), (9, 3), (12, 14)):
        cells = [(step * coarse_column + x, step * coarse_row + y) for x in range(step) for y in range(step)]
        body = {"points": [list(place(item, *cell)) for cell in cells]}
        told = server.post(of(item), json=body).json()["spectra"]
        values = [each["source_bands"]["reflectance"][each["source_bands"]["name"].index(name)] for each in told]
        offsets.append(np.mean(values) / source[coarse_row, coarse_column] - 1)
    assert np.abs(offsets).max() < 0.1


def test_many_places_come_in_their_order_with_what_became_of_each(server, item):
    points = [place(item, *each) for each in PLACES]
    body = {"points": [list(points[0]), [0.0, 0.0], list(points[1]), list(points[2])]}
    told = server.post(of(item), json=body).json()["spectra"]
    assert [each["status"] for each in told] == ["ok", "outside the product", "ok", "ok"]
    for number, (column, row) in zip((0, 2, 3), PLACES, strict=False):
        alone = ask(server, item, column, row).json()
        assert told[number]["reflectance"] == alone["reflectance"]
        assert told[number]["pixel"] == alone["pixel"]


def test_the_mean_of_a_small_area_is_that_of_its_pixels(server, item):
    corners = [place(item, *each) for each in ((10, 10), (30, 10), (30, 25), (10, 25), (10, 10))]
    area = {"type": "Polygon", "coordinates": [corners]}
    (told,) = server.post(of(item), json={"area": area}).json()["spectra"]
    with rasterio.open(path_of(item, "hsi")) as file:
        cube = file.read(window=rasterio.windows.Window(11, 10, 20, 15)).reshape(file.count, -1) * 1e-4
    assert told["pixels"] == {"inside": 300, "with_data": 300}
    assert told["reflectance"] == pytest.approx(cube.mean(axis=1), abs=2e-4)
    assert told["spread"] == pytest.approx(cube.std(axis=1), abs=2e-4)
    assert set(told["flag_shares"]) <= set(BITS)
    lon, lat = place(item, 40, 40)
    tiny = [[lon, lat], [lon + 1e-6, lat], [lon, lat + 1e-6], [lon, lat]]
    (told,) = server.post(of(item), json={"area": {"type": "Polygon", "coordinates": [tiny]}}).json()["spectra"]
    assert told["pixels"] == {"inside": 1, "with_data": 1}
    assert told["reflectance"] == ask(server, item, 40, 40).json()["reflectance"]


@pytest.mark.parametrize("how", [{"f": "csv"}, {"accept": "text/csv"}])
def test_a_table_says_the_same(server, item, how):
    told = ask(server, item, 60, 60).json()
    lon, lat = place(item, 60, 60)
    parameters = {"lon": lon, "lat": lat} | ({"f": "csv"} if "f" in how else {})
    answer = server.get(of(item), params=parameters, headers={"accept": how.get("accept", "*/*")})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    channels = [row for row in rows if row["kind"] == "channel"]
    assert [float(row["reflectance"]) for row in channels] == told["reflectance"]
    assert [float(row["sigma"]) for row in channels] == told["sigma"]
    assert [float(row["wavelength_nm"]) for row in channels] == told["wavelength_nm"]
    assert float(channels[0]["measured_fraction"]) == told["measured_fraction"]["blue"]
    bands = [row for row in rows if row["kind"] == "source_band"]
    assert [row["name"] for row in bands] == list(SOURCE_BAND_NAMES)
    assert [float(row["reflectance"]) for row in bands] == told["source_bands"]["reflectance"]
    assert {row["item"] for row in rows} == {item["id"]}


def test_outside_and_nothing_known_are_told_apart(server, items):
    assert server.get(of(items[0]), params={"lon": 0, "lat": 0}).status_code == 404
    assert "outside" in server.get(of(items[0]), params={"lon": 0, "lat": 0}).json()["description"]
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1e-4, 0], [0, 1e-4], [0, 0]]]}
    assert server.post(of(items[0]), json={"area": far}).status_code == 404


def write_flag(item, column, row, bits):
    """Rewrite one pixel of a product's quality bits; returns what it was."""
    with rasterio.open(path_of(item, "qa"), "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        mask = file.read(1)
        before, mask[row, column] = mask[row, column], bits
        file.write(mask, 1)
    return before


def test_a_pixel_without_data_is_no_spectrum(job, item):
    before = write_flag(item, 3, 4, 1)
    with ProductReader(job.store, job.settings.resolved_storage) as reader:
        application = create_app(job.database, job.settings, routes=[partial(register_spectra, reader=reader)])
        with served(application) as url, httpx.Client(base_url=url, timeout=60) as client:
            answer = ask(client, item, 3, 4)
            assert answer.status_code == 422
            assert "no data" in answer.json()["description"]
            (told,) = client.post(of(item), json={"points": [list(place(item, 3, 4))]}).json()["spectra"]
            assert (told["status"], told["flags"]) == ("no data", ["nodata"])
            assert "reflectance" not in told
    write_flag(item, 3, 4, before)


def test_a_place_over_time(server, item, items):
    lon, lat = place(item, 60, 60)
    answer = server.get(f"/collections/{COLLECTION}/spectra", params={"lon": lon, "lat": lat}).json()
    assert [each["item"] for each in answer["spectra"]] == [item["id"]]
    assert answer["spectra"][0]["reflectance"] == ask(server, item, 60, 60).json()["reflectance"]
    later = {"lon": lon, "lat": lat, "datetime": "2020-01-01T00:00:00Z/.."}
    assert server.get(f"/collections/{COLLECTION}/spectra", params=later).json()["spectra"] == []
    assert server.get("/collections/none/spectra", params={"lon": lon, "lat": lat}).status_code == 404
    table = server.get(f"/collections/{COLLECTION}/spectra", params={"lon": lon, "lat": lat, "f": "csv"})
    assert len(table.text.splitlines()) == 1 + 172 + 12
    assert len(items) == 3


def test_more_products_than_are_kept_open_are_read_in_turns(server, items):
    for _ in range(2):
        for each in items:
            assert ask(server, each, 50, 50).status_code == 200


BAD = [
    ("lon", "181"), ("lat", "-91"), ("lon", "nan"), ("lat", "inf"), ("lon", "x"), ("lon", None), ("f", "xml"),
    ("lon", "file:///etc/passwd"),
]  # fmt: skip


@pytest.mark.parametrize(("parameter", "value"), BAD)
def test_a_bad_parameter_is_400_and_named(server, item, parameter, value):
    parameters = {"lon": "13.72", "lat": "48.22"} | {parameter: value}
    answer = server.get(of(item), params={name: text for name, text in parameters.items() if text is not None})
    assert answer.status_code == 400, answer.text
    assert parameter in answer.json()["description"]


POINT = {"type": "Point", "coordinates": [1, 2]}
HUGE = [[10, 40], [20, 40], [20, 50], [10, 50], [10, 40]]
BODIES = [
    {}, {"points": []}, {"points": [[1, 2, 3]]}, {"points": [["a", "b"]]}, {"points": [[0, 91]]},
    {"points": [[1, 2]] * 101}, {"points": [[1, 2]], "area": POINT}, {"area": POINT},
    {"area": {"type": "Polygon", "coordinates": []}}, {"area": {"type": "Polygon"}}, {"area": "file:///etc/passwd"},
    {"points": [[1, 2]], "href": "file:///etc/passwd"}, {"href": "http://127.0.0.1/"},
    {"area": {"type": "Polygon", "coordinates": [HUGE]}},
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=[str(number) for number in range(len(BODIES))])
def test_a_bad_body_is_refused(server, item, body):
    answer = server.post(of(item), json=body)
    assert answer.status_code in {400, 404}, answer.text
    assert "passwd" not in json.dumps(answer.json().get("detail", ""))


@pytest.mark.parametrize(
    "path", ["none", "..%2F..%2Fetc%2Fpasswd", "a%00b", "%5C%5Cserver%5Cshare", "file:%2F%2F%2Fetc%2Fpasswd"]
)
def test_no_path_reaches_another_file(server, path):
    answer = server.get(f"/collections/{COLLECTION}/items/{path}/spectra", params={"lon": 1, "lat": 1})
    assert answer.status_code == 404


def test_items_without_spectra_say_so(server):
    (model,) = server.get("/collections/explains2a-models/items").json()["features"]
    answer = server.get(f"/collections/explains2a-models/items/{model['id']}/spectra", params={"lon": 1, "lat": 1})
    assert answer.status_code == 404
    assert "no spectra" in answer.json()["description"]
    (told,) = server.get("/collections/explains2a-models/spectra", params={"lon": 1, "lat": 1}).json()["spectra"]
    assert (told["item"], told["status"], told["version"]) == (model["id"], "no spectra", None)


def test_files_that_cannot_be_read_are_not_shown(job, item):
    """The answer names neither path nor cause."""
    compact = path_of(item, "compact")
    shutil.move(compact, f"{compact}.away")
    try:
        with ProductReader(job.store, job.settings.resolved_storage) as reader:
            application = create_app(job.database, job.settings, routes=[partial(register_spectra, reader=reader)])
            with served(application) as url, httpx.Client(base_url=url, timeout=60) as client:
                answer = ask(client, item, 3, 4)
                lon, lat = place(item, 3, 4)
                (told,) = client.get(f"/collections/{COLLECTION}/spectra", params={"lon": lon, "lat": lat}).json()[
                    "spectra"
                ]
    finally:
        shutil.move(f"{compact}.away", compact)
    assert answer.status_code == 500
    assert "compact" not in answer.text
    assert (told["item"], told["status"]) == (item["id"], "unreadable")


def test_a_product_on_s3_gives_the_same(job, item, seaweed):
    """Files in a bucket are read by ranges with the store's own keys."""
    settings = StorageSettings(
        url="s3://products/spectra", endpoint_url=seaweed.endpoint,
        access_key=seaweed.admin.access, secret_key=seaweed.admin.secret,
    )  # fmt: skip
    store, assets = open_store(settings), {}
    for key, asset in item["assets"].items():
        name = path_of(item, key).rpartition("/")[2]
        store.put(name, Path(path_of(item, key)).read_bytes(), content_type=asset["type"])
        assets[key] = {**asset, "href": store.href(name)}
    pixels = Pixels(np.array([0, 60, 119]), np.array([0, 60, 7]))
    copy = {**item, "assets": assets}
    with (
        ProductReader(job.store, job.settings.resolved_storage) as local,
        ProductReader(store, settings) as remote,
        ThreadPoolExecutor(3) as pool,
    ):
        here = local.read(item, pixels)
        there, *others = pool.map(lambda _: remote.read(copy, pixels), range(6))
    for name in ("reflectance", "sigma", "flags", "seen", "residual"):
        for read in (there, *others):
            np.testing.assert_array_equal(getattr(read, name), getattr(here, name))
    assert there.explanation.keys() == here.explanation.keys()
