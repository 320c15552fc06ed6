"""One file judged: the model and its baselines on the same simulated bands."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.bands import CENTRE_NM, SPECTRAL_GROUPS
from model.consistency import agree
from model.evaluation.domain import FOREIGN, auroc_by_kind, foreign_bands, foreign_spectra
from model.evaluation.features import judge_features
from model.evaluation.metamers import coverage_of_metamers, metamers
from model.evaluation.metrics import spectral_errors
from model.evaluation.probability import crps_gaussian
from model.evaluation.simulation import SimulatedScene, clean_bands, simulate_bands
from model.evaluation.unmixing import compare_unmixing
from model.fusion import bicubic, fuse
from model.inference import Halo
from model.layers import NODATA
from model.noise import WITHIN_NOISE_SIGMAS, source_sigma
from model.residual import residual
from model.subspace import REFLECTANCE_STEP
from model.uncertainty import spread_over_channels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.duality import DualityModel, Estimate, Multispectral
    from model.evaluation.baselines import Baselines
    from model.spectra import Spectra

NOMINAL: Final[dict[str, float]] = {"50": 0.6745, "80": 1.2816, "90": 1.6449, "95": 1.96}
"""Nominal coverage in percent -> half-width of the interval in sigma."""

LEVELS: Final[dict[float, float]] = {
    0.1: 0.1257,
    0.2: 0.2533,
    0.3: 0.3853,
    0.4: 0.5244,
    0.5: 0.6745,
    0.6: 0.8416,
    0.7: 1.0364,
    0.8: 1.2816,
    0.9: 1.6449,
    0.95: 1.96,
    0.99: 2.5758,
}
"""Nominal coverage -> half-width in sigma, for the calibration curve."""

METAMERS: Final[int] = 2000
"""Most pixels that are asked for their metamers."""

ENDMEMBERS: Final[int] = 5
"""Endmembers of the unmixing, the same for truth, estimates and bands."""

UNMIXED: Final[int] = 3
"""Repetitions of the unmixing, which is random."""

SOURCE_SHARE: Final[float] = 0.1
"""A channel lies inside a source band where the band's response exceeds this part of its peak."""


def wavelength_ranges(responses: NDArray[np.float64]) -> Mapping[str, NDArray[np.bool_]]:
    """The ranges errors are reported for.

    Args:
        responses: (12, 172) responses; B01, outside the grid, is not counted.

    Returns:
        Name -> (172,) channels: inside a source band, the gaps of the red edge, and three windows of the short-wave
        infrared.
    """
    peak = responses[1:].max(axis=1, keepdims=True)
    inside = (responses[1:] > SOURCE_SHARE * peak).any(axis=0)

    def between(low: float, high: float) -> NDArray[np.bool_]:
        return (CENTRE_NM >= low) & (CENTRE_NM <= high)

    return MappingProxyType(
        {
            "in_source_band": inside,
            "red_edge_gap": between(680.0, 790.0) & ~inside,
            "0.96-1.32": between(960.0, 1320.0),
            "1.44-1.80": between(1440.0, 1800.0),
            "1.95-2.40": between(1950.0, 2400.0),
        }
    )


@dataclass(frozen=True)
class Judged:
    """Spectra with what is known of them."""

    estimate: NDArray[np.float64]
    """(172, n) reflectance."""
    within: float
    """Share of pixels whose source bands are met within noise."""
    sigma: NDArray[np.floating] | None = None
    """(172, n) one sigma, reflectance, or (172, 1)."""


