"""The failures, one after another: what is changed, where it is looked at, and what its picture shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from model.bands import CENTRE_NM
from model.errors import InvalidImage
from model.evaluation.domain import FOREIGN, foreign_spectra
from model.evaluation.figures import failure_figure
from model.evaluation.gallery.case import Answer, Case, Plan, answer_of, measure, measured_sentence, shown
from model.evaluation.gallery.changes import (
    CLOUD,
    LARGEST_OPACITY,
    TARGET,
    blend,
    cloud_opacity,
    target_share,
    with_offset,
    with_swap,
)
from model.evaluation.gallery.layers import RELATIVE
from model.evaluation.gallery.panels import panel_of, pixel_of, source_bands, view_of
from model.evaluation.gallery.patches import FIELDS, LAKE, PASTURE, SNOW
from model.evaluation.gallery.places import crop, distance, far_from, inside, nearest, small_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.duality import DualityModel, Multispectral
    from model.evaluation.figures import Panel
    from model.evaluation.simulation import SimulatedScene

SWAPS: Final[tuple[tuple[str, str], ...]] = (("B02", "B04"), ("B05", "B06"), ("B11", "B12"))
"""Pairs that a provider may deliver in each other's place: colour order, neighbours, the two of the infrared."""

SHOWN_MATERIALS: Final[tuple[str, ...]] = ("blue_plastic", "hot_spot", "gypsum")
CONTROL: Final[str] = "control"
BRIGHT_FIELD: Final[tuple[int, int]] = (36, 104)
"""A pixel of bare soil in `FIELDS`, put elsewhere as a target that is small and bright but not foreign."""

WATER_B08: Final[float] = 0.05
"""Near-infrared reflectance below which a pixel of the lake patch is water; its shadows are brighter."""

SHORE: Final[int] = 4
"""Water up to this many 10 m pixels from land: within the reach of a 60 m pixel that holds both."""

CLEAR: Final[int] = 2
"""Water nearer to land than this is left out: there the 10 and 20 m bands see land too."""

OPEN: Final[int] = 9
"""Water at least this far from land: no 60 m pixel reaches from here to the shore."""


