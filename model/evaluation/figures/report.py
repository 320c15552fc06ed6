"""The figures as files, and with the table of all rows as one page."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Final

import numpy as np

from model.evaluation.figures.calibration import calibration_figure
from model.evaluation.figures.error import files_figure, wavelength_figures
from model.evaluation.figures.groups import group_figures
from model.evaluation.figures.rows import (
    BOUND,
    REFERENCES,
    baseline_errors,
    by_tier,
    coverage_90,
    file_name,
    finite,
    in_training,
    reference,
    skill,
)
from model.evaluation.figures.spectra import example_figures
from model.evaluation.figures.style import STYLES, save, styles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from model.evaluation.figures.rows import Row
    from model.evaluation.figures.style import Drawn, Style

_FIGURES: Final[tuple[Callable[[Sequence[Row]], Iterator[Drawn]], ...]] = (
    files_figure,
    wavelength_figures,
    calibration_figure,
    example_figures,
    group_figures,
)


def _write(rows: Sequence[Row], folder: Path) -> list[tuple[Path, Drawn]]:
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, tuple[Path, Drawn]] = {}
    for draw in _FIGURES:
        for drawn in draw(rows):
            stem, number = drawn.stem, 2
            while stem.lower() in written:  # two files of one name in different folders
                stem, number = f"{drawn.stem}-{number}", number + 1
            path = folder / f"{stem}.png"
            save(drawn.figure, path, drawn.title)
            written[stem.lower()] = (path, drawn)
    return list(written.values())


def write_figures(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what the evaluation measured.

    Args:
        rows: one for each file and tier, as `explains2a evaluate` writes them: ``file``, ``tier``, ``in_training``,
            ``rmse`` and ``baselines`` (reflectance), ``coverage`` or ``calibration`` (0-1), ``groups``, ``spectrum``
            (its ``wavelength_nm``, nm, is also the axis of the examples) and ``examples``. Any may lack; numbers that
            are null or absent are left out.
        folder: where the PNGs go, 1800 pixels wide; made if absent, files of the same names are replaced.

    Returns:
        The figures written; one that no row has the keys for is not among them.
    """
    return [path for path, _ in _write(rows, folder)]


_STYLE_SHEET: Final = """
body{font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;color:#1a1a1a;background:#fff;max-width:1400px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.25rem;margin:2.2rem 0 .5rem}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .45rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
thead th{vertical-align:bottom;white-space:normal;border-bottom:2px solid #333}
th[scope=row],thead th:first-child{text-align:left;font-weight:500}
th[scope=row]{min-width:15rem;max-width:22rem;white-space:normal;overflow-wrap:anywhere}
.model{background:#eaf3fa;font-weight:600}.lost{background:#fbe6d8;font-weight:600}.lost::after{content:" ▲"}
tr.mean td,tr.mean th{border-top:2px solid #333;font-weight:600}
figure{margin:1rem 0 2.2rem}img{width:100%;max-width:1200px;height:auto}
figcaption,.note{color:#444;font-size:.92rem;max-width:62rem}
@media print{figure{break-inside:avoid}body{max-width:none}}
"""


def _shown(value: float, digits: int) -> str:
    return "–" if not np.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float, sign: str = "") -> str:
    return "–" if not np.isfinite(value) else f"{value:{sign}.1%}".replace("%", " %").replace("-", "−")


