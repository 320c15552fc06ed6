"""The last files of a product, and its STAC item: what was made becomes what is known."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from catalog.assets import ASSET_KINDS
from catalog.items import AssetFile, Product, build_item
from catalog.model_item import model_item_id
from flows.grade import grade
from flows.names import item_id
from infra.preview import PreviewHeader
from infra.verify import verify_bytes
from model.bands import CHANNELS, SOURCE_BAND_NAMES, SPECTRAL_GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.assembly import Assembly
    from flows.gates import GateResult
    from flows.grade import Grade
    from flows.names import ProductKeys
    from flows.production import Produced, RasterFile
    from infra.cog import CogProfile
    from infra.scene.footprint import Footprint
    from infra.settings import Region
    from infra.sources import Acquisition
    from infra.verify import FileCheck

_DIGITS: Final = 6
_RESPONSE_DIGITS: Final = 8


@dataclass(frozen=True)
class Place:
    """Where a product lies."""

    crs: str
    grid: CogProfile
    """A file at 10 m: its size and transform are the product's."""
    footprint: Footprint


@dataclass(frozen=True)
class ProductRecord:
    """Everything known of a finished and verified product."""

    acquisition: Acquisition
    region: Region
    revision: str
    title: str
    gates: tuple[GateResult, ...]
    made: Produced
    files: Sequence[RasterFile]
    checks: Mapping[str, FileCheck]
    place: Place
    seconds: Mapping[str, float]
    """Wall seconds by stage so far."""
    run_url: str = ""
    """The operators' page of the run that made it; empty where no server ran it."""


@dataclass(frozen=True)
class Summary:
    """What people are told first."""

    quality: Mapping[str, float]
    grade: Grade
    thumbnail: bytes
    spectrum: bytes | None
    """A picture of one typical pixel's spectrum, PNG; None without a valid pixel."""


def file_tags(acquisition: Acquisition, region: Region, revision: str) -> dict[str, str]:
    """Return the dataset tags that every file of a product carries."""
    return {
        "ITEM": item_id(acquisition, region),
        "PRODUCT_REVISION": revision,
        "NOTICE": f"Estimated, not measured. Contains modified Copernicus Sentinel data {acquisition.key.sensed:%Y}.",
    }


def register_files(assembly: Assembly, record: ProductRecord, keys: ProductKeys) -> tuple[dict[str, Any], Summary]:
    """Write basis, pictures and report, and describe the product as a STAC item.

    Args:
        assembly: The system's parts.
        record: The finished product.
        keys: Where its files lie.

    Returns:
        The item, ready to be published, and what people are told first.
    """
    quality = _quality(assembly, record.made)
    graded = grade(quality, record.gates)
    thumbnail = record.made.preview.thumbnail()
    small = {
        "basis": _json(_basis(assembly, record.acquisition.key.platform)),
        "thumbnail": thumbnail,
        "preview": record.made.preview.page(_header(assembly, record, quality, graded)),
    }
    assets = [_raster_asset(assembly, record, file, keys) for file in record.files]
    assets += [_small_asset(assembly, key, content, keys) for key, content in small.items()]
    report = _json(_report(assembly, record, quality, graded, assets))
    assets.append(_small_asset(assembly, "report", report, keys))
    item = build_item(_product(assembly, record, quality, graded, assets))
    return item, Summary(quality, graded, thumbnail, record.made.preview.spectrum())


def _quality(assembly: Assembly, made: Produced) -> dict[str, float]:
    """Return the model's numbers and the shares of the quality bits, rounded."""
    pixels = made.flag_counts["pixels"]
    missing = made.flag_counts["nodata"] / pixels
    numbers = {
        **assembly.model.quality(made.totals),
        "missing_fraction": missing,
        "valid_fraction": 1 - missing,
        "saturated_fraction": made.flag_counts["saturated"] / pixels,
    }
    return {name: round(float(value), _DIGITS) for name, value in numbers.items()}


def _basis(assembly: Assembly, platform: str) -> dict[str, Any]:
    """Return what expands `compact` and `uncertainty` to every channel, for readers without the model."""
    basis, model = assembly.model.basis(), assembly.model
    bands = np.zeros(len(CHANNELS), int)
    for number, group in enumerate(SPECTRAL_GROUPS, start=1):
        bands[group.channels] = number
    responses = model.resimulate(np.eye(len(CHANNELS)), platform)
    one = np.array([round(1 / layer.scale) for layer in model.uncertainty_layers], np.int16)  # each layer decodes to 1
    return {
        "description": "reflectance = mean + coefficients . components; coefficients = stored x scale of the band; "
        "1-sigma of a channel = band sigma_bands of the uncertainty file, stored x scale, times sigma_profile; "
        "what the sensor would see of a spectrum = responses . reflectance, in the order of source_bands",
        "model": model.card.name,
        "version": model.card.version,
        "digest": model.card.digest,
        "scales": [layer.scale for layer in model.compact_layers],
        "mean": [float(value) for value in basis.mean],
        "components": [[float(value) for value in row] for row in basis.components],
        "centre_nm": [channel.centre_nm for channel in CHANNELS],
        "fwhm_nm": [channel.fwhm_nm for channel in CHANNELS],
        "sigma_bands": bands.tolist(),
        "sigma_profile": [round(float(value), _DIGITS) for value in model.channel_sigma(one)],
        "source_bands": list(SOURCE_BAND_NAMES),
        "responses": [[round(float(value), _RESPONSE_DIGITS) for value in row] for row in responses],
    }


