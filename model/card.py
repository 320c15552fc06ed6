"""The model card: what the weights are, what they were made from, how well they do, and where they must not be used.

Imports no torch, so that the catalog can describe the model on a machine that cannot run it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from model.errors import WeightsCorrupted, WeightsMissing, WeightsVersionMismatch

FORMAT_VERSION: Final[int] = 2
"""Version of the layout of weights and card; code and files must agree."""

SHIPPED_WEIGHTS: Final[Path] = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""

CARD_NAME: Final[str] = "card.json"
WEIGHTS_NAME: Final[str] = "model.safetensors"


@dataclass(frozen=True)
class DataSource:
    """One file the model was made from or judged on."""

    file: str
    """Path below the data folder."""
    sha256: str
    """Hash of the file."""
    licence: str
    """Licence as found at its source; where none was stated, that."""
    role: str
    """What it was used for: ``responses``, ``fit and calibrate``."""
    split: str
    """Scenes of one split are always left out together."""
    spectra: int
    """Valid spectra in it."""


@dataclass(frozen=True)
class ModelCard:
    """Everything a person or a catalog needs to know about one set of weights."""

    name: str
    """Name of the model."""
    version: str
    """Version of the model, ``major.minor.patch``."""
    format: int
    """Layout version, `FORMAT_VERSION`."""
    digest: str
    """SHA-256 of the weights file; part of every product's identity."""
    subspace_dimension: int
    """Number of coefficients k of the compact product."""
    classes: int
    """Number of Gaussian classes of the spectral prior."""
    calibration: str
    """Identifier of the uncertainty's calibration."""
    platforms: tuple[str, ...]
    """Platforms the weights hold spectral responses for."""
    trained: str
    """When, ISO 8601 UTC."""
    seed: int
    """Seed of the training run."""
    revision: str
    """Git revision the training ran from, or ``unknown``."""
    data: tuple[DataSource, ...] = ()
    """Files used."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Leave-one-split-out results with baselines; reflectance units, angles in degrees."""
    responses: dict[str, Any] = field(default_factory=dict)
    """Per platform: fraction of each band's response outside the grid, and where a response was borrowed."""
    noise: dict[str, Any] = field(default_factory=dict)
    """The source noise table with its source."""
    limits: tuple[str, ...] = ()
    """Intended use and what must not be concluded from the product."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Every choice of the training run."""
    instrument: str = "sentinel-2-msi"
    """The instrument the weights are for."""
    licence: str = "Apache-2.0"
    """Licence of the weights."""

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card; raises `WeightsCorrupted` or `WeightsVersionMismatch`."""
        try:
            raw = json.loads(text)
            found = raw["format"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise WeightsCorrupted(f"the model card is not readable JSON with a format number: {error}") from error
        if found != FORMAT_VERSION:
            raise WeightsVersionMismatch(
                f"weights have format {found}, this code reads {FORMAT_VERSION}; "
                "train again or install the matching version"
            )
        try:
            known = {f.name for f in fields(cls)}
            values = {key: value for key, value in raw.items() if key in known}
            values["data"] = tuple(DataSource(**entry) for entry in values.get("data", ()))
            values["platforms"] = tuple(values["platforms"])
            values["limits"] = tuple(values.get("limits", ()))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise WeightsCorrupted(f"the model card lacks a field or has one of the wrong kind: {error}") from error


def load_card(path: Path | None = None) -> ModelCard:
    """Read a model card.

    Args:
        path: folder with ``card.json``; ``None`` for the weights that come with the package.

    Returns:
        The card.

    Raises:
        WeightsMissing: if there is no card.
        WeightsCorrupted: if it cannot be read.
        WeightsVersionMismatch: if it has another format.
    """
    file = (path or SHIPPED_WEIGHTS) / CARD_NAME
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WeightsMissing(
            f"no model card at {file}; run `explains2a train` or give the folder of the weights"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsCorrupted(f"{file} cannot be read: {error}") from error
    return ModelCard.from_json(text)
