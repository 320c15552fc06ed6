"""Addresses under which anybody can read a stored file for a while, made without asking the store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import StorageSettings


def s3_signer(settings: StorageSettings, seconds: int) -> Callable[[str], str]:
    """Return what signs the ``s3://`` address of a file with the store's own access key.

    Args:
        settings: The store; where it has no key, the environment's is taken.
        seconds: How long a signed address can be read.
    """
    key, secret = settings.access_key, settings.secret_key
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or "us-east-1",
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"} if settings.endpoint_url else None),
    )

    def sign(href: str) -> str:
        parts = urlsplit(href)
        where = {"Bucket": parts.netloc, "Key": parts.path.removeprefix("/")}
        return str(client.generate_presigned_url("get_object", Params=where, ExpiresIn=seconds))

    return sign
