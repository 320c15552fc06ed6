"""Spectra of single pixels of any instrument: all bands in, 172 channels with their uncertainty out.

This is the spectral half of the model. It fits an instrument whose bands share one resolution (OLI: seven bands at
30 m), where the fusion is the identity; for Sentinel-2 it serves spectra that stand alone, such as field measurements
or twelve bands already at one resolution, with the very weights of the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.errors import InvalidImage, UnknownPlatform, WeightsCorrupted
from model.inference import choose_device
from model.instruments import INSTRUMENTS
from model.mixture import SpectralPosterior, chunk_size
from model.parameters import read_weights
from model.uncertainty import GroupUncertainty, spread_over_channels
from model.unfolding import Unfolding

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from model.card import ModelCard
    from model.instruments import Instrument
    from model.parameters import Parameters


@dataclass(frozen=True)
class PixelEstimate:
    """What is known of n pixels."""

    reflectance: NDArray[np.float32]
    """(172, n) estimate, reflectance; nan where a band was not finite."""
    sigma: NDArray[np.float32]
    """(172, n) one sigma, reflectance; nan likewise."""
    out_of_domain: NDArray[np.bool_]
    """(n,) whether the bands are unlike everything the model was fitted to; true where a band was not finite."""
    coefficients: NDArray[np.float32]
    """(k, n) coefficients in the subspace; nan likewise."""


@dataclass(frozen=True)
class Spectral:
    """The prepared matrices of one platform, and the raw answer to its bands."""

    posterior: SpectralPosterior
    unfolding: Unfolding
    uncertainty: GroupUncertainty

    def __call__(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Coefficients (k, N), calibrated group sigma (8, N) and distance (N,) of finite bands (bands, N)."""
        found = self.unfolding(y)
        nothing = torch.zeros_like(found.scale)  # no band is coarser than another
        sigma, _ = self.uncertainty(y / found.scale, found.weights, found.scale, nothing, nothing)
        return found.coefficients, sigma, found.distance


def prepare(parameters: Parameters, platform: str, device: torch.device) -> Spectral:
    """Prepare one platform's matrices.

    Args:
        parameters: fitted to any instrument.
        platform: one of its platforms.
        device: where to work.

    Raises:
        UnknownPlatform: if the weights hold no responses for it.
    """
    sensor = parameters.sensors.get(platform)
    if sensor is None:
        known = ", ".join(parameters.sensors)
        raise UnknownPlatform(f"the weights hold no spectral responses for platform {platform!r}; they know {known}")
    observation = sensor.responses @ parameters.basis.components.T
    posterior = SpectralPosterior(sensor.prior, observation, device)
    unfolding = Unfolding(posterior, observation, parameters.unfolding, parameters.basis.components.shape[1])
    uncertainty = GroupUncertainty(posterior, parameters.basis, parameters.floor, parameters.calibration)
    return Spectral(posterior, unfolding, uncertainty)


class PixelModel:
    """Weights of one instrument, ready to estimate spectra pixel by pixel."""

    def __init__(self, parameters: Parameters, card: ModelCard, device: torch.device) -> None:
        instrument = INSTRUMENTS.get(card.instrument)
        if instrument is None:
            raise WeightsCorrupted(
                f"the weights are for instrument {card.instrument!r}, which this code does not know; "
                f"it knows {', '.join(INSTRUMENTS)}"
            )
        for platform, sensor in parameters.sensors.items():
            if len(sensor.responses) != len(instrument.bands):
                raise WeightsCorrupted(
                    f"the weights hold {len(sensor.responses)} bands of {platform}; "
                    f"{instrument.name} has {len(instrument.bands)}"
                )
        self.parameters = parameters
        self.card = card
        self.device = device
        self.instrument: Instrument = instrument
        self._platforms = {platform: prepare(parameters, platform, device) for platform in parameters.sensors}

    def estimate(self, bands: NDArray[np.floating], platform: str) -> PixelEstimate:
        """Estimate spectra.

        Args:
            bands: (bands, n) float32 surface reflectance, 0-1, in the order of ``instrument.bands``; nan = nodata.
            platform: name as STAC writes it.

        Returns:
            The estimate of every pixel; a pixel with any band that is not finite is nan and out of domain.

        Raises:
            UnknownPlatform: if the weights hold no responses for the platform.
            InvalidImage: if the bands are not (bands, n) numbers.
        """
        names = self.instrument.bands
        tools = self._platforms.get(platform)
        if tools is None:
            raise UnknownPlatform(
                f"platform {platform!r} is none of {self.instrument.name}'s in these weights: "
                f"{', '.join(self._platforms)}"
            )
        bands = np.asarray(bands)
        if bands.ndim != 2 or len(bands) != len(names) or not np.issubdtype(bands.dtype, np.floating):
            raise InvalidImage(
                f"bands have shape {bands.shape} and type {bands.dtype}; expected ({len(names)}, n) floating-point "
                f"reflectance in the order {', '.join(names)}"
            )
        known = np.isfinite(bands).all(axis=0)
        y = torch.as_tensor(np.ascontiguousarray(bands[:, known], dtype=np.float32), device=self.device)
        k, n = self.parameters.basis.dimension, bands.shape[1]
        coefficients = np.full((k, n), np.nan, np.float32)
        groups = np.full((len(self.parameters.calibration.alpha), n), np.nan, np.float32)
        outside = np.ones(n, bool)
        if known.any():
            with torch.inference_mode():
                parts = [tools(piece.contiguous()) for piece in torch.split(y, chunk_size(y.device), dim=1)]
            c, sigma, distance = (torch.cat(list(part), dim=-1).cpu().numpy() for part in zip(*parts, strict=True))
            coefficients[:, known], groups[:, known] = c, sigma
            outside[known] = distance > self.parameters.calibration.distance_limit
        return PixelEstimate(
            self.parameters.basis.expand(coefficients).astype(np.float32),
            spread_over_channels(groups, self.parameters.calibration.profile),
            outside,
            coefficients,
        )


def load_pixel_model(weights: Path | None = None, device: str = "cpu") -> PixelModel:
    """Read weights of any instrument.

    Args:
        weights: folder with ``model.safetensors`` and ``card.json``; the shipped Sentinel-2 ones unless told.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        WeightsMissing: if a file is absent.
        WeightsCorrupted: if the weights do not belong to their card, or to no instrument known here.
        WeightsVersionMismatch: if they have another format.
        DeviceUnavailable: if there is no such device.
    """
    parameters, card = read_weights(weights)
    return PixelModel(parameters, card, choose_device(device))
