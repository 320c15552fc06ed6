"""A new model goes live by steps that an operator can see: tried in the shadow, promoted, and rolled back.

In the *shadow* the candidate and the model in force estimate the same part of recent published scenes; nothing is
written, and what differs is told. To *promote* records the candidate as the model in force, with who and why: every
process that starts from then on uses it, and each product names the model that made it. To *roll back* undoes the
newest promotion, in the same way. History is never reprocessed by itself; `explains2a backfill --remake` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from catalog.model_item import model_item_id
from catalog.releases import Release, before_the_present, put_in_force
from catalog.states import SceneState
from infra.scene import Window, open_scene, product_window
from model.bands import CHANNELS
from model.card import load_card
from model.duality import Multispectral, load_model
from model.inference import cells
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from catalog.ledger import SceneRow
    from flows.assembly import Assembly
    from model.duality import Estimate, SpectralModel

RANGES_NM: Final = ((400, 700), (700, 1000), (1000, 1350), (1350, 1800), (1800, 2500))
"""Visible, near infrared and three parts of the short-wave infrared, nm."""

_STORED: Final = 1e-4
_CHANNEL_NM: Final = np.array([channel.centre_nm for channel in CHANNELS])
_BLOCK: Final = 6
_SAMPLE: Final = 4
"""Of the pixels in each direction every so many enter the interval: a whole cell's 172 sigmas are a gigabyte."""


@dataclass(frozen=True)
class RangeDifference:
    """How two models differ in one range of wavelengths, over all pixels that both estimate; reflectance."""

    low_nm: int
    high_nm: int
    bias: float
    """Mean of candidate minus present."""
    rms: float
    sigma_present: float
    """Mean calibrated 1-sigma, which the stated interval is made of."""
    sigma_candidate: float


@dataclass(frozen=True)
class SceneComparison:
    """Two models on one scene."""

    scene_id: int
    title: str
    pixels: int
    """10 m pixels looked at."""
    refused_present: float
    """Share of pixels without an estimate, out of domain or inconsistent with the source, 0-1."""
    refused_candidate: float
    ranges: tuple[RangeDifference, ...]
    quality_present: Mapping[str, float]
    quality_candidate: Mapping[str, float]

    @property
    def drift(self) -> dict[str, float]:
        """Candidate minus present in every quality number that both state."""
        both = self.quality_present.keys() & self.quality_candidate.keys()
        return {name: self.quality_candidate[name] - self.quality_present[name] for name in sorted(both)}


def shadow(
    assembly: Assembly, candidate: SpectralModel, *, scenes: int = 3, progress: Callable[[str], None] = lambda _: None
) -> list[SceneComparison]:
    """Run a candidate beside the model in force on the newest published scenes; nothing is written.

    Args:
        assembly: The system's parts.
        candidate: The other model.
        scenes: How many.
        progress: Told which scene is being looked at.

    Returns:
        One comparison per scene: of the first cell of its product, up to 384 x 384 pixels.
    """
    done = []
    for row in assembly.ledger.scenes(state=SceneState.PUBLISHED, limit=scenes):
        progress(f"{row.tile} {row.sensed:%Y-%m-%d} {row.region}")
        done.append(compare_on(assembly, row, assembly.model, candidate))
    return done


def compare_on(assembly: Assembly, row: SceneRow, present: SpectralModel, candidate: SpectralModel) -> SceneComparison:
    """Compare two models on the first cell of one scene's product."""
    acquisition = assembly.source(row.source).restore(row.source_item)
    with open_scene(acquisition, assembly.source_settings(row.source)) as scene:
        window = product_window(scene.grid, assembly.region(row.region), _BLOCK)
        area = (window.column, window.row, window.width, window.height)
        cell = next(iter(cells(area, scene.grid.width, scene.grid.height, cell=present.cell, halo=present.halo)))
        pixels = scene.read(Window(*cell.read))
        image = Multispectral(pixels.b10, pixels.b20, pixels.b60, scene.platform)
        one, other = present.estimate(image, cell.halo), candidate.estimate(image, cell.halo)
    return SceneComparison(
        scene_id=row.id,
        title=f"{row.tile} {row.sensed:%Y-%m-%d} {row.region}",
        pixels=int(one.out_of_domain.size),
        refused_present=_refused(one),
        refused_candidate=_refused(other),
        ranges=tuple(_ranges(present, one, candidate, other)),
        quality_present=dict(present.quality(one.totals)),
        quality_candidate=dict(candidate.quality(other.totals)),
    )


