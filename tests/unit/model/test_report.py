"""The page of an evaluation: its table, its figures, and that file names are only text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from model.evaluation.figures import write_report
from tests.unit.model.figure_rows import SCALARS, make_row, only, size_of


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


class TestReport:
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
