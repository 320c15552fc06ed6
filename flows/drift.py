"""Drift: are the newest products of a region still like those before them?

Each quality number of the newest products is held against limits drawn from the region's own past: the median of the
earlier ones plus, and minus, so many robust standard deviations (1.4826 times the median absolute deviation), never
closer than a floor that is of no practical meaning. One odd scene alarms nobody: the median of the newest counts.
"""

from __future__ import annotations

import base64
import io
import statistics
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from catalog.overview import DRIFT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from catalog.overview import Quality

NEWEST: Final = 5
"""Products whose median is judged."""
_LEAST_PAST: Final = 10
"""Products a region must have before them; with fewer, nothing is judged."""
_SIGMAS: Final = 4.0
_ROBUST: Final = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
_FLOORS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "out_of_domain_fraction": 0.05,
        "resimulation_rmse": 0.001,
        "mean_uncertainty": 0.005,
        "within_noise_fraction": 0.05,
        "low_consistency_fraction": 0.05,
    }
)
"""Changes smaller than these alarm nobody."""


@dataclass(frozen=True)
class Judgement:
    """One quality number of one region."""

    region: str
    field: str
    products: int
    now: float
    """Median of the newest products."""
    low: float | None
    high: float | None
    """Limits; None while the region's past is too short."""

    @property
    def alarm(self) -> bool:
        """Whether the newest products lie beyond the limits."""
        return self.low is not None and self.high is not None and not self.low <= self.now <= self.high


def judge_drift(history: Iterable[Quality]) -> list[Judgement]:
    """Hold every region's newest products against its past.

    Args:
        history: Products in the order in which they were sensed.

    Returns:
        One judgement per region and field that has numbers, by region.
    """
    series: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for quality in history:
        for name in DRIFT_FIELDS:
            value = quality.values.get(name)
            if value is not None:
                series[quality.region, name].append(value)
    return [_judge(region, name, values) for (region, name), values in sorted(series.items())]


def _judge(region: str, name: str, values: Sequence[float]) -> Judgement:
    now, past = statistics.median(values[-NEWEST:]), values[:-NEWEST]
    if len(past) < _LEAST_PAST:
        return Judgement(region, name, len(values), now, None, None)
    centre = statistics.median(past)
    spread = _ROBUST * statistics.median(abs(value - centre) for value in past)
    reach = max(_SIGMAS * spread, _FLOORS[name])
    return Judgement(region, name, len(values), now, centre - reach, centre + reach)


def drift_picture(history: Sequence[Quality], judgements: Sequence[Judgement]) -> str:
    """Draw out-of-domain fraction and re-simulation error over time with their limits; a PNG as base64 text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    limits = {(one.region, one.field): one for one in judgements}
    regions = sorted({quality.region for quality in history})
    drawn = ("out_of_domain_fraction", "resimulation_rmse")
    axes = figure.subplots(len(drawn), 1, sharex=True)
    for axis, name in zip(axes, drawn, strict=True):
        for number, region in enumerate(regions):
            points = [(q.sensed, q.values[name]) for q in history if q.region == region and q.values[name] is not None]
            if not points:
                continue
            colour = f"C{number % 10}"
            axis.plot([when for when, _ in points], [value for _, value in points], "o-", ms=3, lw=0.8, color=colour,
                      label=region)  # fmt: skip
            high = limits[region, name].high
            if high is not None:
                axis.axhline(high, color=colour, ls="--", lw=0.8)
        axis.set_ylabel(name.replace("_", " "))
        axis.grid(alpha=0.3)
    if regions:
        axes[0].legend(fontsize="small", ncols=4, loc="upper left")
    axes[-1].set_xlabel("sensed; dashed: alarm limits")
    figure.autofmt_xdate()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
