"""Deep unfolding: a few stages of a learned proximal step and an exact data step, from the closed-form posterior on.

Sought are scaled coefficients ``v = c / s`` (`model.mixture`) with

    min_v  ||R^-1/2 (z - A v)||^2 + phi(v),

``phi`` known only through what spectra look like. Half-quadratic splitting turns it into stages ``t = 1 ... T``,
starting from the posterior mean ``v_0``:

    p_t = v_{t-1} + f_t(z, v_{t-1})                              proximal step, learned, small
    v_t = argmin_v ||R^-1/2 (z - A v)||^2 + ||v - p_t||^2_{(rho_t C)^-1}
        = p_t + K_t (z - A p_t),   K_t = rho_t C A' (rho_t A C A' + R)^-1     data step, exact

with the sensor's real responses in ``A``, its noise in ``R`` and the pooled covariance ``C`` of the prior. ``K_t`` is
the same for every pixel. ``f_t`` is a perceptron of two hidden layers. The answer is a relaxed step,
``v = (1 - l) v_0 + l v_T`` (Krasnoselskii-Mann averaging): what was learned on few scenes is trusted by half.

Everything but ``f_t`` is linear in ``z`` at given class probabilities, so the estimate stays explained exactly:

    v = sum_j w_j (m_j + K'_j (z - A m_j)) + l sum_t L_t f_t,
    K'_j = ((1 - l) I + l M) K_j + l N,

where ``M`` and ``N`` carry start and bands through all data steps and ``L_t`` what stage ``t`` learned through the
later ones; the last term is the *learned residual*, whose share is reported.

Source: half-quadratic splitting (Geman and Yang 1995) unfolded into a network (Monga, Li and Eldar 2021, section III).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from model.mixture import CHUNK, SpectralPosterior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.mixture import MixturePrior

RELAXATION: Final[float] = 0.5
"""l: how far the learned iterate is followed."""


@dataclass(frozen=True)
class StageWeights:
    """One stage's learned numbers; inputs are scaled bands and scaled coefficients, unnormalised."""

    inner: NDArray[np.float64]
    """(h, bands + k)."""
    inner_bias: NDArray[np.float64]
    """(h,)."""
    middle: NDArray[np.float64]
    """(h, h)."""
    middle_bias: NDArray[np.float64]
    """(h,)."""
    outer: NDArray[np.float64]
    """(k, h)."""
    outer_bias: NDArray[np.float64]
    """(k,)."""
    rho: NDArray[np.float64]
    """(1,) how far the data step may leave the proximal point, as a factor on the prior's covariance."""


@dataclass(frozen=True)
class UnfoldingWeights:
    """The stages in order; none means the closed-form posterior alone."""

    stages: tuple[StageWeights, ...] = ()

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Arrays as they are stored."""
        return {f"{t}.{name}": value for t, stage in enumerate(self.stages) for name, value in vars(stage).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> UnfoldingWeights:
        """Inverse of `to_arrays`; raises `KeyError` for a missing one."""
        count = 1 + max((int(name.partition(".")[0]) for name in arrays), default=-1)
        names = StageWeights.__dataclass_fields__
        return cls(tuple(StageWeights(**{name: arrays[f"{t}.{name}"] for name in names}) for t in range(count)))


def pooled(prior: MixturePrior) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Covariance (k, k) and noise variances (bands,) averaged over the classes."""
    return np.einsum("j,jkl->kl", prior.weight, prior.covariance), prior.weight @ prior.noise


def data_gain(
    covariance: NDArray[np.float64], noise: NDArray[np.float64], observation: NDArray[np.float64], rho: float
) -> NDArray[np.float64]:
    """K_t of an exact data step.

    Args:
        covariance: (k, k) C.
        noise: (bands,) diagonal of R.
        observation: (bands, k) A.
        rho: factor on C.

    Returns:
        (k, bands).
    """
    CA = rho * covariance @ observation.T
    return np.asarray(np.linalg.solve(observation @ CA + np.diag(noise), CA.T).T)


@dataclass(frozen=True)
class Unfolded:
    """The estimate of N pixels."""

    coefficients: torch.Tensor
    """(k, N) estimate."""
    weights: torch.Tensor
    """(J, N) class probabilities."""
    scale: torch.Tensor
    """(N,) illumination scale s, reflectance."""
    distance: torch.Tensor
    """(N,) squared Mahalanobis distance to the nearest class."""
    learned: torch.Tensor
    """(k, N) the learned residual, part of `coefficients`."""
    changes: torch.Tensor
    """(T, N) by how much each stage moved the spectrum, root mean square over the channels, reflectance."""


