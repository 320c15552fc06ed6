"""Where assets may lie: below the folder, or on the service's own hosts, and nowhere else."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from infra.scene.access import asset_access
from infra.scene.errors import ForbiddenAsset
from infra.settings import FolderSourceSettings, SafeSourceSettings, StacSourceSettings

HOST = "sentinel-cogs.s3.us-west-2.amazonaws.com"
BLOB = "sentinel2l2a01.blob.core.windows.net"


def service(kind: str = "earth_search", **settings: object) -> StacSourceSettings:
    return StacSourceSettings(name="live", kind=kind, **settings)


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "items"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "B02.tif").write_bytes(b"x")
    (tmp_path / "secret.tif").write_bytes(b"x")
    (inside / "escape").symlink_to(tmp_path)
    (inside / "link.tif").symlink_to(inside / "deep" / "B02.tif")
    return inside


@pytest.mark.parametrize("href", ["deep/B02.tif", "./deep/B02.tif", "deep/../deep/B02.tif", "link.tif"])
def test_paths_below_the_folder_are_found(folder, href):
    for settings in (FolderSourceSettings(name="f", path=folder), SafeSourceSettings(name="s", path=folder)):
        location = asset_access(settings).locate(href)
        assert location.path == str(folder / "deep" / "B02.tif")
        assert not location.remote


def test_file_urls_below_the_folder_are_found(folder):
    href = (folder / "deep" / "B02.tif").as_uri()
    assert asset_access(FolderSourceSettings(name="f", path=folder)).locate(href).path.endswith("deep/B02.tif")


@pytest.mark.parametrize(
    "href",
    [
        "../secret.tif",
        "deep/../../secret.tif",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///etc/%70asswd",
        "file://elsewhere/etc/passwd",
        "escape/secret.tif",
        "/vsimem/x.tif",
        "/vsicurl/http://127.0.0.1/x.tif",
        "/vsizip/deep/B02.tif",
        "deep/B02.tif\0.png",
    ],
)
def test_paths_outside_the_folder_are_refused(folder, href):
    with pytest.raises(ForbiddenAsset):
        asset_access(FolderSourceSettings(name="f", path=folder)).locate(href)


@pytest.mark.parametrize("kind", ["earth_search", "planetary_computer", "cdse"])
@pytest.mark.parametrize("href", ["file:///etc/passwd", "/etc/passwd", "../../etc/passwd", "B02.tif", "/vsis3/x/y.tif"])
def test_remote_items_never_name_local_files(kind, href):
    with pytest.raises(ForbiddenAsset, match="local path"):
        asset_access(service(kind)).locate(href)


@pytest.mark.parametrize(
    "href",
    [
        "http://" + HOST + "/B02.tif",
        "ftp://" + HOST + "/B02.tif",
        "gs://" + HOST + "/B02.tif",
        "https://evil.example/B02.tif",
        "https://" + HOST + ".evil.example/B02.tif",
        "https://" + HOST + ":8443/B02.tif",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/B02.tif",
        "https://[::1]/B02.tif",
        "https://[bad/B02.tif",
        "https://user:secret@" + HOST + "/B02.tif",
        "https://" + HOST + "/B02.tif?sig=secret",
        "https://" + HOST + "/B02.tif#x",
        "https://" + HOST + "/a/../B02.tif",
        "https://" + HOST + "/a b.tif",
        "https://" + HOST + "/%2e%2e/B02.tif",
        "https://" + HOST + "/B02.tif\n.png",
        "s3://other-bucket/B02.tif",
        "s3://sentinel-cogs/../other/B02.tif",
        "VRT://" + HOST,
    ],
)
def test_other_places_are_refused_without_repeating_secrets(href):
    with pytest.raises(ForbiddenAsset) as caught:
        asset_access(service()).locate(href)
    assert "secret" not in str(caught.value)


def test_own_hosts_and_buckets_are_opened():
    access = asset_access(service())
    assert access.locate(f"https://{HOST}/a/B02.tif").path == f"/vsicurl/https://{HOST}/a/B02.tif"
    assert access.locate("s3://sentinel-cogs/a/B02.tif").path == "/vsis3/sentinel-cogs/a/B02.tif"
    assert access.locate(f"https://{HOST}/a/B02.tif").remote
    assert access.options["AWS_NO_SIGN_REQUEST"] == "YES"


def test_operator_may_add_hosts():
    access = asset_access(service(asset_hosts=("Mirror.example", "http://10.0.0.7:9000")))
    assert access.locate("https://mirror.example/B02.tif").remote
    assert access.locate("http://10.0.0.7:9000/B02.tif").remote
    with pytest.raises(ForbiddenAsset):
        access.locate("http://mirror.example/B02.tif")
    with pytest.raises(ForbiddenAsset):
        access.locate("https://10.0.0.7:9000/B02.tif")


def test_folder_items_may_point_to_open_archives_only(folder):
    access = asset_access(FolderSourceSettings(name="f", path=folder))
    assert access.locate(f"https://{HOST}/B02.tif").remote
    with pytest.raises(ForbiddenAsset):
        access.locate(f"https://{BLOB}/B02.tif")


def test_copernicus_keys_reach_gdal_and_nothing_else():
    access = asset_access(service("cdse", access_key=SecretStr("AKID"), secret_key=SecretStr("hush")))
    assert access.locate("s3://eodata/Sentinel-2/B02.jp2").path == "/vsis3/eodata/Sentinel-2/B02.jp2"
    assert access.options["AWS_S3_ENDPOINT"] == "eodata.dataspace.copernicus.eu"
    assert access.options["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert "AWS_NO_SIGN_REQUEST" not in access.options
    assert access.keys == {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(access)
    assert "hush" not in repr(access.environment())


def test_keys_end_with_the_block():
    from rasterio.env import getenv, hasenv

    access = asset_access(service("cdse", access_key=SecretStr("AKID"), secret_key=SecretStr("hush")))
    with access.environment():
        assert getenv()["AWS_SECRET_ACCESS_KEY"] == "hush"
    assert not hasenv()


def test_keys_of_the_machine_are_not_looked_up(monkeypatch, tmp_path):
    """With AWS's variables set, rasterio would start a session of its own for every read."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    environment = asset_access(FolderSourceSettings(name="f", path=tmp_path)).environment()
    assert environment.session.get_credential_options() == {}


