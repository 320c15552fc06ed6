"""Hands a store's keys to GDAL. rasterio refuses them as plain options and would want boto3 for its own session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rasterio.session import Session

if TYPE_CHECKING:
    from pydantic import SecretStr


class KeySession(Session):  # type: ignore[misc]
    """An access key and its secret as a session of `rasterio.Env`."""

    def __init__(self, access_key: SecretStr, secret_key: SecretStr) -> None:
        """Keep the keys.

        Args:
            access_key: S3 access key.
            secret_key: Its secret.
        """
        self._access_key, self._secret_key = access_key, secret_key

    @classmethod
    def hascreds(cls, config: dict[str, str]) -> bool:
        """Tell whether the configuration carries keys already."""
        return {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= config.keys()

    def get_credential_options(self) -> dict[str, str]:
        """Give GDAL's options for the keys."""
        return {
            "AWS_ACCESS_KEY_ID": self._access_key.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self._secret_key.get_secret_value(),
        }
