"""The chapter's numbers: tables and sentences worked out from the cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.evaluation.domain import FOREIGN
from model.evaluation.gallery.case import measured_sentence, percent, shown
from model.evaluation.gallery.cases import CONTROL, SWAPS
from model.evaluation.gallery.layers import RELATIVE
from model.evaluation.gallery.patches import SNOW
from model.evaluation.markdown import markdown_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from model.duality import DualityModel
    from model.evaluation.gallery.case import Answer, Case, Plan
    from model.evaluation.gallery.cases import Gallery


def normal_table(gallery: Gallery, chosen: Callable[[str], bool]) -> str:
    """Median and 5-95 % of some layers, over the patches without snow and over the snow, as a Markdown table."""
    usual = gallery.usual()
    snow = gallery.untouched(SNOW).layers if SNOW in gallery.scenes else {}

    def cell(values: NDArray[np.float32] | None) -> str:
        if values is None:
            return "–"
        low, middle, high = (shown(float(v)) for v in np.nanpercentile(values, (5, 50, 95)))
        return f"{middle} ({low} to {high})"

    rows = [(_code(name), cell(usual[name]), cell(snow.get(name))) for name in usual if chosen(name)]
    count = len([name for name in gallery.scenes if name != SNOW])
    return markdown_table(("layer", f"{count} patches without snow: median (5 to 95 %)", "snow patch"), rows)


def exposure_table(cases: Sequence[Case]) -> str:
    """Failure -> layers -> what you see, as a Markdown table."""

    def row(case: Case) -> tuple[str, ...]:
        told = "; ".join(f"{_code(e.layer)} {shown(e.before)} → {shown(e.after)}" for e in case.telling[:3]) or "none"
        shares = f"{percent(case.flagged_before)} → {percent(case.flagged)}"
        return case.title, f"**{case.verdict}**", told, case.see, shares, f"{case.rmse:.3f}", percent(case.covered)

    head = ("failure", "verdict", "most telling layers, median before → after", "what you see",
            "flagged pixels", "RMSE", "90 % interval holds")  # fmt: skip
    return markdown_table(head, map(row, cases), left=4)


def damage_table(gallery: Gallery) -> str:
    """Flagged pixels of every patch before and after damage to the whole of it."""
    kinds: list[tuple[str, Callable[[str], Plan]]] = [("offset missed", gallery.offset)]
    kinds += [(f"{a} ↔ {b}", lambda patch, pair=(a, b): gallery.swap(pair, patch)) for a, b in SWAPS]  # type: ignore[misc]

    def row(patch: str) -> list[str]:
        before = gallery.untouched(patch)
        cells = [patch, percent(float(before.flags.mean()))]
        return cells + [percent(float(plan(patch).after.flags.mean())) for _, plan in kinds]

    return markdown_table(("patch", "untouched", *(name for name, _ in kinds)), map(row, gallery.scenes))


def material_table(gallery: Gallery) -> str:
    """Every foreign surface as a target, and a control that is not foreign; the best noticed first."""
    held = {kind.name.replace("_", "-") for kind in FOREIGN if kind.held}

    def row(case: Case) -> tuple[str, ...]:
        median = {e.layer: e.after for e in case.exposures}
        kind = case.name.removeprefix("material-")
        name = "control: soil of the next field" if kind == CONTROL else kind.replace("-", " ") + " *" * (kind in held)
        told = [_code(e.layer) for e in case.telling if e.layer != "detail"]
        score, spread = f"{median['out_of_domain_score']:.2f}", f"{median['sigma_swir1' + RELATIVE]:.2f}"
        numbers = (percent(case.flagged), score, spread, f"{case.rmse:.3f}", percent(case.covered))
        return name, ", ".join(told[:2]) or "–", *numbers

    cases = sorted(gallery.materials(kind.name for kind in FOREIGN), key=lambda case: -case.flagged)
    head = ("inserted surface", "most telling layers but `detail`", "flagged", "score, median", "`sigma_swir1` / mean",
            "RMSE", "90 % interval holds")  # fmt: skip
    return markdown_table(head, map(row, [*cases, *gallery.materials([CONTROL])]), left=2)


def _code(layer: str) -> str:
    """A layer's name in Markdown; the division is not part of the name."""
    base = layer.removesuffix(RELATIVE)
    return f"`{base}`" + (RELATIVE if layer != base else "")


def weights_sentence(model: DualityModel) -> str:
    """Which weights the numbers hold for."""
    calibration = str(model.card.calibration)
    return f"Measured with the weights whose calibration is `{calibration}` (see `model/weights/card.json`)."


def darkest_sentence(gallery: Gallery) -> str:
    """How the darkest channel of the spectra tells a missed offset, over all patches."""

    def darkest(answer: Answer) -> float:
        return float(np.nanmedian(answer.spectra.min(axis=0)))

    untouched = [darkest(gallery.untouched(name)) for name in gallery.scenes]
    shifted = [darkest(gallery.offset(name).after) for name in gallery.scenes]
    before, after = (f"{shown(min(part))} to {shown(max(part))}" for part in (untouched, shifted))
    return (
        f"The lowest of a pixel's 172 values, median over a patch: {before} in the {len(untouched)} untouched patches, "
        f"{after} with the offset missed."
    )


def chapter_blocks(gallery: Gallery, cases: Sequence[Case]) -> dict[str, str]:
    """Every generated part of the chapter: mark -> Markdown."""
    captions = {f"measured {case.name}": f"*Measured:* {measured_sentence(case)}" for case in cases}
    return {
        "weights": weights_sentence(gallery.model),
        "normal explanation": normal_table(
            gallery, lambda n: not n.startswith(("sigma_", "residual_")) and n != "scale"
        ),
        "normal uncertainty": normal_table(gallery, lambda n: n.startswith("sigma_") or n == "scale"),
        "normal residual": normal_table(gallery, lambda n: n.startswith("residual_")),
        "exposure": exposure_table(cases),
        "damage": damage_table(gallery),
        "darkest": darkest_sentence(gallery),
        "materials": material_table(gallery),
        **captions,
    }
