"""Places to read with care: a row of picture, layers and spectrum for each."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.figures import Layer, Panel, PixelSpectrum, failure_figure
from tests.unit.model.figure_rows import size_of, spectra


def make_panel(**changed) -> Panel:
    rng = np.random.default_rng(0)
    x = spectra(rng, 1)[:, 0]
    rgb = rng.random((24, 30, 3))
    rgb[:3, :3] = np.nan
    layers = [
        Layer("distance", rng.random((24, 30)) * 9, "sigma", 0.0, 5.0),
        Layer("residual", rng.normal(size=(24, 30)), "reflectance", -1.0, 1.0),
        Layer("nothing known", np.full((24, 30), np.nan), "$", None, None),
    ]
    parts = {
        "title": "A roof of a $material$ nobody measured",
        "rgb": rgb,
        "layers": layers,
        "spectrum": PixelSpectrum(x, 0.02 * np.ones(172), np.full(12, 0.2), 1.05 * x),
        "marked": (12, 29),
        "caption": "A caption with a $ sign, long enough to be folded. " * 6,
    }
    return Panel(**{**parts, **changed})


class TestFailureFigure:
    def test_each_place_is_a_row(self, tmp_path):
        unknown = PixelSpectrum(np.full(172, 0.2), np.full(172, 0.01), np.full(12, np.nan))
        plain_tuple = ("flat", np.zeros((24, 30)), "fraction", 0.0, 0.0)
        few = make_panel(layers=[plain_tuple], spectrum=unknown, caption="", rgb=np.ones((24, 30, 3)))
        one = failure_figure([few], tmp_path / "new" / "one.png")
        two = failure_figure([make_panel(), few], tmp_path / "two.png")
        assert size_of(one)[0] == size_of(two)[0] == 1950
        assert size_of(two)[1] > 1.7 * size_of(one)[1]

    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"marked": (24, 0)}, "outside the picture"),
            ({"marked": (0, -1)}, "outside the picture"),
            ({"layers": [Layer("small", np.zeros((3, 3)), "", None, None)]}, "layer small is"),
        ],
    )
    def test_parts_that_do_not_fit_are_refused(self, tmp_path, changed, match):
        with pytest.raises(ValueError, match=match):
            failure_figure([make_panel(**changed)], tmp_path / "a.png")
        with pytest.raises(ValueError, match="no panel"):
            failure_figure([], tmp_path / "a.png")
        assert not list(tmp_path.iterdir())