def merit(judged: Judged, truth: NDArray[np.float64], responses: NDArray[np.float64]) -> dict[str, Any]:
    """Figures of merit, the same for the model and for every baseline.

    Args:
        judged: the estimate.
        truth: (172, n) reflectance, nan where unknown.
        responses: (12, 172) responses, for the wavelength ranges.

    Returns:
        ``rmse`` ... ``ergas`` of `spectral_errors`, ``consistency_within_noise``, ``groups`` (per wavelength range and
        spectral group) and, where there is a sigma, ``coverage``, ``interval_width``, ``crps`` and ``calibration``.
    """
    x, sigma = judged.estimate, judged.sigma
    out: dict[str, Any] = {**spectral_errors(x, truth), "consistency_within_noise": judged.within}
    error = x - truth
    ratio = None if sigma is None else np.abs(error) / sigma
    ranges = {**wavelength_ranges(responses)}
    for group in SPECTRAL_GROUPS:
        ranges[group.name] = np.isin(np.arange(len(error)), np.arange(len(error))[group.channels])
    groups: dict[str, dict[str, float]] = {}
    for name, channels in ranges.items():
        part = error[channels]
        if not np.isfinite(part).any():
            continue
        groups[name] = {"rmse": float(np.sqrt(np.nanmean(part**2)))}
        if ratio is not None and sigma is not None:
            known = ratio[channels]
            known = known[np.isfinite(known)]
            groups[name]["coverage_90"] = float((known <= NOMINAL["90"]).mean())
            groups[name]["interval_width"] = float(2 * NOMINAL["90"] * np.mean(sigma[channels]))
    out["groups"] = groups
    if ratio is not None and sigma is not None:
        known = ratio[np.isfinite(ratio)]
        out["coverage"] = {level: float((known <= width).mean()) for level, width in NOMINAL.items()}
        out["interval_width"] = float(2 * NOMINAL["90"] * np.mean(sigma))
        out["crps"] = float(np.nanmean(crps_gaussian(x, np.broadcast_to(sigma, x.shape), truth)))
        out["calibration"] = {
            "nominal": list(LEVELS),
            "observed": [float((known <= width).mean()) for width in LEVELS.values()],
        }
    return out


def _spectrum(
    x: NDArray[np.float64],
    truth: NDArray[np.float64],
    sigma: NDArray[np.floating],
    wiener: NDArray[np.float64],
    climatology: NDArray[np.float64],
) -> dict[str, Any]:
    """Figures by channel, for plots; null where the instrument measured nothing."""

    def listed(values: NDArray[np.floating]) -> list[float | None]:
        return [round(float(v), 6) if np.isfinite(v) else None for v in values]

    covered = np.isfinite(truth).any(axis=1)
    rows = {
        "rmse": (x - truth) ** 2,
        "wiener_rmse": (wiener - truth) ** 2,
        "sigma": np.broadcast_to(sigma, x.shape) ** 2,
    }
    out: dict[str, Any] = {"wavelength_nm": listed(CENTRE_NM)}
    for name, squares in rows.items():
        values = np.full(len(x), np.nan)
        values[covered] = np.sqrt(np.nanmean(squares[covered], axis=1))
        out[name] = listed(values)
    spread = np.full(len(x), np.nan)
    spread[covered] = np.nanstd(truth[covered], axis=1)
    out["truth_std"] = listed(spread)
    out["climatology_width"] = listed(climatology)
    return out


def _examples(
    x: NDArray[np.float64], truth: NDArray[np.float64], sigma: NDArray[np.floating], bands: NDArray[np.floating]
) -> list[dict[str, Any]]:
    """A typical, a bad and a good pixel."""
    error = np.sqrt(np.nanmean((x - truth) ** 2, axis=0))
    order = np.argsort(error)
    picked = {"good (10th percentile)": 0.1, "typical (median)": 0.5, "bad (95th percentile)": 0.95}
    wide = np.broadcast_to(sigma, x.shape)
    out = []
    for title, quantile in picked.items():
        i = int(order[int(quantile * (len(order) - 1))])
        arrays = {"truth": truth[:, i], "estimate": x[:, i], "sigma": wide[:, i], "bands": bands[:, i]}
        out.append(
            {"title": title}
            | {name: [round(float(v), 5) if np.isfinite(v) else None for v in a] for name, a in arrays.items()}
        )
    return out


