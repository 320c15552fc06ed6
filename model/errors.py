"""What can go wrong in the model, one named class per cause. None of them heals by trying again."""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Base of every error the model raises on purpose."""

    transient: ClassVar[bool] = False


class InvalidImage(ModelError):
    """The multispectral arrays have the wrong shape, type, band count or alignment."""


class UnknownPlatform(ModelError):
    """The scene's platform has no spectral response in the weights."""


class WeightsMissing(ModelError):
    """There is no weights file or card where one was expected."""


class WeightsCorrupted(ModelError):
    """The weights do not match the digest on their card, or lack a tensor."""


class WeightsVersionMismatch(ModelError):
    """The weights were written for another format version of this code."""


class DeviceUnavailable(ModelError):
    """The requested device does not exist on this machine."""


class InvalidResponseTable(ModelError):
    """A table of spectral responses is malformed."""


class InvalidSpectra(ModelError):
    """A cube or table of spectra cannot be used: missing arrays, too few bands, or no valid pixel."""


class DataMissing(ModelError):
    """Training data that the command needs is not in the given folder."""