class Unfolding:
    """Evaluates the stages of one platform on a device."""

    def __init__(
        self, posterior: SpectralPosterior, observation: NDArray[np.float64], weights: UnfoldingWeights, channels: int
    ) -> None:
        device = posterior.device

        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

        self.posterior = posterior
        self.weights = weights
        self._channels = channels
        k = observation.shape[1]
        C, R = pooled(posterior.prior)
        gains = [data_gain(C, R, observation, float(stage.rho[0])) for stage in weights.stages]
        self._stages = [
            (
                tensor(stage.inner),
                tensor(stage.inner_bias[:, None]),
                tensor(stage.middle),
                tensor(stage.middle_bias[:, None]),
                tensor(stage.outer),
                tensor(stage.outer_bias[:, None]),
                tensor(np.concatenate([gain, np.eye(k) - gain @ observation], axis=1)),
            )
            for stage, gain in zip(weights.stages, gains, strict=True)
        ]
        carry, from_bands = np.eye(k), np.zeros((k, observation.shape[0]))
        self.passing: list[NDArray[np.float64]] = []
        """L_t: (k, k) each."""
        for gain in gains:
            step = np.eye(k) - gain @ observation
            self.passing = [step @ passed for passed in self.passing] + [step]
            carry, from_bands = step @ carry, step @ from_bands + gain
        self._relaxation = RELAXATION if gains else 0.0
        start = (1 - self._relaxation) * np.eye(k) + self._relaxation * carry
        self.gain = np.einsum("kl,jlb->jkb", start, posterior.form.gain) + self._relaxation * from_bands
        """(J, k, bands) K'_j: the whole linear part of the estimate."""
        self._passing = tensor(self._relaxation * np.concatenate(self.passing, axis=1)) if gains else None

    def _proximal(self, stage: int, features: torch.Tensor) -> torch.Tensor:
        """f_t of [z; v] (bands + k, N)."""
        W1, b1, W2, b2, W3, b3, _ = self._stages[stage]
        hidden = functional.relu(torch.addmm(b1, W1, features))
        return torch.addmm(b3, W3, functional.relu(torch.addmm(b2, W2, hidden)))

    def _chunk(self, y: torch.Tensor, iterates: list[torch.Tensor] | None = None) -> tuple[torch.Tensor, ...]:
        v0, z, w, s, distance = self.posterior.chunk(y)
        if iterates is not None:
            iterates.append(v0 * s)
        v, learned, changes = v0, [], []
        for t, stage in enumerate(self._stages):
            f = self._proximal(t, torch.cat([z, v]))
            after = stage[-1] @ torch.cat([z, v + f])
            changes.append(s * (after - v).square().sum(dim=0).sqrt() / self._channels**0.5)
            learned.append(f)
            v = after
            if iterates is not None:
                iterates.append(v * s)
        if self._passing is None:
            return v0 * s, w, s, distance, torch.zeros_like(v0), y.new_zeros(0, y.shape[1])
        residual = self._passing @ torch.cat(learned)
        relaxed = torch.lerp(v0, v, self._relaxation)
        return relaxed * s, w, s, distance, residual * s, torch.stack(changes)

    def __call__(self, y: torch.Tensor) -> Unfolded:
        """Evaluate all stages.

        Args:
            y: (bands, N) float32 surface reflectance, finite.

        Returns:
            The estimate of every pixel.
        """
        parts = [self._chunk(piece.contiguous()) for piece in torch.split(y, CHUNK, dim=1)]
        return Unfolded(*(torch.cat(list(part), dim=-1) for part in zip(*parts, strict=True)))

    def iterates(self, y: torch.Tensor) -> list[torch.Tensor]:
        """Every stage's coefficients, from the closed-form posterior to the last data step.

        Args:
            y: (bands, N) float32 surface reflectance, finite.

        Returns:
            T + 1 tensors (k, N); the estimate lies half way between the first and the last (`RELAXATION`).
        """
        out: list[torch.Tensor] = []
        self._chunk(y, out)
        return out
