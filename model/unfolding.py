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

from ctypes import byref, c_long
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.compiled import UnfoldedPlanes, UnfoldingMatrices, kernels, pointer
from model.mixture import SpectralPosterior, chunk_size

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
    """(N,) distance d of `model.mixture` from everything the prior holds."""
    learned: torch.Tensor
    """(k, N) the learned residual, part of `coefficients`."""
    changes: torch.Tensor
    """(T, N) by how much each stage moved the spectrum, root mean square over the channels, reflectance."""


def _with_bias(matrix: NDArray[np.float64], bias: NDArray[np.float64], at: int) -> NDArray[np.float64]:
    """A layer's matrix with its bias as the column that a row of ones meets."""
    return np.insert(matrix, at, bias, axis=1)


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
                # The inputs are [z; 1; v]: the row of ones carries the bias.
                tensor(_with_bias(stage.inner, stage.inner_bias, at=observation.shape[0])),
                tensor(stage.middle),
                tensor(stage.middle_bias[:, None]),
                tensor(stage.outer),
                tensor(stage.outer_bias[:, None]),
                tensor(np.concatenate([gain, np.zeros((k, 1)), np.eye(k) - gain @ observation], axis=1)),
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
        self._passing = tensor(self._relaxation * np.concatenate([np.zeros((k, 0)), *self.passing], axis=1))
        self._kernels = kernels(device)
        self._matrices = self._for_kernels() if self._kernels else None

    def _for_kernels(self) -> UnfoldingMatrices | None:
        """The same matrices as the compiled code takes them; `None` for stages narrower than the subspace."""
        posterior, k, bands = self.posterior, self.gain.shape[1], self.posterior.bands
        stages = [tuple(part.cpu().numpy() for part in stage) for stage in self._stages]
        hidden = max((len(stage[1]) for stage in stages), default=k)
        if hidden < k or any(len(stage[1]) != hidden for stage in stages):
            return None
        inner, middle, middle_bias, outer, outer_bias, data_step = (
            np.stack(part) if stages else np.zeros(1) for part in (zip(*stages, strict=True) if stages else [()] * 6)
        )
        return UnfoldingMatrices(
            bands=bands, k=k, classes=posterior.classes, hidden=hidden, stages=len(stages), floor2=posterior.floor2,
            relaxation=self._relaxation, per_channel=self._channels**-0.5, whitener=posterior.whitener,
            log_normaliser=posterior.form.log_normaliser, class_width=posterior.form.width, gain=posterior.gain,
            inner=inner, middle=middle, middle_bias=middle_bias, outer=outer, outer_bias=outer_bias,
            data_step=data_step, passing=self._passing,
        )  # fmt: skip

    def _stage(self, stage: int, state: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
        """One proximal and one data step.

        Args:
            stage: which.
            state: (bands + 1 + k, N) scaled bands, ones, iterate v_{t-1}; left with p_t in place of the iterate.
            learned: (k, N) takes f_t.

        Returns:
            (k, N) v_t.
        """
        W1, W2, b2, W3, b3, data_step = self._stages[stage]
        hidden = (W1 @ state).relu_()
        hidden = (W2 @ hidden).add_(b2).relu_()
        torch.mm(W3, hidden, out=learned).add_(b3)
        state[-len(learned) :].add_(learned)
        return data_step @ state

    def _chunk(self, y: torch.Tensor, out: Unfolded) -> list[torch.Tensor]:
        """Write the answer for some pixels (bands, N) to `out`; returns the scaled iterates v_0 ... v_T (k, N)."""
        z1, s = self.posterior.scaled(y)
        w, distance = self.posterior.classify(z1)
        iterates = [self.posterior.mean(z1, w)]
        k, count = iterates[0].shape
        state = y.new_empty(len(z1) + k, count)
        state[:-k] = z1
        learned = y.new_empty(len(self._stages), k, count)
        for t, f in enumerate(learned):
            before = iterates[-1]
            state[-k:] = before
            after = self._stage(t, state, f)
            moved = (after - before).square_().sum(dim=0).sqrt_()
            torch.mul(moved, s * self._channels**-0.5, out=out.changes[t])
            iterates.append(after)
        torch.mul(torch.lerp(iterates[0], iterates[-1], self._relaxation), s, out=out.coefficients)
        torch.mul(self._passing @ learned.view(-1, count), s, out=out.learned)
        out.weights.copy_(w)
        out.scale.copy_(s)
        out.distance.copy_(distance)
        return iterates

    def _unknown(self, y: torch.Tensor) -> Unfolded:
        """An answer for N pixels yet to be worked out."""
        k = self.gain.shape[1]
        rows = (k, self.posterior.classes, None, None, k, len(self._stages))
        return Unfolded(*(y.new_empty(y.shape[1] if n is None else (n, y.shape[1])) for n in rows))

    def __call__(self, y: torch.Tensor) -> Unfolded:
        """Evaluate all stages.

        Args:
            y: (bands, N) float32 surface reflectance, finite.

        Returns:
            The estimate of every pixel.
        """
        whole = self._unknown(y)
        if self._kernels and self._matrices:
            if len(y) != self.posterior.bands:
                raise ValueError(f"expected {self.posterior.bands} bands; found {len(y)}")
            y = y.contiguous()
            into = UnfoldedPlanes(**vars(whole))
            self._kernels("spectra_unfold", byref(self._matrices), byref(into), pointer(y), c_long(y.shape[1]))
            return whole
        size = chunk_size(y.device)
        for start in range(0, y.shape[1], size):
            part = Unfolded(*(value[..., start : start + size] for value in vars(whole).values()))
            self._chunk(y[:, start : start + size].contiguous(), part)
        return whole

    def iterates(self, y: torch.Tensor) -> list[torch.Tensor]:
        """Every stage's coefficients, from the closed-form posterior to the last data step.

        Args:
            y: (bands, N) float32 surface reflectance, finite.

        Returns:
            T + 1 tensors (k, N); the estimate lies half way between the first and the last (`RELAXATION`).
        """
        result = self._unknown(y)
        return [v * result.scale for v in self._chunk(y, result)]
