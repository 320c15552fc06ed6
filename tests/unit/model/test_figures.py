"""Pictures of the evaluation: what is drawn, what is left out, what a page may hold."""

from __future__ import annotations

import struct
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import norm

from model.bands import CENTRE_NM, SOURCE_BANDS, SPECTRAL_GROUPS
from model.evaluation import figures
from model.evaluation.figures import (
    LARGEST_STEP_NM,
    Layer,
    Panel,
    PixelSpectrum,
    failure_figure,
    reference,
    skill,
    unbroken_runs,
    write_figures,
    write_report,
)

ORDER = np.argsort(CENTRE_NM)
BASELINES = {
    "spectral": {"mean": 5.0, "wiener": 1.2, "mlp": 1.1, "brand_new": 0.9},
    "full": {"bicubic_wiener": 2.0, "guided_wiener": 1.25, "all_at_10m_wiener": 0.8},
}


def spectra(rng: np.random.Generator, n: int) -> np.ndarray:
    """(172, n) something between a leaf and a soil."""
    w = CENTRE_NM[:, None]
    leaf = 0.04 + 0.4 / (1 + np.exp(-(w - 715) / 12)) * np.exp(-(((w - 900) / 1100) ** 2))
    soil = 0.08 + 0.3 * (1 - np.exp(-(w - 400) / 700))
    share = rng.random(n)
    return (share * leaf + (1 - share) * soil) * rng.uniform(0.6, 1.2, n)


def make_row(file: str = "/data/scene.npz", tier: str = "spectral", seed: int = 0, *, seen: bool = False) -> dict:
    """A row as the evaluation writes it, of a model whose errors are as large as it says."""
    rng = np.random.default_rng(seed)
    truth = spectra(rng, 60)
    sigma = np.full_like(truth, 0.004) * (1 + CENTRE_NM[:, None] / 1000)
    estimate = truth + sigma * rng.normal(size=truth.shape)
    z = np.abs(estimate - truth) / sigma
    rmse = float(np.sqrt(((estimate - truth) ** 2).mean()))
    nominal = np.linspace(0.1, 0.9, 9)
    pixels = [0, 20, 40]
    return {
        "file": file,
        "tier": tier,
        "pixels": 60,
        "in_training": seen,
        "rmse": rmse,
        "sam_deg": 2.0,
        "sam_bright_deg": 1.9,
        "psnr_db": float(-20 * np.log10(rmse)),
        "coverage": {k: float((z <= norm.ppf(0.5 + int(k) / 200)).mean()) for k in ("50", "80", "90", "95")},
        "coverage_in_domain": {"90": 0.91},
        "interval_width": float(2 * 1.645 * sigma.mean()),
        "consistency_within_noise": 0.995,
        "ood_fraction": 0.01,
        "groups": {
            g.name: {"rmse": 0.004, "coverage_90": 0.9, "interval_width": float(3.29 * sigma[g.channels].mean())}
            for g in SPECTRAL_GROUPS
        },
        "spectrum": {
            "wavelength_nm": CENTRE_NM.tolist(),
            "rmse": np.sqrt(((estimate - truth) ** 2).mean(axis=1)).tolist(),
            "wiener_rmse": (1.2 * sigma.mean(axis=1)).tolist(),
            "sigma": sigma.mean(axis=1).tolist(),
            "truth_std": truth.std(axis=1).tolist(),
        },
        "calibration": {
            "nominal": nominal.tolist(),
            "observed": [float((z <= norm.ppf(0.5 + p / 2)).mean()) for p in nominal],
        },
        "examples": [
            {
                "title": title,
                "truth": truth[:, i].tolist(),
                "estimate": estimate[:, i].tolist(),
                "sigma": sigma[:, i].tolist(),
                "bands": np.interp([b.centre_nm for b in SOURCE_BANDS], CENTRE_NM[ORDER], truth[ORDER, i]).tolist(),
            }
            for title, i in zip(("best", "median", "worst"), pixels, strict=True)
        ],
        "baselines": {name: {"rmse": rmse * factor} for name, factor in BASELINES[tier].items()},
    }


def size_of(png: Path) -> tuple[int, int]:
    header = png.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])


