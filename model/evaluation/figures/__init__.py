"""Pictures for people: what `explains2a evaluate` measured, and how to read an estimate that went wrong.

`write_figures` and `write_report` take the evaluation's JSON rows; a figure is drawn of the rows that hold what it
needs, and left out where none does. `failure_figure` shows places of a scene beside their explanation layers.

Conventions of every figure: colours of Okabe and Ito ("Color universal design", 2008), which colour-blind readers tell
apart, and never colour alone; wavelengths in micrometres; no line crosses a gap of the channels or a detector overlap;
legible at 1200 pixels wide.
"""

from model.evaluation.figures.axes import LARGEST_STEP_NM, OPAQUE_NM, unbroken_runs
from model.evaluation.figures.failure import Layer, Panel, failure_figure
from model.evaluation.figures.report import write_figures, write_report
from model.evaluation.figures.rows import BOUND, REFERENCES, reference, skill
from model.evaluation.figures.spectra import INTERVAL_SIGMAS, PixelSpectrum

__all__ = [
    "BOUND",
    "INTERVAL_SIGMAS",
    "LARGEST_STEP_NM",
    "OPAQUE_NM",
    "REFERENCES",
    "Layer",
    "Panel",
    "PixelSpectrum",
    "failure_figure",
    "reference",
    "skill",
    "unbroken_runs",
    "write_figures",
    "write_report",
]