def judge_spectral(
    model: DualityModel,
    spectra: Spectra,
    platform: str,
    rng: np.random.Generator,
    baselines: Baselines,
    pool: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Spectral tier: all twelve bands of every spectrum given.

    Args:
        model: the model.
        spectra: truth on the product's grid.
        platform: whose responses to simulate.
        rng: source of noise.
        baselines: what stands beside it.
        pool: (m, 172) other real spectra that lend their unseen part to metamers; without it there are none.

    Returns:
        The keys of a file's JSON: ``rmse`` ... ``ood_fraction``, ``groups`` and ``baselines``.
    """
    parameters = model.parameters
    tools = model.solver.tools(platform)
    responses = parameters.sensors[platform].responses
    y = simulate_bands(spectra, responses, rng)
    truth = np.where(spectra.covered[:, None], spectra.reflectance.T.astype(np.float64), np.nan)
    with torch.inference_mode():
        bands = torch.as_tensor(y, dtype=torch.float32, device=model.device)
        unfolded = tools.unfolding(bands)
        start = tools.posterior(bands).coefficients
        nothing = torch.zeros_like(unfolded.scale)
        sigma, _ = tools.uncertainty(bands / unfolded.scale, unfolded.weights, unfolded.scale, nothing, nothing)
        settled = agree(unfolded.coefficients, bands, tools.observation, tools.correction)
    expand = parameters.basis.expand
    x = expand(settled.cpu().numpy().astype(np.float64))
    channel = spread_over_channels(sigma.cpu().numpy(), parameters.calibration.profile).astype(np.float64)
    outside = unfolded.distance.cpu().numpy() > parameters.calibration.distance_limit

    def agreeing(estimate: NDArray[np.float64]) -> float:
        limit = WITHIN_NOISE_SIGMAS * source_sigma(y)[1:]
        return float((np.abs(responses @ estimate - y)[1:] <= limit).all(axis=0).mean())

    linear = baselines.linear
    wiener = linear.wiener(y)
    candidates: dict[str, tuple[NDArray[np.float64], NDArray[np.float64] | None]] = {
        "mean": (linear.scaled_mean(y), None),
        "wiener": (wiener, linear.sigma[:, None]),
        "mixture": (expand(start.cpu().numpy().astype(np.float64)), None),
    }
    if baselines.mlp is not None:
        candidates["mlp"] = (baselines.mlp.predict(y), None)
    features = judge_features(x, truth)
    result = {
        **merit(Judged(x, agreeing(x), channel), truth, responses),
        **_inside(x, channel, truth, ~outside),
        "features": features,
        "domain": _domain(model, platform, y, unfolded.distance.cpu().numpy().astype(np.float64)),
        "metamers": None if pool is None else _metamers(x, channel, truth, responses, pool),
        "ood_fraction": float(outside.mean()),
        "climatology_width": float(linear.climatology.mean()),
        "spectrum": _spectrum(x, truth, channel, wiener, linear.climatology),
        "examples": _examples(x, truth, channel, y),
        "baselines": {
            name: merit(Judged(estimate, agreeing(estimate), s), truth, responses)
            for name, (estimate, s) in candidates.items()
        },
    }
    return dict(_strict(result))


def _domain(model: DualityModel, platform: str, y: NDArray[np.float64], inside: NDArray[np.float64]) -> dict[str, Any]:
    """How well the distance tells this file's pixels from the fixed set of foreign surfaces and from damaged bands."""
    tools = model.solver.tools(platform)
    responses = model.parameters.sensors[platform].responses

    def distance(bands: NDArray[np.floating]) -> NDArray[np.float64]:
        with torch.inference_mode():
            found = tools.unfolding(torch.as_tensor(np.ascontiguousarray(bands), dtype=torch.float32).to(model.device))
        return found.distance.cpu().numpy().astype(np.float64)

    surfaces = foreign_spectra()
    scores = {s.kind.name: distance(clean_bands(s.spectra.T, s.coastal, responses)) for s in surfaces}
    surface = auroc_by_kind(inside, scores)
    foreign = [surface[kind.name] for kind in FOREIGN if not kind.held]
    damage = auroc_by_kind(inside, {d.name: distance(d.bands) for d in foreign_bands(y)})
    return {"auroc": float(np.mean(foreign)), "surfaces": surface, "damage": damage}


def _metamers(
    x: NDArray[np.float64],
    sigma: NDArray[np.floating],
    truth: NDArray[np.float64],
    responses: NDArray[np.float64],
    pool: NDArray[np.float64],
) -> dict[str, Any]:
    """Whether the intervals also hold other spectra that the sensor could not have told from the truth."""
    rng = np.random.default_rng(0)
    some = rng.permutation(truth.shape[1])[:METAMERS]
    known: NDArray[np.bool_] = np.isfinite(truth).min(axis=1)
    full = np.where(known[:, None], truth, x)[:, some]
    changed = metamers(full, responses, pool, rng, channels=known)
    wide = NOMINAL["90"] * np.broadcast_to(sigma, x.shape)[:, some]
    return coverage_of_metamers(x[:, some] - wide, x[:, some] + wide, truth[:, some], changed)


def _strict(value: Any) -> Any:
    """The same with every number that JSON cannot hold as ``None``."""
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _inside(
    x: NDArray[np.float64], sigma: NDArray[np.floating], truth: NDArray[np.float64], inside: NDArray[np.bool_]
) -> dict[str, Any]:
    """Coverage after abstention: over the pixels the model did not refuse."""
    ratio = (np.abs(x - truth) / sigma)[:, inside]
    known = ratio[np.isfinite(ratio)]
    shares = {level: float((known <= width).mean()) if known.size else None for level, width in NOMINAL.items()}
    return {"coverage_in_domain": shares}


def _spectra(estimate: Estimate) -> NDArray[np.float32]:
    """(172, h, w) reflectance, nan = nodata."""
    return np.where(estimate.hsi == NODATA, np.nan, estimate.hsi * np.float32(REFLECTANCE_STEP)).astype(np.float32)


def _met(
    msi: Multispectral, estimate: NDArray[np.floating], responses: NDArray[np.float64], keep: NDArray[np.bool_]
) -> float:
    """Share of the kept pixels whose bands, each at its own resolution, are met within noise."""
    full = np.zeros((12, *keep.shape), np.float32)
    full[:, keep] = responses @ estimate
    simulated, valid = torch.as_tensor(full), torch.as_tensor(keep)
    within = np.ones(keep.shape, bool)
    for resolution, source in ((10, msi.b10), (20, msi.b20), (60, msi.b60)):
        met = residual(torch.as_tensor(source), simulated, valid, resolution).within.numpy()
        ratio = resolution // 10
        within &= met.repeat(ratio, 0).repeat(ratio, 1)
    return float(within[keep].mean())


def judge_full(
    model: DualityModel, scene: SimulatedScene, covered: NDArray[np.bool_], baselines: Baselines
) -> dict[str, Any]:
    """Full tier: blurred, decimated and noisy bands through the whole model.

    Args:
        model: the model.
        scene: simulated scene with its truth.
        covered: (172,) channels the instrument measured.
        baselines: what stands beside it.

    Returns:
        The same keys as `judge_spectral`.
    """
    msi = scene.msi
    responses = model.parameters.sensors[msi.platform].responses
    estimate = model.estimate(msi, Halo(0, 0, 0, 0))
    image = _spectra(estimate)
    keep = np.isfinite(image[0]) & np.isfinite(scene.truth).all(axis=0)
    x = image[:, keep].astype(np.float64)
    truth = np.where(covered[:, None], scene.truth[:, keep].astype(np.float64), np.nan)
    sigma = model.channel_sigma(estimate.uncertainty)[:, keep].astype(np.float64)
    quality = model.quality(estimate.totals)
    untrained = type(model)(model.parameters.untrained(), model.card, model.device)
    plain = _spectra(untrained.estimate(msi, Halo(0, 0, 0, 0)))[:, keep].astype(np.float64)
    sources = tuple(torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60))
    smooth = bicubic(*sources).numpy()
    guided = fuse(*sources).bands.numpy()[:, keep]
    linear = baselines.linear
    wide = linear.sigma[:, None]
    bound = linear.wiener(np.nan_to_num(scene.at_10m)[:, keep])
    candidates: dict[str, tuple[NDArray[np.float64], NDArray[np.float64] | None]] = {
        "mean": (linear.scaled_mean(guided), None),
        "bicubic_wiener": (linear.wiener(smooth[:, keep]), wide),
        "guided_wiener": (linear.wiener(guided), wide),
        "untrained": (plain, None),
        "all_at_10m_wiener": (bound, wide),
    }
    if baselines.mlp is not None:
        candidates["guided_mlp"] = (baselines.mlp.predict(guided), None)
    if baselines.cos2a_like is not None:
        network = baselines.cos2a_like.predict(np.nan_to_num(smooth))
        candidates["cos2a_like"] = (network[:, keep].astype(np.float64), None)
    unmixed = {"model": x, "guided_wiener": candidates["guided_wiener"][0]}
    if "guided_mlp" in candidates:
        unmixed["guided_mlp"] = candidates["guided_mlp"][0]
    result = {
        **merit(Judged(x, quality["within_noise_fraction"], sigma), truth, responses),
        **_inside(x, sigma, truth, ~estimate.out_of_domain[keep]),
        "ood_fraction": quality["out_of_domain_fraction"],
        "climatology_width": float(linear.climatology.mean()),
        "unmixing": compare_unmixing(truth, unmixed, guided, endmembers=ENDMEMBERS, repeats=UNMIXED),
        "spectrum": _spectrum(x, truth, sigma, candidates["guided_wiener"][0], linear.climatology),
        "examples": _examples(x, truth, sigma, guided),
        "baselines": {
            name: merit(Judged(found, _met(msi, found, responses, keep), s), truth, responses)
            for name, (found, s) in candidates.items()
        },
    }
    return dict(_strict(result))