def test_other_endpoint_and_requester_pays():
    access = asset_access(service("cdse", s3_endpoint_url="http://127.0.0.1:9000", requester_pays=True))
    assert access.options["AWS_S3_ENDPOINT"] == "127.0.0.1:9000"
    assert access.options["AWS_HTTPS"] == "NO"
    assert access.options["AWS_REQUEST_PAYER"] == "requester"


def test_planetary_computer_files_are_opened_signed():
    access = asset_access(service("planetary_computer"))
    location = access.locate(f"https://{BLOB}/a/B02.tif")
    assert location.path.startswith("/vsicurl?pc_url_signing=yes&pc_collection=sentinel-2-l2a&url=https%3A%2F%2F")
    assert location.shown == f"https://{BLOB}/a/B02.tif"
    assert access.options["VSICURL_PC_SAS_TOKEN_URL"] == "https://planetarycomputer.microsoft.com/api/sas/v1/token/"


@hypothesis.settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_reaches_beyond_the_allowed_places(tmp_path_factory, href):
    root = tmp_path_factory.getbasetemp()
    for source in (service(), FolderSourceSettings(name="f", path=root)):
        try:
            location = asset_access(source).locate(href)
        except ForbiddenAsset:
            continue
        assert location.path == str(root) or location.path.startswith(
            (f"{root}/", f"/vsicurl/https://{HOST}/", "/vsis3/")
        )