def promote(assembly: Assembly, path: Path | None, *, actor: str, why: str, dry_run: bool = False) -> Release:
    """Put weights in force; the folder must stay where it is, and be seen by every worker under this path.

    Args:
        assembly: The system's parts.
        path: Folder of weights and card; None for the shipped ones.
        actor: Who asks.
        why: The reason, kept with the record.
        dry_run: Load the weights and record nothing.

    Raises:
        WeightsMissing, WeightsCorrupted, WeightsVersionMismatch: the weights cannot be used; nothing was recorded.
    """
    where = None if path is None else path.resolve()
    card = load_model(where, assembly.settings.device).card  # they must be usable here before they are anywhere
    wanted = Release(datetime.now(UTC), "promote", actor, why, model_item_id(card), card.digest, str(where or ""))
    return wanted if dry_run else _record(assembly, wanted)


def roll_back(assembly: Assembly, *, actor: str, why: str, dry_run: bool = False) -> Release:
    """Put the model in force again that the newest promotion replaced.

    Raises:
        NothingToRollBack: no promotion is left.
        WeightsMissing, WeightsCorrupted, WeightsVersionMismatch: its weights are gone; nothing was recorded.
    """
    path = assembly.settings.model_path
    card = load_card(path)
    default = Release(
        datetime.min.replace(tzinfo=UTC), "promote", "settings", "", model_item_id(card), card.digest, str(path or "")
    )
    before = before_the_present(assembly.database, default)
    wanted = Release(datetime.now(UTC), "rollback", actor, why, before.model, before.digest, before.path)
    return wanted if dry_run else _record(assembly, wanted)


def comparison_markdown(comparisons: list[SceneComparison], present: str, candidate: str) -> str:
    """Write comparisons as a page for operators."""
    lines = [f"In force: `{present}`. Candidate: `{candidate}`. Reflectance; candidate minus present.", ""]
    for one in comparisons:
        lines += [f"### {one.title} (scene {one.scene_id}, {one.pixels:,} pixels)", ""]
        lines += [f"Refused: {one.refused_present:.2%} in force, {one.refused_candidate:.2%} candidate.", ""]
        lines += ["| nm | bias | rms | 1-sigma in force | 1-sigma candidate |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [
            f"| {each.low_nm}-{each.high_nm} | {each.bias:+.5f} | {each.rms:.5f} | {each.sigma_present:.5f} "
            f"| {each.sigma_candidate:.5f} |"
            for each in one.ranges
        ]
        lines += ["", "| quality | drift |", "| --- | ---: |"]
        lines += [f"| {name.replace('_', ' ')} | {value:+.5g} |" for name, value in one.drift.items()]
        lines.append("")
    return "\n".join(lines) if comparisons else "No scene is published yet: there is nothing to compare on."


def _record(assembly: Assembly, wanted: Release) -> Release:
    return put_in_force(
        assembly.database, action=wanted.action, actor=wanted.actor, why=wanted.why, model=wanted.model,
        digest=wanted.digest, path=wanted.path,
    )  # fmt: skip


def _refused(estimate: Estimate) -> float:
    missing = (estimate.hsi == NODATA).any(axis=0)
    return float((missing | estimate.out_of_domain | estimate.low_consistency).mean())


def _ranges(
    present: SpectralModel, one: Estimate, candidate: SpectralModel, other: Estimate
) -> Iterator[RangeDifference]:
    """Yield the differences per range; ranges without a common pixel are left out."""
    both = ~((one.hsi == NODATA).any(axis=0) | (other.hsi == NODATA).any(axis=0))
    if not both.any():
        return
    difference = (other.hsi[:, both].astype(np.float64) - one.hsi[:, both]) * _STORED  # (172, n)
    old, new = _sigma(present, one, both), _sigma(candidate, other, both)
    for low, high in RANGES_NM:
        chosen = (low <= _CHANNEL_NM) & (high > _CHANNEL_NM)
        part = difference[chosen]
        yield RangeDifference(
            low, high, float(part.mean()), float(np.sqrt((part**2).mean())), float(old[chosen].mean()),
            float(new[chosen].mean()),
        )  # fmt: skip


def _sigma(model: SpectralModel, estimate: Estimate, both: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean 1-sigma (172,) over a grid of pixels, reflectance."""
    some = np.ascontiguousarray(estimate.uncertainty[:, ::_SAMPLE, ::_SAMPLE])
    seen = both[::_SAMPLE, ::_SAMPLE]
    if not seen.any():
        return np.full(len(CHANNELS), np.nan)
    sigma = model.channel_sigma(np.ascontiguousarray(some[:, seen]))  # (172, n)
    return np.asarray(sigma.mean(axis=1, dtype=np.float64))
