"""How wrong each channel may be: posterior covariance, spatial doubt, calibration by scene, and abstention.

The variance of a spectral group ``g`` (root mean square over its channels) is

    sigma_g^2 = (alpha_g s)^2 (sum_j w_j P_jg + between_g)  +  beta20_g^2 detail20^2  +  beta60_g^2 detail60^2

with ``P_jg`` the class's posterior variance (subspace and basis floor), ``between_g`` the disagreement of the
classes, and the detail of the 10 m bands below 20 and 60 m as the measure of what the coarse bands could not see.
``alpha`` and ``beta`` are fitted on scenes that the statistics had not seen. Stored is one layer per group; a
channel's sigma is its group's times a fixed profile inside the group, so the stored layers give every channel back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.bands import CHANNELS, SPECTRAL_GROUPS
from model.layers import NODATA, Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.mixture import SpectralPosterior
    from model.subspace import Basis

SIGMA_STEP: Final[float] = 1e-4
"""Reflectance of one stored unit of an uncertainty layer."""

INFLATION_STEP: Final[float] = 1e-3

GROUPS: Final[int] = len(SPECTRAL_GROUPS)

GROUP_OF_CHANNEL: Final[NDArray[np.intp]] = np.zeros(len(CHANNELS), dtype=np.intp)
for _number, _group in enumerate(SPECTRAL_GROUPS):
    GROUP_OF_CHANNEL[_group.channels] = _number
GROUP_OF_CHANNEL.setflags(write=False)


def group_average() -> NDArray[np.float64]:
    """(8, 172) matrix that averages the channels of each spectral group."""
    matrix = np.zeros((GROUPS, len(CHANNELS)))
    matrix[GROUP_OF_CHANNEL, np.arange(len(CHANNELS))] = 1.0
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Calibration:
    """Scale factors fitted on scenes left out."""

    alpha: NDArray[np.float64]
    """(8,) factor on the posterior's standard deviation."""
    beta20: NDArray[np.float64]
    """(8,) factor on the detail below 20 m."""
    beta60: NDArray[np.float64]
    """(8,) factor on the detail below 60 m."""
    profile: NDArray[np.float64]
    """(172,) a channel's sigma relative to its group's."""
    distance_limit: float
    """Distance d of `model.mixture` beyond which a pixel is out of domain."""

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Arrays as they are stored."""
        return {
            "alpha": self.alpha,
            "beta20": self.beta20,
            "beta60": self.beta60,
            "profile": self.profile,
            "distance_limit": np.array([self.distance_limit]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Calibration:
        """Inverse of `to_arrays`."""
        return cls(
            arrays["alpha"], arrays["beta20"], arrays["beta60"], arrays["profile"], float(arrays["distance_limit"][0])
        )


def uncalibrated() -> Calibration:
    """Factors that change nothing: where calibration starts."""
    ones, zeros = np.ones(GROUPS), np.zeros(GROUPS)
    return Calibration(ones, zeros, zeros, np.ones(len(CHANNELS)), np.inf)


def channel_variance(posterior: SpectralPosterior, basis: Basis, floor: NDArray[np.float64]) -> NDArray[np.float64]:
    """(J, 172) posterior variance of each channel of a scaled spectrum, by class."""
    U = basis.components
    return np.asarray(np.einsum("jkl,kc,lc->jc", posterior.form.covariance, U, U) + floor)


def channel_profile(variance: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """(172,) sigma of each channel relative to its group's root mean square, averaged over the classes.

    Args:
        variance: (J, 172) posterior variances.
        weight: (J,) class probabilities.
    """
    mean = weight @ variance
    group = group_average() @ mean
    return np.asarray(np.sqrt(mean / group[GROUP_OF_CHANNEL]))


class GroupUncertainty:
    """Evaluates the calibrated sigma of each spectral group on a device."""

    def __init__(
        self, posterior: SpectralPosterior, basis: Basis, floor: NDArray[np.float64], calibration: Calibration
    ) -> None:
        device = posterior.device

        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

        average = group_average()
        form, prior = posterior.form, posterior.prior
        self.within = (channel_variance(posterior, basis, floor) @ average.T).T
        """(8, J) variance of a group within each class."""
        self.calibration = calibration
        self._within = tensor(self.within)
        to_groups = average @ basis.components.T  # (8, k)
        gain = np.einsum("gk,jkb->jgb", to_groups, form.gain)  # (J, 8, 12)
        offset = np.einsum("gk,jk->jg", to_groups, prior.mean) - np.einsum("jgb,jb->jg", gain, form.band_mean)
        classes = len(prior.weight)
        self.gain = np.concatenate([gain, offset[:, :, None]], axis=2)
        """(J, 8, bands + 1) group means of a class from scaled bands, the constant as the last column."""
        self._gain = tensor(gain.reshape(classes * GROUPS, -1))
        self._offset = tensor(offset.reshape(classes * GROUPS, 1))
        self._classes = classes
        self._alpha2 = tensor(calibration.alpha[:, None] ** 2)
        self._beta20 = tensor(calibration.beta20[:, None] ** 2)
        self._beta60 = tensor(calibration.beta60[:, None] ** 2)

    def spectral_variance(self, z: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Uncalibrated variance (8, N) of scaled bands (12, N) with class probabilities (J, N) and scale (N,)."""
        means = torch.addmm(self._offset, self._gain, z).view(self._classes, GROUPS, -1)  # (J, 8, N)
        weighted = means * weights[:, None]
        centre = weighted.sum(dim=0)
        # What single precision loses in this difference is far below the variance within the classes.
        between = weighted.mul_(means).sum(dim=0).sub_(centre.square_()).clamp_min_(0.0)
        return between.addmm_(self._within, weights).mul_(scale.square())

    def __call__(
        self,
        z: torch.Tensor,
        weights: torch.Tensor,
        scale: torch.Tensor,
        detail20: torch.Tensor,
        detail60: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Calibrated sigma of each group.

        Args:
            z: (12, N) scaled bands.
            weights: (J, N) class probabilities.
            scale: (N,) illumination scale, reflectance.
            detail20: (N,) detail of the 10 m bands below 20 m, reflectance.
            detail60: (N,) the same below 60 m.

        Returns:
            (8, N) one sigma of each group, reflectance, and (N,) by how much spatial doubt inflates it on average.
        """
        spectral = self.spectral_variance(z, weights, scale) * self._alpha2
        total = torch.addcmul(spectral, self._beta20, detail20.square()).addcmul_(self._beta60, detail60.square())
        inflation = (total / spectral.clamp_min_(1e-12)).sqrt_().mean(dim=0)
        return total.sqrt_(), inflation


def uncertainty_layers() -> tuple[Layer, ...]:
    """How the stored uncertainty decodes: one sigma per group, then the spatial inflation."""
    groups = tuple(Layer(f"sigma_{g.name}", f"1-sigma, {g.title}", SIGMA_STEP) for g in SPECTRAL_GROUPS)
    return (*groups, Layer("scale", "factor by which unseen spatial detail widens sigma", INFLATION_STEP))


def channel_sigma(stored: NDArray[np.int16], profile: NDArray[np.float64]) -> NDArray[np.float32]:
    """Calibrated sigma of every channel from the stored layers.

    Args:
        stored: (9, ...) int16 uncertainty layers.
        profile: (172,) relative sigma inside the groups.

    Returns:
        (172, ...) float32 one sigma, reflectance; nan where nodata.
    """
    groups = np.where(stored[:GROUPS] == NODATA, np.nan, stored[:GROUPS] * np.float32(SIGMA_STEP))
    return spread_over_channels(groups, profile)


def spread_over_channels(groups: NDArray[np.floating], profile: NDArray[np.float64]) -> NDArray[np.float32]:
    """Sigma of every channel (172, ...) from that of its group (8, ...)."""
    shape = (-1,) + (1,) * (groups.ndim - 1)
    factor = profile.astype(np.float32).reshape(shape)
    return np.asarray(groups.astype(np.float32)[GROUP_OF_CHANNEL] * factor)