def _cells(row: Row, styles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Class and text of a row's numbers, in the order of `_heads`."""
    rmse, baselines = finite(row.get("rmse")), baseline_errors(row)
    yield "", f"{int(row['pixels']):,}".replace(",", " ") if isinstance(row.get("pixels"), int) else "–"
    yield "model", _shown(rmse, 4)
    for name in styles:
        value = baselines.get(name, float("nan"))
        yield ("lost" if value < rmse and name != BOUND else ""), _shown(value, 4)
    gained = skill(row)
    yield ("lost" if gained < 0 else ""), _percent(gained, "+")
    yield "", _shown(finite(row.get("sam_deg")), 2)
    yield "", _shown(finite(row.get("sam_bright_deg")), 2)
    yield "", _shown(finite(row.get("psnr_db")), 1)
    yield "", _percent(coverage_90(row))
    yield "", _shown(finite(row.get("interval_width")), 4)
    yield "", _percent(finite(row.get("consistency_within_noise")))
    yield "", _percent(finite(row.get("ood_fraction")))


def _heads(rows: Sequence[Row], styles: Mapping[str, Style]) -> list[str]:
    over = " or ".join(STYLES[name].label for name in REFERENCES if name in {reference(row) for row in rows})
    return [
        "pixels", "model RMSE", *(f"{style.label} RMSE" for style in styles.values()),
        f"skill over {over}" if over else "skill", "SAM, °", "SAM, bright pixels, °", "PSNR, dB",
        "90 % interval covers", "its width", "source met within noise", "out of domain",
    ]  # fmt: skip


def _mean_row(rows: Sequence[Row], styles: Iterable[str]) -> Row | None:
    """The plain mean over the files that the weights have not seen; ``None`` if there are fewer than two."""
    unseen = [row for row in rows if not in_training(row)]
    if len(unseen) < 2:
        return None

    def mean(values: Iterable[float]) -> float:
        known = np.array(list(values))
        return float(known.mean()) if known.size else float("nan")  # of all or none: a mean over some would mislead

    keys = (
        "rmse", "sam_deg", "sam_bright_deg", "psnr_db", "interval_width", "consistency_within_noise", "ood_fraction",
    )  # fmt: skip
    means = {key: mean(finite(row.get(key)) for row in unseen) for key in keys}
    baselines = {
        name: {"rmse": mean(baseline_errors(row).get(name, float("nan")) for row in unseen)} for name in styles
    }
    return {**means, "baselines": baselines, "coverage": {"90": mean(coverage_90(row) for row in unseen)}}


def _table(rows: Sequence[Row]) -> str:
    styles = styles_of(rows)
    heads = "".join(f"<th scope=col>{html.escape(head)}</th>" for head in _heads(rows, styles))
    lines = []

    def line(title: str, row: Row, kind: str = "") -> str:
        cells = "".join(f"<td{f' class={c}' if c else ''}>{html.escape(text)}</td>" for c, text in _cells(row, styles))
        return f"<tr{kind}><th scope=row>{title}</th>{cells}</tr>"

    for row in sorted(rows, key=lambda row: np.nan_to_num(finite(row.get("rmse")), nan=np.inf)):
        full = html.escape(str(row.get("file", "")), quote=True)
        lines.append(line(f'<span title="{full}">{html.escape(file_name(row))}</span>{" *" * in_training(row)}', row))
    mean = _mean_row(rows, styles)
    if mean is not None:
        lines.append(line("mean, files not in training", mean, " class=mean"))
    return (
        f"<div class=table><table><thead><tr><th scope=col>file</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


_NOTES: Final = (
    "RMSE, interval widths: reflectance, 0–1. SAM: mean spectral angle. PSNR: peak 1. "
    "Skill = 1 − RMSE² / RMSE² of Wiener's linear estimate fitted to the same training spectra: 100 % is perfect, "
    "0 no better than linear. ▲ marks a baseline that beats the model on that file, or a negative skill. "
    "The bound is no rival: it is given every band at 10 m. "
    "* the weights were fitted to this file, so its figures say nothing about new ground."
)


def write_report(rows: Sequence[Row], folder: Path) -> Path:
    """Write the table and the figures as one page that needs nothing beside it.

    Args:
        rows: as `write_figures` takes them.
        folder: where ``index.html`` and the single PNGs go; made if absent.

    Returns:
        The page.
    """
    written = _write(rows, folder)
    tables = "".join(
        f"<h2>{html.escape(tier.capitalize() or 'Unnamed')} tier</h2>{_table(part)}"
        for tier, part in by_tier(rows).items()
    )
    figures = "".join(
        f"<h2>{html.escape(drawn.title)}</h2><figure>"
        f'<img alt="{html.escape(drawn.title, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode("ascii")}">'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
        for path, drawn in written
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Evaluation of the duality model</title><style>{_STYLE_SHEET}</style></head><body>"
        "<h1>Evaluation of the duality model</h1>"
        "<p class=note>Twelve Sentinel-2 bands simulated from known spectra, the 172 channels estimated from them, and "
        "the estimate compared with the spectra.</p>"
        f"{tables}<p class=note>{html.escape(_NOTES)}</p>{figures}</body></html>\n"
    )
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path
