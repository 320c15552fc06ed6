"""One failure: what is compared with what, everything measured on it, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.evaluation.figures import INTERVAL_SIGMAS
from model.evaluation.gallery.layers import Exposure, decoded, exposures, states_doubt, values_of
from model.inference import Halo
from model.subspace import REFLECTANCE_STEP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.duality import DualityModel, Estimate, Multispectral
    from model.evaluation.figures import Panel

MOST: Final[float] = 0.5
"""Share of a failure's pixels that counts as most of them."""

RISE: Final[float] = 0.25
"""By how much that share must exceed what it was before: what was doubtful before exposes nothing."""

_WHOLE: Final = Halo(0, 0, 0, 0)


@dataclass(frozen=True)
class Answer:
    """An estimate with its decoded layers."""

    msi: Multispectral
    estimate: Estimate
    layers: dict[str, NDArray[np.float32]]
    spectra: NDArray[np.float32]
    """(172, h, w) reflectance, nan = nodata."""
    sigma: NDArray[np.float32]

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Pixels with quality bit 6 or 7."""
        return self.estimate.out_of_domain | self.estimate.low_consistency

    def within(self, mask: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
        """The layers of some pixels."""
        return {name: values[mask] for name, values in self.layers.items()}


def answer_of(model: DualityModel, msi: Multispectral) -> Answer:
    """The model's answer to a whole patch."""
    estimate = model.estimate(msi, _WHOLE)
    return Answer(
        msi,
        estimate,
        decoded(model, estimate),
        values_of(estimate.hsi, REFLECTANCE_STEP),
        model.channel_sigma(estimate.uncertainty),
    )


@dataclass(frozen=True)
class Case:
    """One failure with everything measured on it."""

    name: str
    """File-safe, ``cloud-edge``."""
    title: str
    see: str
    """What a reader sees in the layers, and which."""
    msi: Multispectral
    """What the model was given."""
    hit: NDArray[np.bool_]
    """(h, w) pixels that fail."""
    estimate: Estimate
    exposures: tuple[Exposure, ...]
    """Every layer, the most telling first."""
    flagged: float
    """Share of the pixels that fail with quality bit 6 or 7 (out of domain or low consistency), 0-1."""
    flagged_before: float
    """The same of the same pixels untouched, or of the ground compared with."""
    rmse: float
    """Of the spectra that fail against what they should be, reflectance."""
    covered: float
    """Share of those values, 0-1, inside the stated 90 % interval."""
    reference: str
    """What they should be: the truth, or what stands for it."""
    panels: tuple[Panel, ...] = ()
    """What its picture shows, other cases of the same picture included."""
    picture: str = ""
    """File name of that picture; empty where it was measured only."""

    @property
    def telling(self) -> tuple[Exposure, ...]:
        """The layers stating doubt that leave their normal range on most of the pixels, strongest first."""
        return tuple(
            e
            for e in self.exposures
            if states_doubt(e.layer) and e.beyond >= MOST and e.beyond >= e.beyond_before + RISE
        )

    @property
    def verdict(self) -> str:
        """``flagged``, ``visible`` or ``not exposed``, see the module."""
        if self.flagged >= MOST and self.flagged >= self.flagged_before + RISE:
            return "flagged"
        return "visible" if self.telling else "not exposed"


@dataclass(frozen=True)
class Plan:
    """What is compared with what."""

    name: str
    title: str
    see: str
    after: Answer
    hit: NDArray[np.bool_]
    before: Answer
    twin: NDArray[np.bool_]
    normal: Mapping[str, NDArray[np.float32]]
    expected: NDArray[np.floating]
    """(172, n) what the n pixels of `hit` should be, nan where unknown."""
    reference: str


def measure(plan: Plan) -> Case:
    """A case with everything measured on it, not drawn yet."""
    found, sigma = plan.after.spectra[:, plan.hit], plan.after.sigma[:, plan.hit]
    error = found - plan.expected
    known = np.isfinite(error)
    return Case(
        name=plan.name,
        title=plan.title,
        see=plan.see,
        msi=plan.after.msi,
        hit=plan.hit,
        estimate=plan.after.estimate,
        exposures=exposures(plan.after.layers, plan.hit, plan.before.layers, plan.twin, plan.normal),
        flagged=float(plan.after.flags[plan.hit].mean()),
        flagged_before=float(plan.before.flags[plan.twin].mean()),
        rmse=float(np.sqrt((error[known] ** 2).mean())),
        covered=float((np.abs(error) <= INTERVAL_SIGMAS * sigma)[known].mean()),
        reference=plan.reference,
    )


def shown(value: float) -> str:
    """A layer's value with as many digits as it deserves."""
    digits = 2 if abs(value) >= 1 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}".replace("-", "−")


def percent(value: float) -> str:
    """A share in percent, with a decimal near 0 and 1."""
    digits = 1 if 0 < value < 0.1 or 0.9 < value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def measured_sentence(case: Case) -> str:
    """What was measured on a case, in one or two sentences."""
    text = (
        f"Verdict: {case.verdict}. Flagged pixels {percent(case.flagged_before)} → {percent(case.flagged)}; "
        f"RMSE {case.rmse:.3f} against {case.reference}, of which the 90 % interval holds {percent(case.covered)}."
    )
    told = case.telling[:2]
    if told:
        text += " Most telling: " + "; ".join(f"{e.layer} {shown(e.before)} → {shown(e.after)}" for e in told) + "."
    return text