def _header(assembly: Assembly, record: ProductRecord, quality: Mapping[str, float], graded: Grade) -> PreviewHeader:
    card, key = assembly.model.card, record.acquisition.key
    figures = (
        f"re-simulation RMSE {quality['resimulation_rmse']:.4f}, within noise {quality['within_noise_fraction']:.1%}, "
        f"mean 1-sigma {quality['mean_uncertainty']:.3f}, out of domain {quality['out_of_domain_fraction']:.1%}"
    )
    reasons = f" ({'; '.join(graded.reasons)})".replace("_", " ") if graded.reasons else ""
    return PreviewHeader(
        title=f"{key.tile}  {key.sensed:%Y-%m-%d %H:%M} UTC  {record.region.title or record.region.id}",
        lines=(
            f"{_satellite(key.platform)}, {key.id}, model {card.name} {card.version}",
            f"grade {graded.letter}{reasons}",
            figures,
        ),
    )


def _satellite(platform: str) -> str:
    """Write ``sentinel-2a`` as people do: Sentinel-2A."""
    name, _, number = platform.partition("-")
    return f"{name.capitalize()}-{number.upper()}"


def _report(
    assembly: Assembly,
    record: ProductRecord,
    quality: Mapping[str, float],
    graded: Grade,
    assets: Sequence[AssetFile],
) -> dict[str, Any]:
    card, acquisition = assembly.model.card, record.acquisition
    return {
        "item": item_id(acquisition, record.region),
        "product_revision": record.revision,
        "acquisition": acquisition.key.id,
        "source": {
            "name": acquisition.source,
            "item": acquisition.item_id,
            "baseline": acquisition.revision.baseline,
            "generated": acquisition.revision.generated.isoformat() if acquisition.revision.generated else None,
        },
        "model": {
            "name": card.name,
            "version": card.version,
            "digest": card.digest,
            "calibration": card.calibration,
        },
        "software": _software(),
        "gates": [asdict(gate) for gate in record.gates],
        "quality": dict(quality),
        "grade": {"letter": graded.letter, "reasons": list(graded.reasons)},
        "pixels": dict(record.made.flag_counts),
        "seconds": {stage: round(value, 3) for stage, value in record.seconds.items()},
        "files": {asset.key: {"bytes": asset.size, "sha256": asset.sha256} for asset in assets},
        "written": datetime.now(UTC).isoformat(),
    }


def _product(
    assembly: Assembly,
    record: ProductRecord,
    quality: Mapping[str, float],
    graded: Grade,
    assets: Sequence[AssetFile],
) -> Product:
    acquisition, grid = record.acquisition, record.place.grid
    return Product(
        collection=assembly.settings.collection_id,
        id=item_id(acquisition, record.region),
        title=record.title,
        geometry=record.place.footprint.geometry,
        bbox=record.place.footprint.bbox,
        sensed=acquisition.key.sensed,
        created=datetime.now(UTC),
        platform=acquisition.key.platform,
        tile=acquisition.key.tile,
        relative_orbit=acquisition.key.relative_orbit,
        crs=record.place.crs,
        shape=(grid.height, grid.width),
        transform=grid.transform,
        region=record.region.id,
        acquisition=acquisition.key.id,
        source=acquisition.source,
        source_item_id=acquisition.item_id,
        source_href=_source_address(acquisition.item),
        source_baseline=acquisition.revision.baseline,
        cloud_cover=acquisition.cloud_cover,
        sun_zenith=acquisition.sun_zenith,
        product_revision=record.revision,
        model_id=model_item_id(assembly.model.card),
        software=_software(),
        quality=quality,
        grade=graded.letter,
        grade_reasons=graded.reasons,
        gates={gate.gate: str(gate.verdict) for gate in record.gates},
        assets=tuple(assets),
        extra={"seconds": round(sum(record.seconds.values()), 3)},
        run_href=record.run_url,
    )


def _raster_asset(assembly: Assembly, record: ProductRecord, file: RasterFile, keys: ProductKeys) -> AssetFile:
    check = record.checks[file.asset]
    return AssetFile(
        key=file.asset,
        href=assembly.store.href(keys.file(file.name)),
        size=check.size,
        sha256=check.sha256,
        layers=file.layers,
        shape=(file.profile.height, file.profile.width),
        transform=file.profile.transform,
        gsd=file.metres,
    )


def _small_asset(assembly: Assembly, key: str, content: bytes, keys: ProductKeys) -> AssetFile:
    kind = ASSET_KINDS[key]
    stored = assembly.store.put(keys.file(kind.file), content, content_type=kind.media_type)
    size, sha256 = verify_bytes(assembly.store, stored.key, content)
    return AssetFile(key, assembly.store.href(stored.key), size, sha256)


def _source_address(item: Mapping[str, Any]) -> str | None:
    """Return the source item's own address, where it is one that others can open and that carries no signature."""
    for link in item.get("links", ()):
        href = str(link.get("href", ""))
        if link.get("rel") == "self" and href.startswith("https://") and "?" not in href and "@" not in href:
            return href
    return None


def _software() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("explains2a", "torch", "rasterio")}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()
