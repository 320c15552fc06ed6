"""What the model is judged against: the mean spectrum, Wiener's linear estimate, climatology, and two networks.

All are fitted to the same spectra as the model. Those fitted to everything stand in ``weights/`` beside this file, so
that any file a user brings can be judged with them; they are never part of the product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.numpy
import torch

from model.errors import WeightsMissing
from model.evaluation.networks import Cos2aLike, SpectralMlp
from model.evaluation.probability import climatology
from model.noise import source_sigma

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NETWORKS: Final[Mapping[str, type[SpectralMlp] | type[Cos2aLike]]] = MappingProxyType(
    {"mlp": SpectralMlp, "cos2a_like": Cos2aLike}
)

FILE: Final[Path] = Path(__file__).parent / "weights" / "baselines.safetensors"


@dataclass(frozen=True)
class Linear:
    """Wiener's estimate, mean spectrum and climatology of a pool of spectra."""

    gain: NDArray[np.float64]
    """(172, 12)."""
    offset: NDArray[np.float64]
    """(172,) reflectance."""
    sigma: NDArray[np.float64]
    """(172,) standard deviation of Wiener's estimate, reflectance."""
    mean: NDArray[np.float64]
    """(172,) mean spectrum at unit brightness (root mean square of the eleven bands on the grid)."""
    climatology: NDArray[np.float64]
    """(172,) width of the central 90 % of the pool, reflectance."""

    def wiener(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """(172, n) spectra of bands (12, n)."""
        return np.asarray(self.gain @ bands + self.offset[:, None])

    def scaled_mean(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """(172, n) the mean spectrum at each pixel's brightness."""
        return np.outer(self.mean, np.sqrt((np.asarray(bands)[1:] ** 2).mean(axis=0)))


def fit_linear(spectra: NDArray[np.float64], coastal: NDArray[np.float64], responses: NDArray[np.float64]) -> Linear:
    """Fit the linear baselines.

    Args:
        spectra: (n, 172) reflectance.
        coastal: (n,) reflectance in B01, nan where unknown.
        responses: (12, 172) responses, the row of B01 a regression on the channels.

    Returns:
        ``x = m + C D' (D C D' + R)^-1 (y - D m)`` with the pool's mean and covariance and its mean noise.
    """
    bands = responses @ spectra.T
    noise = (source_sigma(bands) ** 2).mean(axis=1)
    noise[0] += np.nanvar(coastal - bands[0])
    m, C = spectra.mean(axis=0), np.cov(spectra.T)
    V = responses @ C @ responses.T + np.diag(noise)
    gain = np.asarray(np.linalg.solve(V, responses @ C).T, dtype=np.float64)
    variance = np.diag(C - gain @ responses @ C)
    brightness = np.sqrt((bands[1:] ** 2).mean(axis=0))
    mean = np.asarray((spectra / np.maximum(brightness, 1e-3)[:, None]).mean(axis=0), dtype=np.float64)
    sigma: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0))
    return Linear(gain, m - gain @ responses @ m, sigma, mean, climatology(spectra).width())


@dataclass(frozen=True)
class Baselines:
    """Everything the model is judged against."""

    linear: Linear
    networks: Mapping[str, SpectralMlp | Cos2aLike] = field(default_factory=dict)
    """``mlp`` and ``cos2a_like``."""

    @property
    def mlp(self) -> SpectralMlp | None:
        """The perceptron, where one was trained."""
        found = self.networks.get("mlp")
        return found if isinstance(found, SpectralMlp) else None

    @property
    def cos2a_like(self) -> Cos2aLike | None:
        """The COS2A-like network, where one was trained."""
        found = self.networks.get("cos2a_like")
        return found if isinstance(found, Cos2aLike) else None

    def save(self, file: Path = FILE) -> None:
        """Write everything into one safetensors file; networks in half precision, they are yardsticks."""
        tensors = {f"linear.{name}": np.ascontiguousarray(value) for name, value in vars(self.linear).items()}
        for name, network in self.networks.items():
            for key, value in network.state_dict().items():
                tensors[f"{name}.{key}"] = np.ascontiguousarray(value.cpu().numpy().astype(np.float16))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(safetensors.numpy.save(tensors))


def load_baselines(file: Path = FILE) -> Baselines:
    """Read the baselines that were fitted to everything.

    Raises:
        WeightsMissing: if there is no such file.
    """
    try:
        tensors = safetensors.numpy.load(file.read_bytes())
    except OSError as error:
        raise WeightsMissing(f"no baselines at {file}: {error}; run `explains2a train --baselines`") from error
    linear = Linear(**{name.removeprefix("linear."): v for name, v in tensors.items() if name.startswith("linear.")})
    networks = {}
    for name in NETWORKS:
        prefix = f"{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            networks[name] = make_network(name, state)
    return Baselines(linear, networks)


def make_network(name: str, state: Mapping[str, NDArray[Any]]) -> SpectralMlp | Cos2aLike:
    """A network of its kind with a stored state, ready to predict."""
    network = NETWORKS[name]()
    network.load_state_dict({key: torch.as_tensor(value.astype(np.float32)) for key, value in state.items()})
    return network.eval()
