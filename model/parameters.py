"""The model's parameters as plain arrays, and their file.

Fitted statistics and the numbers of two small networks: float64 arrays in one safetensors file beside its card.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from model.card import CARD_NAME, SHIPPED_WEIGHTS, WEIGHTS_NAME, ModelCard, load_card
from model.errors import WeightsCorrupted, WeightsMissing
from model.mixture import MixturePrior
from model.refinement import RefinementWeights
from model.subspace import Basis
from model.uncertainty import Calibration
from model.unfolding import UnfoldingWeights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sensor:
    """What the weights hold for one platform."""

    responses: NDArray[np.float64]
    """(bands, 172) D; the first row is the coastal band's regression on the channels, the others are the responses."""
    loss: NDArray[np.float64]
    """(bands,) fraction of each band's response outside the grid."""
    prior: MixturePrior
    """The spectral prior with this platform's noise."""


@dataclass(frozen=True)
class Parameters:
    """All fitted statistics of the model."""

    basis: Basis
    """The subspace."""
    steps: NDArray[np.float64]
    """(k,) storage step of each coefficient, reflectance."""
    sensors: Mapping[str, Sensor]
    """Platform -> responses and prior."""
    floor: NDArray[np.float64]
    """(172,) variance of scaled spectra outside the subspace."""
    calibration: Calibration
    """Scale factors of the uncertainty and the out-of-domain limit."""
    unfolding: UnfoldingWeights = field(default_factory=UnfoldingWeights)
    """The learned proximal steps; without any the closed-form posterior answers."""
    refinement: RefinementWeights | None = None
    """The learned correction of the fusion; without it guided injection stands alone."""

    def untrained(self) -> Parameters:
        """The same without its learned parts: fitted statistics only."""
        return replace(self, unfolding=UnfoldingWeights(), refinement=None)


_PRIOR = ("weight", "mean", "covariance")


def to_tensors(parameters: Parameters) -> dict[str, NDArray[np.float64]]:
    """Flat name -> array form of the parameters, as it is stored."""
    shared = next(iter(parameters.sensors.values())).prior
    tensors = {
        "basis.mean": parameters.basis.mean,
        "basis.components": parameters.basis.components,
        "basis.steps": parameters.steps,
        "basis.floor": parameters.floor,
        "prior.scale_floor": np.array([shared.scale_floor]),
        **{f"prior.{name}": getattr(shared, name) for name in _PRIOR},
        **{f"calibration.{name}": value for name, value in parameters.calibration.to_arrays().items()},
        **{f"unfolding.{name}": value for name, value in parameters.unfolding.to_arrays().items()},
    }
    if parameters.refinement is not None:
        tensors |= {f"refinement.{name}": value for name, value in parameters.refinement.to_arrays().items()}
    for platform, sensor in parameters.sensors.items():
        tensors[f"{platform}.responses"] = sensor.responses
        tensors[f"{platform}.loss"] = sensor.loss
        tensors[f"{platform}.noise"] = sensor.prior.noise
    return {name: np.ascontiguousarray(value, dtype=np.float64) for name, value in tensors.items()}


def _below(room: str, tensors: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The tensors whose name starts with ``room.``, without it."""
    return {name.removeprefix(f"{room}."): value for name, value in tensors.items() if name.startswith(f"{room}.")}


def from_tensors(tensors: Mapping[str, NDArray[np.float64]], platforms: tuple[str, ...]) -> Parameters:
    """Inverse of `to_tensors`.

    Raises:
        WeightsCorrupted: if a tensor is missing.
    """
    try:
        weight, mean, covariance = (tensors[f"prior.{name}"] for name in _PRIOR)
        floor = float(tensors["prior.scale_floor"][0])
        sensors = {
            platform: Sensor(
                tensors[f"{platform}.responses"],
                tensors[f"{platform}.loss"],
                MixturePrior(weight, mean, covariance, tensors[f"{platform}.noise"], floor),
            )
            for platform in platforms
        }
        return Parameters(
            Basis(tensors["basis.mean"], tensors["basis.components"]),
            tensors["basis.steps"],
            sensors,
            tensors["basis.floor"],
            Calibration.from_arrays(_below("calibration", tensors)),
            UnfoldingWeights.from_arrays(_below("unfolding", tensors)),
            RefinementWeights.from_arrays(refinement) if (refinement := _below("refinement", tensors)) else None,
        )
    except KeyError as error:
        raise WeightsCorrupted(f"the weights lack tensor {error}; they do not belong to their card") from error


def serialise(parameters: Parameters) -> tuple[bytes, str]:
    """Weights file content and its SHA-256."""
    content = safetensors.numpy.save(to_tensors(parameters))
    return content, hashlib.sha256(content).hexdigest()


def write_weights(folder: Path, content: bytes, card: ModelCard) -> None:
    """Write weights and card into a folder, the card last: without it the weights are not found."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((WEIGHTS_NAME, content), (CARD_NAME, card.to_json().encode())):
        partial = folder / f"{name}.partial"
        partial.write_bytes(data)
        partial.replace(folder / name)


def read_weights(folder: Path | None = None) -> tuple[Parameters, ModelCard]:
    """Read and check weights.

    Args:
        folder: where ``model.safetensors`` and ``card.json`` are; ``None`` for the shipped ones.

    Returns:
        The parameters and their card.

    Raises:
        WeightsMissing: if a file is absent.
        WeightsCorrupted: if the digest differs from the card's or a tensor is missing.
        WeightsVersionMismatch: if the card has another format.
    """
    card = load_card(folder)
    file = (folder or SHIPPED_WEIGHTS) / WEIGHTS_NAME
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WeightsMissing(f"no weights at {file}: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.digest:
        raise WeightsCorrupted(
            f"{file} has SHA-256 {digest[:16]}…, its card says {card.digest[:16]}…; fetch or train the weights again"
        )
    try:
        tensors = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsCorrupted(f"{file} is not a safetensors file: {error}") from error
    logger.debug("read weights %s from %s", card.digest[:12], file)
    return from_tensors(tensors, card.platforms), card