class Page(HTMLParser):
    """What a browser would find on the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._cell: tuple[str, str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self._cell = (dict(attrs).get("class") or "", "")

    def handle_data(self, data):
        if self._cell is not None:
            self._cell = (self._cell[0], self._cell[1] + data)

    def handle_endtag(self, tag):
        if tag in {"td", "th"} and self._cell is not None:
            self.rows[-1].append(self._cell)
            self._cell = None

    def column(self, row: int, head: str) -> tuple[str, str]:
        """Class and text of a cell of the first table."""
        return self.rows[row][[text for _, text in self.rows[0]].index(head)]


class TestRuns:
    def test_the_products_grid_has_three_detectors_and_two_gaps(self):
        runs = unbroken_runs(CENTRE_NM)
        assert [len(run) for run in runs] == [22, 64, 7, 35, 44]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(400, 2500), min_size=1, max_size=60))
    def test_every_channel_is_in_one_run_that_rises_without_a_gap(self, wavelengths):
        axis = np.array(wavelengths)
        runs = unbroken_runs(axis)
        assert sorted(np.concatenate(runs).tolist()) == list(range(axis.size))
        for run in runs:
            steps = np.diff(axis[run])
            assert (steps > 0).all()
            assert (steps <= LARGEST_STEP_NM).all()

    def test_a_grid_in_no_order_is_drawn_as_if_sorted(self):
        shuffled = np.random.default_rng(0).permutation(CENTRE_NM)
        longest = max(unbroken_runs(shuffled), key=len)
        assert np.array_equal(np.sort(shuffled[longest]), shuffled[longest])
        assert len(longest) > 90


class TestDrawing:
    def test_no_line_and_no_interval_crosses_a_gap(self):
        axes = Figure().add_subplot()
        rng = np.random.default_rng(0)
        x = spectra(rng, 1)[:, 0]
        figures._draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, 0.01 + 0 * x, np.full(12, 0.2), x))
        drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) > 1]
        drawn += [np.unique(body.get_paths()[0].vertices[:, 0]) for body in axes.collections]
        assert len(drawn) == 2 * 5 + 3
        for xs in drawn:
            assert np.diff(xs).max() <= LARGEST_STEP_NM / 1e3
            for low, high in figures.OPAQUE_NM:
                assert not ((xs > low / 1e3) & (xs < high / 1e3)).any()

    def test_all_source_bands_are_drawn_where_they_are(self):
        axes = Figure().add_subplot()
        x = np.full(172, 0.2)
        bands = np.linspace(0.1, 0.3, 12)
        bands[4] = np.nan
        figures._draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, 0.01 * x, bands))
        points = {(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in axes.lines if len(p.get_xdata()) == 1}
        expected = {(b.centre_nm / 1e3, v) for b, v in zip(SOURCE_BANDS, bands, strict=True) if np.isfinite(v)}
        assert points == expected

    def test_a_hopeless_interval_does_not_flatten_the_spectrum(self):
        x = np.linspace(0.1, 0.4, 172)
        axes = Figure().add_subplot()
        figures._draw_spectrum(axes, CENTRE_NM, PixelSpectrum(x, np.full(172, 9.0), np.full(12, 0.2)))
        low, high = axes.get_ylim()
        assert high - low < 1
        assert low < 0
        assert high > 0.4

    def test_names_are_taken_literally_and_in_glyphs_the_font_has(self):
        assert figures._plain("a$b$ µ") == r"a\$b\$ µ"
        assert figures._plain("日本\n") == "□□□"

    @given(st.text(max_size=80), st.integers(8, 40))
    def test_shortened_names_keep_their_ends(self, text, letters):
        short = figures._short(text, letters)
        assert len(short) <= max(letters, 1) or short == text
        assert short[: letters // 2] == text[: letters // 2]


class TestSkill:
    @given(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0))
    def test_skill_is_the_share_of_wieners_squared_error_taken_away(self, rmse, wiener):
        row = {"rmse": rmse, "baselines": {"bicubic_wiener": {"rmse": 9.0}, "wiener": {"rmse": wiener}}}
        assert reference(row) == "wiener"
        assert skill(row) == pytest.approx((wiener**2 - rmse**2) / wiener**2, rel=1e-9, abs=1e-9)

    @pytest.mark.parametrize(
        "baselines", [None, {}, {"mean": {"rmse": 0.1}}, {"wiener": {"rmse": None}}, {"wiener": {}}]
    )
    def test_without_wiener_there_is_no_skill(self, baselines):
        row = {"rmse": 0.1, "baselines": baselines}
        assert reference(row) is None
        assert np.isnan(skill(row))


SCALARS = (
    "file",
    "tier",
    "pixels",
    "in_training",
    "rmse",
    "sam_deg",
    "psnr_db",
    "coverage",
    "coverage_in_domain",
    "baselines",
)


def only(row: dict, *keys: str) -> dict:
    """A row with nothing but these keys and its names: figures are slow to draw."""
    return {key: row[key] for key in ("file", "tier", *keys)}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [
        make_row("/data/field.npz", seed=1),
        only(make_row("/data/town.npz", seed=2, seen=True), *SCALARS),
        only(make_row("/data/town.npz", "full", seed=3), *SCALARS, "spectrum"),
    ]


@pytest.fixture(scope="module")
def report(rows, tmp_path_factory) -> Path:
    return write_report(rows, tmp_path_factory.mktemp("report") / "made" / "here")


class TestFigures:
    def test_whole_rows_give_every_figure_at_a_printable_size(self, report):
        found = {path.stem: size_of(path) for path in report.parent.glob("*.png")}
        assert set(found) == {
            "rmse-by-file",
            "rmse-by-wavelength-spectral",
            "rmse-by-wavelength-full",
            "calibration",
            "spectra-spectral-field",
            "reliability-spectral",
        }
        assert {width for width, _ in found.values()} == {1800}
        assert all(400 < height < 3000 for _, height in found.values())

    @pytest.mark.parametrize(
        ("key", "stem"),
        [
            ("rmse", "rmse-by-file"),
            ("spectrum", "rmse-by-wavelength-spectral"),
            ("calibration", "calibration"),
            ("coverage", "calibration"),
            ("examples", "spectra-spectral-scene"),
            ("groups", "reliability-spectral"),
        ],
    )
    def test_a_figure_needs_its_own_keys_only_and_what_lacks_is_not_listed(self, tmp_path, key, stem):
        written = write_figures([only(make_row(), key)], tmp_path)
        assert written == [tmp_path / f"{stem}.png"] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("rows", [[], [{}], [{"file": "a.npz", "tier": "spectral", "rmse": None}]])
    def test_rows_without_numbers_give_no_figures(self, tmp_path, rows):
        assert write_figures(rows, tmp_path) == []

    def test_groups_of_bare_errors_give_no_reliability(self, tmp_path):
        row = only(make_row(), "coverage") | {"groups": {g.name: 0.01 for g in SPECTRAL_GROUPS}}
        assert [path.stem for path in write_figures([row], tmp_path)] == ["calibration"]

    def test_numbers_that_are_null_or_nan_or_of_the_wrong_length_do_not_stop_the_others(self, tmp_path):
        row = make_row()
        row["spectrum"]["rmse"][10:20] = [None] * 10
        row["spectrum"]["sigma"] = [float("nan")] * 172
        row["spectrum"]["truth_std"] = [0.1] * 3
        row["spectrum"]["wiener_rmse"][0] = 0.0
        row["examples"][0]["truth"] = None
        row["examples"][1]["bands"] = [None] * 12
        row["examples"][2]["sigma"] = [0.1]
        row["groups"]["blue"]["rmse"] = None
        row["groups"]["red"]["coverage_90"] = None
        row["baselines"]["mean"]["rmse"] = float("inf")
        row["coverage"]["90"] = None
        row["calibration"]["observed"][3] = None
        assert len(write_figures([row], tmp_path)) == 5

    def test_two_files_of_one_name_do_not_overwrite_each_other(self, tmp_path):
        rows = [only(make_row(f"/{folder}/scene.npz", seed=i), "examples") for i, folder in enumerate("ab")]
        for row in rows:
            del row["examples"][1:]
        assert [p.stem for p in write_figures(rows, tmp_path)] == [
            "spectra-spectral-scene",
            "spectra-spectral-scene-2",
        ]

    def test_the_same_rows_give_the_same_files(self, tmp_path):
        row = only(make_row(), "coverage")
        first, second = (write_figures([row], tmp_path / name) for name in "ab")
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]

    def test_drawing_touches_no_global_state(self, tmp_path, monkeypatch):
        monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
        assert write_figures([only(make_row(), "coverage")], tmp_path)
        assert "matplotlib.pyplot" not in sys.modules


class TestReport:
    def test_the_page_needs_nothing_beside_it(self, report):
        page = Page(report.read_text(encoding="utf-8"))
        sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
        assert len(sources) == len(list(report.parent.glob("*.png")))
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe"}
        assert not [attrs for _, attrs in page.tags if "href" in attrs]
        assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")

    def test_the_table_holds_the_rows_numbers(self, report, rows):
        page = Page(report.read_text(encoding="utf-8"))
        named = {line[0][1].removesuffix(" *"): number for number, line in enumerate(page.rows[:3])}
        for row in rows[:2]:
            number = named[Path(row["file"]).stem]
            assert page.column(number, "model RMSE") == ("model", f"{row['rmse']:.4f}")
            assert page.column(number, "Wiener RMSE")[1] == f"{1.2 * row['rmse']:.4f}"
            assert page.column(number, "skill over Wiener")[1] == f"+{100 * (1 - 1 / 1.44):.1f} %"
            assert page.column(number, "90 % interval covers")[1] == f"{100 * row['coverage']['90']:.1f} %"
        assert page.rows[named["town"]][0][1] == "town *"

    def test_a_baseline_that_wins_is_marked_and_the_bound_is_not(self, tmp_path, report):
        page = Page(report.read_text(encoding="utf-8"))
        assert page.column(1, "brand new RMSE")[0] == "lost"
        assert page.column(1, "Wiener RMSE")[0] == ""
        full = make_row(tier="full")
        full["baselines"]["guided_wiener"]["rmse"] = 0.5 * full["rmse"]
        page = Page(write_report([only(full, "rmse", "baselines")], tmp_path).read_text(encoding="utf-8"))
        assert page.column(1, "guided + Wiener RMSE")[0] == "lost"
        assert page.column(1, "skill over guided + Wiener") == ("lost", "−300.0 %")
        assert page.column(1, "bound: all bands at 10 m + Wiener RMSE")[0] == ""

    def test_the_mean_is_over_the_files_not_in_training(self, tmp_path):
        rows = [
            {"file": name, "tier": "spectral", "rmse": rmse, "in_training": seen, "baselines": {"wiener": {"rmse": w}}}
            for name, rmse, w, seen in (("a", 0.01, 0.03, False), ("b", 0.03, 0.05, False), ("c", 9.0, 9.0, True))
        ]
        page = Page(write_report(rows, tmp_path).read_text(encoding="utf-8"))
        last = len(page.rows) - 1
        assert page.rows[last][0][1] == "mean, files not in training"
        assert page.column(last, "model RMSE")[1] == "0.0200"
        assert page.column(last, "Wiener RMSE")[1] == "0.0400"
        assert page.column(last, "skill over Wiener")[1] == "+75.0 %"
        rows[1]["baselines"] = {}
        page = Page(write_report(rows, tmp_path).read_text(encoding="utf-8"))
        assert page.column(last, "Wiener RMSE")[1] == "–"  # a mean over some of the files would mislead

    def test_file_names_are_only_text(self, tmp_path):
        name = "<script>alert(1)<script>$frac$ \"'& 日本"
        row = only(make_row(f"/data/{name}.npz"), "rmse", "examples")
        row["examples"] = row["examples"][:1]
        row["examples"][0]["title"] = "$worst$ <b>"
        row["baselines"] = {"wiener": {"rmse": 0.1}, "<i>$x$": {"rmse": 0.2}}
        row["tier"] = "<u>$t$"
        page = write_report([row], tmp_path)
        text = page.read_text(encoding="utf-8")
        tags = {tag for tag, _ in Page(text).tags}
        assert not tags & {"script", "b", "i", "u"}
        assert "&lt;script&gt;alert(1)&lt;script&gt;$frac$ &quot;&#x27;&amp; 日本" in text
        assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))
        assert all(set(path.stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") for path in tmp_path.glob("*.png"))


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


class TestGallery:
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
