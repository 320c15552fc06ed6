"""Draw the failure gallery and renew the chapter's numbers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.duality import load_model
from model.evaluation.gallery.case import measured_sentence
from model.evaluation.gallery.cases import Gallery, make_gallery
from model.evaluation.gallery.chapter import chapter_blocks
from model.evaluation.gallery.patches import PLATFORM, read_patches
from model.evaluation.markdown import rewrite
from model.evaluation.simulation import simulate_scene
from model.spectra import read_spectra

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the gallery and renew the chapter's numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluation.gallery", description="Draw the failure gallery and renew its numbers."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with sentinel2/ and cubes/")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where the pictures go")
    parser.add_argument("--chapter", type=Path, default=Path("docs/7-reading-explanations.md"), help="text to renew")
    parser.add_argument("--weights", type=Path, help="folder of weights; the shipped ones unless given")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    model = load_model(given.weights, given.device)
    scenes = read_patches(given.data)
    spectra = read_spectra(given.data / "cubes" / "aviris_sandiego_a.npz")
    responses = model.parameters.sensors[PLATFORM].responses
    simulated = simulate_scene(spectra, responses, PLATFORM, np.random.default_rng(0))
    cases = make_gallery(model, scenes, given.out, simulated)
    for case in cases:
        sys.stdout.write(f"{case.name}: {measured_sentence(case)}\n")
    blocks = chapter_blocks(Gallery(model, scenes, None), cases)
    if given.chapter.exists():
        given.chapter.write_text(rewrite(given.chapter.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    else:
        sys.stdout.write(f"{given.chapter} is absent: its numbers were not renewed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
