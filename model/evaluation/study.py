"""What the rows of a study, every scene left out in turn, say against the targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from model.bands import SPECTRAL_GROUPS
from model.evaluation.features import feature_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Row = dict[str, Any]


def _saved(rows: Sequence[Row], baseline: str, figure: str = "rmse") -> list[float]:
    """By how much the model is below a baseline, as a part of the baseline; rows that lack it are left out."""
    return [1.0 - row[figure] / row["baselines"][baseline][figure] for row in rows if baseline in row["baselines"]]


def _target(what: str, asked: str, value: float, met: Callable[[float], bool]) -> Row:
    known = bool(np.isfinite(value))
    return {
        "what": what,
        "target": asked,
        "value": round(float(value), 4) if known else None,
        "met": met(value) if known else None,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _least(values: Sequence[float]) -> float:
    return min(values) if values else float("nan")


def targets(rows: Sequence[Row], coverage: Mapping[str, Any]) -> list[Row]:
    """The targets of the design, met or missed.

    Args:
        rows: rows of the evaluation with every scene left out in turn, both tiers.
        coverage: nested coverage over the splits (`model.training.calibration.summary`).

    Returns:
        One row per target: ``what``, ``target``, ``value`` (``None`` where it was not judged), ``met``.
    """
    full = [row for row in rows if row["tier"] == "full"]
    spectral = [row for row in rows if row["tier"] == "spectral"]
    gaps = [
        (b["guided_wiener"]["rmse"] - row["rmse"]) / (b["guided_wiener"]["rmse"] - b["all_at_10m_wiener"]["rmse"])
        for row in full
        for b in [row["baselines"]]
    ]
    bicubic, guided = _saved(full, "bicubic_wiener"), _saved(full, "guided_wiener")
    rmse, angle = _saved(spectral, "wiener"), _saved(spectral, "wiener", "sam_bright_deg")
    angle = [value for value in angle if np.isfinite(value)]
    cos2a = _saved(full, "cos2a_like")
    told = [row["domain"]["auroc"] for row in spectral]
    consistent = [row["consistency_within_noise"] for row in rows]
    return [
        _target("full tier, RMSE below bicubic + Wiener, mean", ">= 0.60", _mean(bicubic), lambda v: v >= 0.60),
        _target("full tier, RMSE below guided + Wiener, mean", ">= 0.20", _mean(guided), lambda v: v >= 0.20),
        _target("full tier, RMSE below guided + Wiener, worst scene", ">= 0", _least(guided), lambda v: v >= 0.0),
        _target("full tier, gap to all bands at 10 m closed, mean", ">= 0.50", _mean(gaps), lambda v: v >= 0.50),
        _target("spectral tier, RMSE below Wiener, mean", ">= 0.15", _mean(rmse), lambda v: v >= 0.15),
        _target("spectral tier, RMSE below Wiener, worst scene", ">= 0", _least(rmse), lambda v: v >= 0.0),
        _target("spectral tier, SAM below Wiener, mean", ">= 0.15", _mean(angle), lambda v: v >= 0.15),
        _target("spectral tier, SAM below Wiener, worst scene", ">= 0", _least(angle), lambda v: v >= 0.0),
        _target("full tier, RMSE below the COS2A-like network, mean", ">= 0.25", _mean(cos2a), lambda v: v >= 0.25),
        _target("pixels met within source noise, worst scene", ">= 0.99", _least(consistent), lambda v: v >= 0.99),
        _target("90 % interval, coverage over scenes", "0.87-0.93", float(coverage["90"]), lambda v: 0.87 <= v <= 0.93),
        _target(
            "90 % interval, worst scene after abstention",
            ">= 0.80",
            float(coverage["worst_split_90"]),
            lambda v: v >= 0.80,
        ),
        _target("foreign surfaces told from known ground (AUROC), mean", ">= 0.95", _mean(told), lambda v: v >= 0.95),
        _target("pixels refused inside the domain, mean", "<= 0.10", float(coverage["refused"]), lambda v: v <= 0.10),
    ]


def identifiability(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Which diagnostic features the product can be trusted for, over all scenes left out (`features.feature_table`)."""
    spectral = [row for row in rows if row["tier"] == "spectral"]
    known = {
        row["file"]: {
            feature: {name: np.nan if value is None else value for name, value in figures.items()}
            for feature, figures in row["features"].items()
        }
        for row in spectral
    }
    return feature_table(known)


def reliability(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Per spectral group: error, stated width, coverage, and how much of the scenes' own variance is explained.

    Args:
        rows: rows of the study; the spectral tier counts, every file alike.

    Returns:
        Group -> ``rmse``, ``interval_width``, ``coverage_90`` (means over files) and ``skill`` against the climatology,
        ``1 - rmse^2 / std^2`` with the standard deviation of the file's own truth (median over files).
    """
    spectral = [row for row in rows if row["tier"] == "spectral"]
    out: dict[str, dict[str, float | None]] = {}
    for group in SPECTRAL_GROUPS:
        known = [row for row in spectral if group.name in row["groups"]]
        skills = []
        for row in known:
            spread = [v for c in group.channels if (v := row["spectrum"]["truth_std"][c]) is not None]
            variance = float(np.mean(np.square(spread)))
            skills.append(1.0 - row["groups"][group.name]["rmse"] ** 2 / variance)
        figures: dict[str, float | None] = {
            name: round(_mean([row["groups"][group.name][name] for row in known]), 5)
            for name in ("rmse", "interval_width", "coverage_90")
        }
        out[group.name] = {**figures, "skill": round(float(np.median(skills)), 3) if skills else None}
    return out


def study_table(rows: Sequence[Row]) -> str:
    """The study as a Markdown table: the model beside every baseline."""
    lines = []
    for tier in ("spectral", "full"):
        chosen = [row for row in rows if row["tier"] == tier]
        names = list(dict.fromkeys(name for row in chosen for name in row["baselines"]))
        lines += [
            f"**{tier.capitalize()} tier**, RMSE (SAM of bright pixels, degrees)",
            "",
            "| scene left out | model | " + " | ".join(name.replace("_", " ") for name in names) + " |",
            "| --- |" + " ---: |" * (len(names) + 1),
        ]
        for row in chosen:
            cells = [_cell(row), *(_cell(row["baselines"].get(name)) for name in names)]
            lines.append(f"| {row['file']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: Mapping[str, Any] | None) -> str:
    return "" if values is None else f"{values['rmse']:.4f} ({values['sam_bright_deg']:.1f})"
