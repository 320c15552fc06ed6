"""Read what a Sentinel-2 product says in its own name.

Source: ESA, Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), compact naming convention:
``MMM_MSIXXX_YYYYMMDDHHMMSS_Nxxyy_ROOO_Txxxxx_<discriminator>.SAFE``. Planetary Computer's item ids leave ``Nxxyy``
out; some services leave ``.SAFE`` out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_NAME: Final = re.compile(
    r"(?P<platform>S2[A-Z])_MSIL(?P<level>1C|2A)_(?P<sensed>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?"
    r"_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_(?P<generated>\d{8}T\d{6})(?:\.SAFE)?"
)

_DATATAKE: Final = re.compile(r"G(?P<platform>S2[A-Z])_(?P<sensed>\d{8}T\d{6})_\d{6}_N\d{2}\.\d{2}")


@dataclass(frozen=True)
class ProductName:
    """The fields of a product's name."""

    platform: str
    """STAC platform name, such as ``sentinel-2a``."""
    level: str
    """``1C`` or ``2A``."""
    sensed: datetime
    """Start of the datatake, UTC; the same for all tiles of one pass."""
    baseline: str
    """Processing baseline such as ``05.11``; empty when the name does not say."""
    relative_orbit: int
    """1-143."""
    tile: str
    """MGRS tile without the leading T, such as ``29UPU``."""
    generated: datetime
    """The name's last field, UTC: close to the generation time."""


def parse_product_name(name: str) -> ProductName | None:
    """Parse a product's name.

    Args:
        name: The whole name, with or without ``.SAFE``.

    Returns:
        Its fields, or None when it is no such name (also when a time in it does not exist).
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    sensed, generated = _utc(match["sensed"]), _utc(match["generated"])
    if sensed is None or generated is None:
        return None
    digits = match["baseline"]
    baseline = f"{digits[:2]}.{digits[2:]}" if digits else ""
    return ProductName(
        platform_name(match["platform"]),
        match["level"],
        sensed,
        baseline,
        int(match["orbit"]),
        match["tile"],
        generated,
    )


def parse_datatake(identifier: str) -> tuple[str, datetime] | None:
    """Parse a datatake's id such as ``GS2A_20231008T175231_043324_N05.09``.

    Args:
        identifier: The id.

    Returns:
        The platform's STAC name and the sensing start (the one in the product's name), or None.
    """
    match = _DATATAKE.fullmatch(identifier)
    sensed = _utc(match["sensed"]) if match else None
    return (platform_name(match["platform"]), sensed) if match and sensed else None


def platform_name(short: str) -> str:
    """Return the STAC name of a spacecraft: ``S2A`` becomes ``sentinel-2a``."""
    return f"sentinel-{short[1:].lower()}"


def _utc(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
