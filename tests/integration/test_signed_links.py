"""Signed links against a real store: read without a key, and only what was signed."""

import httpx
import pytest

from infra.settings import StorageSettings
from infra.storage.s3 import S3Store
from infra.storage.signing import s3_signer
from tests.seaweed import Seaweed

pytestmark = pytest.mark.server


def test_signed_addresses_are_read_without_a_key_and_others_are_not(tmp_path):
    server = Seaweed(tmp_path).start()
    try:
        server.make_bucket("products")
        settings = StorageSettings(
            url="s3://products/deep", endpoint_url=server.endpoint, access_key=server.admin.access,
            secret_key=server.admin.secret,
        )  # fmt: skip
        S3Store(settings).put("an-item/hsi.tif", b"spectra", content_type="image/tiff")
        signed = s3_signer(settings, 60)("s3://products/deep/an-item/hsi.tif")
        assert httpx.get(signed).content == b"spectra"
        assert httpx.get(signed.split("?")[0]).status_code == 403
        assert httpx.get(signed.replace("hsi.tif", "compact.tif")).status_code == 403
        assert server.admin.secret not in signed
    finally:
        server.stop()
