"""A SAFE product: metadata by the book, twelve JPEG 2000 bands read in full."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box, shape

from infra.scene import Window, open_scene, survey
from infra.scene.errors import ForbiddenAsset, MissingBand, UnreadableRaster
from infra.settings import SafeSourceSettings
from infra.sources import Acquisition, Unreadable, open_source
from infra.sources.errors import SourceUnavailable
from infra.sources.footprint import outline
from model.bands import BANDS_BY_RESOLUTION


def _factory():
    spec = importlib.util.spec_from_file_location("scene_factory", Path(__file__).with_name("scene_factory.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("scene_factory", module)
    spec.loader.exec_module(module)
    return module


made = _factory()

REAL = made.SHARED / "stac" / "safe_metadata"
NAME = "S2A_MSIL2A_20230617T113321_N0509_R080_T29UPU_20230617T174601"
GRANULE = "L2A_T29UPU_A041706_20230617T113324"
PHYSICAL = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
IMAGES = [
    (band, metres)
    for metres, bands in {
        10: ("B02", "B03", "B04", "B08", "AOT", "TCI"),
        20: ("B01", "B02", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL"),
        60: ("B01", "B02", "B09", "SCL"),
    }.items()
    for band in bands
]


def product_xml(name: str = NAME, *, offsets: bool = True, outline_text: str = "44 -7 44 -6 45 -6 45 -7 44 -7") -> str:
    """Metadata of the real structure, cut down to what matters."""
    images = "".join(
        f"<IMAGE_FILE>GRANULE/{GRANULE}/IMG_DATA/R{metres}m/T29UPU_20230617T113321_{band}_{metres}m</IMAGE_FILE>"
        for band, metres in IMAGES
    )
    spectral = "".join(f'<Spectral_Information bandId="{n}" physicalBand="{band}"/>' for n, band in enumerate(PHYSICAL))
    added = "".join(f'<BOA_ADD_OFFSET band_id="{n}">-1000</BOA_ADD_OFFSET>' for n in range(13)) if offsets else ""
    baseline = name.split("_")[3]
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>2023-06-17T11:33:21.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{name}.SAFE</PRODUCT_URI><PROCESSING_BASELINE>{baseline[1:3]}.{baseline[3:]}</PROCESSING_BASELINE>
<GENERATION_TIME>2023-06-17T17:46:01.000000Z</GENERATION_TIME><Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
<SENSING_ORBIT_NUMBER>80</SENSING_ORBIT_NUMBER></Datatake><Product_Organisation><Granule_List><Granule>{images}</Granule>
</Granule_List></Product_Organisation></Product_Info><Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
<BOA_ADD_OFFSET_VALUES_LIST>{added}</BOA_ADD_OFFSET_VALUES_LIST>
<Spectral_Information_List>{spectral}</Spectral_Information_List></Product_Image_Characteristics></n1:General_Info>
<n1:Geometric_Info><Product_Footprint><EXT_POS_LIST>{outline_text}</EXT_POS_LIST></Product_Footprint></n1:Geometric_Info>
<n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>15.5</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>"""