class Gallery:
    """The failures built from a set of patches, whose own estimates are made once."""

    def __init__(self, model: DualityModel, scenes: Mapping[str, Multispectral], folder: Path | None) -> None:
        self.model, self.folder = model, folder
        missing = {FIELDS, PASTURE, LAKE} - set(scenes)
        if missing:
            raise InvalidImage(f"the gallery needs the patches {sorted(missing)}; given were {sorted(scenes)}")
        self.scenes = scenes
        self._answers: dict[str, Answer] = {}
        self._usual: dict[str, NDArray[np.float32]] = {}

    def untouched(self, name: str) -> Answer:
        """The estimate of a patch as it was delivered, made once."""
        if name not in self._answers:
            self._answers[name] = answer_of(self.model, self.scenes[name])
        return self._answers[name]

    def usual(self) -> dict[str, NDArray[np.float32]]:
        """The layers of all patches without snow: what is left to compare with where a whole scene fails."""
        if not self._usual:
            answers = [self.untouched(name) for name in self.scenes if name != SNOW]
            self._usual = {n: np.concatenate([a.layers[n].ravel() for a in answers]) for n in answers[0].layers}
        return self._usual

    def changed(self, patch: str, msi: Multispectral, hit: NDArray[np.bool_], **texts: str) -> Plan:
        """A patch that was changed, against the same pixels untouched."""
        before = self.untouched(patch)
        return Plan(
            after=answer_of(self.model, msi), hit=hit, before=before, twin=hit,
            normal=self.usual() if hit.all() else before.layers,
            expected=before.spectra[:, hit], reference="the estimate of the untouched patch", **texts,
        )  # fmt: skip

    def draw(self, stem: str, cases: Sequence[Case], panels: Sequence[Panel]) -> list[Case]:
        """The cases with their picture, written if the gallery has a folder."""
        picture = f"failure-{stem}.png"
        if self.folder is not None:
            failure_figure(panels, self.folder / picture)
        return [replace(case, panels=tuple(panels), picture=picture) for case in cases]

    # Each of the following makes one picture.

    def cloud(self) -> list[Case]:
        """The soft edge of a cloud over a pasture."""
        before = self.untouched(PASTURE)
        opacity = cloud_opacity(*before.msi.b10.shape[1:])
        hit = (opacity > 0.1) & (opacity < 0.5)
        plan = self.changed(
            PASTURE, blend(before.msi, opacity, CLOUD), hit,
            name="cloud-edge", title="The soft edge of a cloud",
            see="at most a seam along the cloud's edge that cuts across the fields",
        )  # fmt: skip
        case = measure(plan)
        view = view_of((before, plan.after), ("out_of_domain_score", "stage_change_1", "sigma_swir2" + RELATIVE))
        at = nearest(opacity, 0.3)
        return self.draw("cloud-edge", [case], [
            panel_of(before, view, at, "Untouched pasture", "The patch as it was delivered."),
            panel_of(plan.after, view, at, f"{case.title}: opacity 0 to {LARGEST_OPACITY:.1f}, "
                   "mixed into every band at its own resolution",
                   "The spectra look like those of brighter ground. "
                   f"Measured where the opacity is 0.1 to 0.5, the marked pixel at 0.3. {measured_sentence(case)}"),
        ])  # fmt: skip

    def small(self, scene: SimulatedScene) -> list[Case]:
        """Objects smaller than a coarse pixel, in a scene whose truth is known."""
        answer = answer_of(self.model, scene.msi)
        hit = small_objects(scene.msi.b10)
        rest = far_from(hit, 3)
        plan = Plan(
            name="small-objects", title="Aircraft and roofs smaller than a coarse pixel",
            see="the objects' own shape, a pixel or two wider; the intervals widen there and mostly hold",
            after=answer, hit=hit, before=answer, twin=rest, normal=answer.within(rest),
            expected=scene.truth[:, hit], reference="the truth",
        )  # fmt: skip
        case = measure(plan)
        elsewhere = float(np.sqrt(np.nanmean((answer.spectra - scene.truth)[:, rest] ** 2)))
        at = pixel_of(plan, 0.8)
        view = view_of((answer,), ("detail", "sigma_swir1", "scale"), crop(*at, hit.shape))
        quiet = nearest(np.where(far_from(~rest, 4), 0.0, 1.0) + distance(hit.shape, at) / 1e3, 0.0)
        quiet = quiet if inside(quiet, view.window) else at
        return self.draw("small-objects", [case], [
            panel_of(answer, view, at, f"{case.title} (San Diego, simulated from AVIRIS: the truth is known)",
                   f"Elsewhere in the scene the RMSE is {elsewhere:.3f}. The weights were fitted to this scene too: "
                   f"on new ground errors are larger. {measured_sentence(case)}", scene.truth[:, at[0], at[1]]),
            panel_of(answer, view, quiet, "The same place, an even surface beside them",
                   "Even surroundings leave the coarse bands little to guess: detail, sigma and scale are low.",
                   scene.truth[:, quiet[0], quiet[1]]),
        ])  # fmt: skip

    def material(self, kind: str) -> tuple[Plan, tuple[int, int]]:
        """A target of a foreign surface, or of the bright field beside it (`CONTROL`), in a green field."""
        before = self.untouched(FIELDS)
        if kind == CONTROL:
            spectrum = before.spectra[:, BRIGHT_FIELD[0], BRIGHT_FIELD[1]].astype(np.float64)
            bands = source_bands(before.msi, *BRIGHT_FIELD)
        else:
            surface = next(s for s in foreign_spectra(1) if s.kind.name == kind)
            spectrum = surface.spectra[:, 0]
            bands = self.model.parameters.sensors[before.msi.platform].responses @ spectrum
            bands[0] = surface.coastal[0]
        shape = (int(before.msi.b10.shape[1]), int(before.msi.b10.shape[2]))
        row, column = 45, 75  # the middle of a field
        share = target_share(*shape, row, column)
        hit = share > 0
        plan = Plan(
            name=f"material-{kind.replace('_', '-')}",
            title=f"An inserted target of {10 * TARGET} m: {kind.replace('_', ' ')}",
            see="the target's shape stands out from its field",
            after=answer_of(self.model, blend(before.msi, share, bands)), hit=hit, before=before, twin=hit,
            normal=before.layers, expected=np.repeat(spectrum[:, None], int(hit.sum()), axis=1),
            reference="the inserted spectrum",
        )  # fmt: skip
        return plan, (row + TARGET // 2, column + TARGET // 2)

    def materials(self, kinds: Iterable[str]) -> list[Case]:
        """Targets of several surfaces, measured but not drawn."""
        return [measure(self.material(kind)[0]) for kind in kinds]

    def shown_materials(self) -> list[Case]:
        """The foreign surfaces of the picture, a panel for each."""
        plans = [self.material(kind) for kind in SHOWN_MATERIALS]
        cases = [measure(plan) for plan, _ in plans]
        window = crop(*plans[0][1], plans[0][0].hit.shape)
        view = view_of(
            [plan.after for plan, _ in plans],
            ("out_of_domain_score", "stage_change_1", "sigma_swir1" + RELATIVE),
            window,
        )
        view.tops["sigma_swir1" + RELATIVE] = 0.2  # or the brightest target alone has colours
        panels = [
            panel_of(
                plan.after, view, at, case.title, f"{_reason(kind)}. {measured_sentence(case)}", plan.expected[:, 0]
            )
            for kind, case, (plan, at) in zip(SHOWN_MATERIALS, cases, plans, strict=True)
        ]
        return self.draw("foreign-material", cases, panels)

    def offset(self, patch: str = FIELDS) -> Plan:
        """A patch whose offset was not applied."""
        before = self.untouched(patch)
        return self.changed(
            patch, with_offset(before.msi), np.ones(before.msi.b10.shape[1:], bool),
            name="offset", title="The offset of −1000 DN was not applied: every band 0.1 too bright",
            see="no layer tells; no spectrum has a dark channel left (below)",
        )  # fmt: skip

    def swap(self, pair: tuple[str, str], patch: str = FIELDS) -> Plan:
        """A patch with two bands in each other's place."""
        before = self.untouched(patch)
        return self.changed(
            patch, with_swap(before.msi, *pair), np.ones(before.msi.b10.shape[1:], bool),
            name=f"swap-{pair[0]}-{pair[1]}".lower(), title=f"{pair[0]} and {pair[1]} delivered in each other's place",
            see="strongest on the land cover on which the two bands differ most",
        )  # fmt: skip

    def shown_offset(self) -> list[Case]:
        """The missed offset beside the untouched fields."""
        before, plan = self.untouched(FIELDS), self.offset()
        case, at = measure(plan), pixel_of(plan)
        view = view_of((before, plan.after), ("out_of_domain_score", "learned_share", "sigma_swir2" + RELATIVE))
        return self.draw("offset", [case], [
            panel_of(before, view, at, "Untouched fields", "The patch as it was delivered."),
            panel_of(plan.after, view, at, case.title, measured_sentence(case)),
        ])  # fmt: skip

    def shown_swaps(self) -> list[Case]:
        """Every swap of `SWAPS` beside the untouched fields."""
        plans = [self.swap(pair) for pair in SWAPS]
        cases = [measure(plan) for plan in plans]
        before = self.untouched(FIELDS)
        view = view_of(
            [before, *(p.after for p in plans)], ("out_of_domain_score", "learned_share", "sigma_swir2" + RELATIVE)
        )
        at = pixel_of(plans[0], 0.8)
        panels = [panel_of(before, view, at, "Untouched fields", "The patch as it was delivered.")]
        panels += [
            panel_of(p.after, view, at, case.title, measured_sentence(case))
            for p, case in zip(plans, cases, strict=True)
        ]
        return self.draw("swapped-bands", cases, panels)

    def shore(self) -> list[Case]:
        """Water near a lake's shore, against open water."""
        answer = self.untouched(LAKE)
        water = answer.msi.b10[3] < WATER_B08
        deep = far_from(~water, OPEN)
        hit = far_from(~water, CLEAR - 1) & ~far_from(~water, SHORE)
        if not hit.any() or not deep.any():
            raise InvalidImage(f"{LAKE} shows no lake: {int(water.sum())} pixels of water")
        typical = np.nanmedian(answer.spectra[:, deep], axis=1)
        plan = Plan(
            name="lake-shore", title="A lake shore: the 60 m band B09 sees the land",
            see="a seam along the shore, on the water's side",
            after=answer, hit=hit, before=answer, twin=deep, normal=answer.within(deep),
            expected=np.repeat(typical[:, None], int(hit.sum()), axis=1), reference="the median of open water",
        )  # fmt: skip
        case = measure(plan)
        at, calm = pixel_of(plan, 0.9), nearest(np.where(deep, distance(deep.shape, (20, 20)), 1e3), 0.0)
        view = view_of((answer,), ("attribution_B09", "sigma_nir_gap", "scale"), crop(42, 42, hit.shape, 84))
        beyond = (CENTRE_NM > 900) & (CENTRE_NM < 1300)
        lift = (answer.spectra[:, hit][beyond] - typical[beyond][:, None]).mean(axis=0)
        return self.draw("lake-shore", [case], [
            panel_of(answer, view, calm, "Open water of the same lake", "Far from land every band sees water alone."),
            panel_of(answer, view, at, f"{case.title} (water {10 * CLEAR}–{10 * SHORE} m from land)",
                   f"Between 0.9 and 1.3 µm the estimate lies {shown(float(np.median(lift)))} above open water in the "
                   f"median, {shown(float(np.percentile(lift, 95)))} on the worst twentieth. "
                   f"{measured_sentence(case)}"),
        ])  # fmt: skip


def _reason(kind: str) -> str:
    text = next(k.reason for k in FOREIGN if k.name == kind)
    return text[0].upper() + text[1:]


def make_gallery(
    model: DualityModel,
    scenes: Mapping[str, Multispectral],
    folder: Path | None,
    simulated: SimulatedScene | None = None,
) -> list[Case]:
    """Build every failure, measure it, and draw it.

    Args:
        model: whose layers are read.
        scenes: untouched Sentinel-2 patches by name, among them `FIELDS`, `PASTURE` and `LAKE`.
        folder: where the pictures ``failure-*.png`` go, made if absent; ``None`` draws none.
        simulated: a scene of known truth with objects smaller than 20 m; without it that case is left out.

    Returns:
        The cases in the order of the chapter.

    Raises:
        InvalidImage: if a patch is missing or shows no lake.
    """
    gallery = Gallery(model, scenes, folder)
    cases = [*gallery.cloud()]
    if simulated is not None:
        cases += gallery.small(simulated)
    return [*cases, *gallery.shown_materials(), *gallery.shown_offset(), *gallery.shown_swaps(), *gallery.shore()]
