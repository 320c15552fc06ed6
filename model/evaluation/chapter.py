"""The tables of the chapter on the model, from a training run's study, so that no figure in it is typed by hand.

``python -m model.evaluation.chapter --data DATA`` draws the figures and rewrites what stands between
``<!-- begin NAME -->`` and ``<!-- end NAME -->`` in the chapter. The sentences around the marks are written by people
and have to be read again when the weights change.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from model.bands import SPECTRAL_GROUPS
from model.card import load_card
from model.duality import load_model
from model.evaluation.figures import write_figures
from model.evaluation.markdown import markdown_table, rewrite
from model.evaluation.real import judge_real
from model.evaluation.study import study_table
from model.evaluation.wald import read_sentinel2
from model.fusion import RELATIVE_MTF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from model.card import ModelCard
    from model.duality import DualityModel

Row = dict[str, Any]

SHIPPED_STUDY: Final[Path] = Path(__file__).parent / "weights" / "study.json"
"""Rows of the run that made the shipped weights."""

REDUCTIONS: Final[tuple[float, ...]] = (0.25, 0.36, RELATIVE_MTF)
"""Modulations that real images are reduced with: the ends and the middle of what is known of the sensors. The last is
the one that guided injection assumes, so it is judged there with its own point-spread function."""

SHARPENERS: Final[Mapping[str, str]] = {
    "bicubic": "bicubic",
    "glp_synthesised": "Laplacian pyramid",
    "guided": "guided",
    "model": "model",
}


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def targets_table(card: ModelCard) -> str:
    """Every target of the design: asked, measured, met or missed."""
    verdicts = {None: "not judged", True: "met", False: "**missed**"}
    rows = [
        [t["what"], t["target"].replace(">=", "≥").replace("<=", "≤"), _number(t["value"], 3), verdicts[t["met"]]]
        for t in card.metrics["targets"]
    ]
    return markdown_table(["what", "target", "measured", ""], rows)


def reliability_table(card: ModelCard) -> str:
    """Error, width and coverage of the intervals, and skill by spectral group."""
    known = card.metrics["reliability"]
    columns = {"rmse": 4, "interval_width": 3, "coverage_90": 2, "skill": 3}
    rows = [
        [group.title, *(_number(known[group.name][name], digits) for name, digits in columns.items())]
        for group in SPECTRAL_GROUPS
    ]
    head = ["range", "RMSE", "width of the 90 % interval", "covered", "share of the scene's variance explained"]
    return markdown_table(head, rows)


def features_table(card: ModelCard) -> str:
    """Which diagnostic features are identifiable."""
    columns = ("r2_median", "r2_min", "r2_max")
    rows = [
        [one["title"], *(_number(one[name], 2) for name in columns), str(one["files"]), one["verdict"]]
        for one in card.metrics["identifiability"].values()
    ]
    return markdown_table(["feature", "median R²", "worst", "best", "scenes", "verdict"], rows)


def coverage_sentence(card: ModelCard, study: Sequence[Row]) -> str:
    """How many of the errors the intervals hold, by level, scene and tier."""
    mean, by_split = card.metrics["coverage_in_domain"], card.metrics["coverage_by_split"]
    spectral = [row for row in study if row["tier"] == "spectral"]
    full = [row for row in study if row["tier"] == "full"]
    levels = ", ".join(f"{level} %: {mean[level]:.1%}" for level in ("50", "80", "95"))
    splits = ", ".join(f"{name.replace('_', ' ')} {shares['90']:.3f}" for name, shares in by_split.items())
    spatial = ", ".join(f"{row['file']} {row['coverage_in_domain']['90']:.3f}" for row in full)
    width, climatology = (
        float(np.mean([row[name] for row in spectral])) for name in ("interval_width", "climatology_width")
    )
    return (
        f"The 90 % interval covers {mean['90']:.1%} averaged over the scenes left out ({levels}); the worst scene is "
        f"{mean['worst_split'].replace('_', ' ')} with {mean['worst_split_90']:.1%}. By scene: {splits}. On average "
        f"{mean['refused']:.1%} of the pixels are refused. The intervals are {width:.3f} wide on average in the "
        f"spectral tier; climatology's are {climatology:.2f}. In the full tier: {spatial}."
    )


def doubt_sentence(study: Sequence[Row]) -> str:
    """What metamers and foreign surfaces say of the intervals and of the out-of-domain score."""
    covered = [row["metamers"]["covered"] for row in study if row.get("metamers")]
    told = [row["domain"]["auroc"] for row in study if "domain" in row]
    return (
        "Metamers, spectra that the sensor cannot tell from the truth (the unseen part exchanged for that of another "
        f"real spectrum), lie inside the 90 % intervals for {min(covered):.2f}–{max(covered):.2f} of the values. "
        "Out-of-domain score on a set of foreign surfaces fixed beforehand (`model/evaluation/domain.py`): mean AUROC "
        f"{np.mean(told):.2f} ({min(told):.2f}–{max(told):.2f} over scenes)."
    )


def unmixing_table(study: Sequence[Row]) -> str:
    """Unmixing of the true cube, of the estimates and of the bands."""
    rows = []
    for row in study:
        for position, (name, found) in enumerate(row.get("unmixing", {}).items()):
            error, spread = (found.get(f"abundance_rmse_by_abundance{end}") for end in ("", "_spread"))
            rows.append(
                [
                    "" if position else row["file"],
                    name.replace("_", " "),
                    _number(found.get("endmember_angle_deg"), 1),
                    f"{_number(error, 3)} ± {_number(spread, 2)}",
                    _number(found.get("closure_rmse"), 3),
                ]
            )
    return markdown_table(
        ["scene", "what was unmixed", "endmember angle °", "abundance error", "closure RMSE"], rows, left=2
    )


def real_table(model: DualityModel, files: Iterable[Path]) -> str:
    """Real images at reduced resolution: signal to reconstruction error in dB for every modulation."""
    rows = []
    for file in files:
        scene = read_sentinel2(file)
        judged = [judge_real(model, scene, mtf) for mtf in REDUCTIONS]
        cells = ["; ".join(f"{one[name]['sre_db']:.1f}" for one in judged) for name in SHARPENERS]
        rows.append([f"`{scene['name']}`", *cells])
    return markdown_table(["image", *SHARPENERS.values()], rows)


def blocks(card: ModelCard, study: Sequence[Row]) -> dict[str, str]:
    """Every generated part of the chapter but the real images: mark -> Markdown."""
    return {
        "weights": (
            f"Figures of the weights `{card.digest[:12]}`, trained on {card.trained[:10]} with the code of "
            f"`{card.revision[:12]}`."
        ),
        "study": study_table(study).rstrip(),
        "targets": targets_table(card),
        "reliability": reliability_table(card),
        "features": features_table(card),
        "coverage": coverage_sentence(card, study),
        "doubt": doubt_sentence(study),
        "unmixing": unmixing_table(study),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the study's figures and renew the chapter's tables."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluation.chapter", description=main.__doc__)
    parser.add_argument("--study", type=Path, default=SHIPPED_STUDY, help="study.json of the training run")
    parser.add_argument("--data", type=Path, help="folder with sentinel2/: also judge the real images")
    parser.add_argument("--weights", type=Path, help="folder of weights and card; the shipped ones unless given")
    parser.add_argument("--chapter", type=Path, default=Path("docs/4-model.md"), help="text to renew")
    parser.add_argument("--images", type=Path, default=Path("docs/images/study"), help="where the figures go")
    given = parser.parse_args(arguments)
    study = json.loads(given.study.read_text(encoding="utf-8"))
    card = load_card(given.weights)
    found = blocks(card, study)
    if given.data is not None:
        files = sorted((given.data / "sentinel2").glob("*.npz"))
        found["real"] = real_table(load_model(given.weights, "cpu"), files)
    given.images.mkdir(parents=True, exist_ok=True)
    for drawn in write_figures(study, given.images):
        sys.stdout.write(f"{drawn}\n")
    given.chapter.write_text(rewrite(given.chapter.read_text(encoding="utf-8"), found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