TILE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
<n1:General_Info><SENSING_TIME metadataLevel="Standard">2023-06-17T11:36:55.578Z</SENSING_TIME></n1:General_Info>
<n1:Geometric_Info><Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:32629</HORIZONTAL_CS_CODE></Tile_Geocoding>
<Tile_Angles><Sun_Angles_Grid><Zenith/></Sun_Angles_Grid><Mean_Sun_Angle><ZENITH_ANGLE unit="deg">24.25</ZENITH_ANGLE>
</Mean_Sun_Angle></Tile_Angles></n1:Geometric_Info></n1:Level-2A_Tile_ID>"""


class Product:
    """A product folder with metadata and lossless JPEG 2000 bands."""

    def __init__(self, root: Path, name: str = NAME) -> None:
        self.root = root
        self.folder = root / f"{name}.SAFE"
        self.granule = self.folder / "GRANULE" / GRANULE
        self.granule.mkdir(parents=True)
        self.scene = made.SceneFactory(root, width=240, height=180)
        self.write_metadata(product_xml(name))
        (self.granule / "MTD_TL.xml").write_text(TILE_XML)

    def write_metadata(self, text: str) -> None:
        (self.folder / "MTD_MSIL2A.xml").write_text(text)

    def path(self, band: str) -> Path:
        metres = self.scene.metres(band)
        return self.granule / "IMG_DATA" / f"R{metres}m" / f"T29UPU_20230617T113321_{band}_{metres}m.jp2"

    def write_bands(self) -> None:
        for band, stored in self.scene.stored.items():
            path = self.path(band)
            path.parent.mkdir(parents=True, exist_ok=True)
            made.write_raster(path, stored, driver="JP2OpenJPEG", BLOCKXSIZE=64, BLOCKYSIZE=64,
                              **self.scene.profile(band))  # fmt: skip

    @property
    def settings(self) -> SafeSourceSettings:
        return SafeSourceSettings(name="safe", path=self.root)

    def search(self, **kwargs: object) -> list[Acquisition | Unreadable]:
        return list(open_source(self.settings).search(made.region(), kwargs.get("since", made.LONG_AGO)))


@pytest.fixture
def product(tmp_path):
    return Product(tmp_path / "products")


def reason(product: Product) -> str:
    [answer] = product.search()
    assert isinstance(answer, Unreadable)
    return answer.reason


def test_metadata_become_an_acquisition(product):
    [found] = product.search()
    assert found.key.id == "S2A_20230617T113321_29UPU_R080"
    assert found.revision.baseline == "05.09"
    assert found.revision.generated == datetime(2023, 6, 17, 17, 46, 1, tzinfo=UTC)
    assert (found.cloud_cover, found.sun_zenith) == (0.155, 24.25)
    assert found.bbox == (-7, 44, -6, 45)
    assert found.datetime == datetime(2023, 6, 17, 11, 36, 55, 578_000, tzinfo=UTC)
    assert found.assets["B01"].href.endswith("R60m/T29UPU_20230617T113321_B01_60m.jp2")
    assert found.assets["B02"].href.endswith("R10m/T29UPU_20230617T113321_B02_10m.jp2")
    assert len(found.assets) == 13
    assert open_source(product.settings).restore(json.loads(json.dumps(found.item))) == found


def test_product_is_read_in_full(product):
    product.write_bands()
    [found] = product.search()
    with open_scene(found, product.settings) as scene:
        assert scene.radiometry.rule == "declared by the item"
        pixels = scene.read(scene.grid.whole)
        part = scene.read(Window(60, 48, 126, 90))
    for stack, metres in ((pixels.b10, 10), (pixels.b20, 20), (pixels.b60, 60)):
        for plane, name in zip(stack, BANDS_BY_RESOLUTION[metres], strict=True):
            np.testing.assert_allclose(plane, made.whole(product.scene.stored[name], 1e-4, -0.1), atol=1e-6)
    np.testing.assert_array_equal(pixels.scl, product.scene.stored["SCL"])
    np.testing.assert_array_equal(part.b10, pixels.b10[:, 48:138, 60:186])
    np.testing.assert_array_equal(part.b60, pixels.b60[:, 8:23, 10:31])


@pytest.mark.parametrize("path", sorted(REAL.glob("*.SAFE")), ids=lambda path: path.name[:26])
def test_real_metadata_and_jpeg2000_bands_are_read_in_full(path, tmp_path):
    shutil.copytree(path, tmp_path / path.name, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(tmp_path):
        Path(folder).chmod(0o700)  # the copied folders may be read-only
    settings = SafeSourceSettings(name="safe", path=tmp_path)
    [found] = open_source(settings).search(made.region(), made.LONG_AGO)
    assert isinstance(found, Acquisition)
    assert found.key.id == "_".join((path.name[:3], path.name[11:26], path.name[39:44], path.name[33:37]))
    epsg = int(found.item["properties"]["proj:code"].removeprefix("EPSG:"))
    factory = made.SceneFactory(tmp_path, width=240, height=240, epsg=epsg, left=300_000, top=7_400_040)
    for name, stored in factory.stored.items():
        file = tmp_path / found.assets[name].href
        file.parent.mkdir(parents=True, exist_ok=True)
        made.write_raster(file, stored, driver="JP2OpenJPEG", **factory.profile(name))
    with open_scene(found, settings) as scene:
        pixels = scene.read(scene.grid.whole)
        assert survey(scene, scene.grid.whole).valid_fraction == 1
    for stack, metres in ((pixels.b10, 10), (pixels.b20, 20), (pixels.b60, 60)):
        for plane, name in zip(stack, BANDS_BY_RESOLUTION[metres], strict=True):
            np.testing.assert_allclose(plane, made.whole(factory.stored[name], 1e-4, -0.1), atol=1e-6)


def test_real_metadata_are_there_in_ci():
    if os.environ.get("CI") == "true":
        assert len(list(REAL.glob("*.SAFE"))) == 2
    elif not REAL.is_dir():
        pytest.skip("the real metadata are not on this machine")


def test_before_baseline_four_there_is_no_offset(tmp_path):
    name = NAME.replace("N0509", "N0301")
    product = Product(tmp_path, name)
    product.write_metadata(product_xml(name, offsets=False))
    product.write_bands()
    [found] = product.search()
    with open_scene(found, product.settings) as scene:
        assert scene.radiometry.rule == "baseline 03.01"
        pixels = scene.read(scene.grid.whole)
    np.testing.assert_allclose(pixels.b10[0], made.whole(product.scene.stored["B02"]), atol=1e-6)


def test_the_folder_may_be_the_product_itself(product):
    product.write_bands()
    settings = SafeSourceSettings(name="safe", path=product.folder)
    [found] = open_source(settings).search(made.region(), made.LONG_AGO)
    with open_scene(found, settings) as scene:
        assert scene.read(Window(0, 0, 6, 6)).valid.all()


def test_only_what_arrived_since_is_listed(product):
    assert product.search(since=datetime.now(UTC) - timedelta(minutes=5))
    assert not product.search(since=datetime.now(UTC) + timedelta(minutes=5))


def test_copied_product_counts_as_new_though_its_times_are_old(product):
    for path in (product.folder / "MTD_MSIL2A.xml", product.folder):
        os.utime(path, (0, 0))
    assert product.search(since=datetime.now(UTC) - timedelta(minutes=5))


def test_entity_bomb_is_refused(product):
    bomb = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    product.write_metadata(product_xml().replace("?>\n", f"?>\n{bomb}\n", 1).replace("15.5", "&b;"))
    assert "entities, which is refused" in reason(product)


def test_external_entity_is_refused(product):
    attack = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    text = TILE_XML.replace("?>\n", f"?>\n{attack}\n", 1).replace("24.25", "&a;")
    (product.granule / "MTD_TL.xml").write_text(text)
    assert "MTD_TL.xml declares a document type" in reason(product)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</n1:General_Info>", "", "not XML"),
        ("PRODUCT_URI", "OTHER_TAG", "no PRODUCT_URI"),
        ("BOA_QUANTIFICATION_VALUE ", "OTHER ", "not XML"),
        (">80<", ">eighty<", "eighty"),
        ('band_id="3"', 'band_id="30"', "band_id '30'"),
        (">-1000<", ">much<", "much"),
        ("44 -7 44 -6", "44 -7 44", "EXT_POS_LIST"),
        ("44 -7 44 -6 45 -6 45 -7 44 -7", "44 -7 44 -7 44 -7", "no area"),
        ("_MSIL2A_", "_MSIL1C_", "level 1C"),
        ("GRANULE/", "../../", "does not lie in GRANULE"),
        ("44 -7 44 -6", "44 x 44 -6", "'x'"),
    ],
)
def test_malformed_metadata_say_why(product, old, new, said):
    product.write_metadata(product_xml().replace(old, new))
    assert said in reason(product)


@pytest.mark.parametrize("name", ["MTD_TL.xml", "MTD_MSIL2A.xml"])
def test_missing_metadata_are_unreadable(product, name):
    next(product.root.rglob(name)).unlink()
    assert f"{name} cannot be read" in reason(product)


def test_one_bad_product_does_not_stop_the_rest(product):
    (product.root / "S2A_broken.SAFE").mkdir()
    (product.root / "a file.SAFE").write_text("not a folder")
    answers = product.search()
    assert [type(answer).__name__ for answer in answers] == ["Acquisition", "Unreadable"]


def test_missing_folder_is_an_outage(tmp_path):
    settings = SafeSourceSettings(name="gone", path=tmp_path / "nowhere")
    with pytest.raises(SourceUnavailable, match="nowhere"):
        list(open_source(settings).search(made.region(), made.LONG_AGO))


def test_missing_image_names_band_and_path(product):
    product.write_bands()
    product.path("B11").unlink()
    [found] = product.search()
    with pytest.raises(UnreadableRaster, match=r"band B11 .*_B11_20m\.jp2"):
        open_scene(found, product.settings)


def test_truncated_image_is_found_at_opening(product):
    product.write_bands()
    path = product.path("B08")
    path.write_bytes(path.read_bytes()[:-1000])
    [found] = product.search()
    with pytest.raises(UnreadableRaster, match=r"band B08 .* is truncated: at least 1000 bytes"):
        open_scene(found, product.settings)


def test_image_that_metadata_do_not_list_is_missing(product):
    product.write_metadata(product_xml().replace("_B09_60m", "_B99_60m"))
    [found] = product.search()
    with pytest.raises(MissingBand, match="B09"):
        open_scene(found, product.settings)


def test_metadata_cannot_lead_out_of_the_folder(product):
    text = product_xml().replace(f"{GRANULE}/IMG_DATA/R20m/T29UPU_20230617T113321_B11", "../../../../etc/T_B11")
    product.write_metadata(text)
    product.write_bands()
    [found] = product.search()
    with pytest.raises(ForbiddenAsset, match="outside"):
        open_scene(found, product.settings)


def test_outline_across_the_antimeridian_is_cut_in_two():
    ring = [(179.5, 65), (-179.5, 65), (-179.5, 66), (179.5, 66), (179.5, 65)]
    area = shape(outline(ring))
    assert area.geom_type == "MultiPolygon"
    assert area.equals(box(179.5, 65, 180, 66) | box(-180, 65, -179.5, 66))
    assert outline([(1, 2), (3, 2), (3, 4), (1, 4)])["type"] == "Polygon"
