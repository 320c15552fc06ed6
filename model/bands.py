"""The two band tables everything is built on: the 172-channel product grid and the twelve Sentinel-2 bands.

Imports neither torch nor anything of ours, so that the catalog and the raster adapters can use it on machines
without a model.

Sources: AVIRIS channel centres and FWHM of flight f080702t01p00r08 (JPL radiance header, 224 channels); the kept
channels are the customary 172 (drop, counted from one: 1-10, 104-116, 152-170, 215-224: atmosphere and noise).
Sentinel-2 bands and resolutions: ESA, Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Channel:
    """One channel of the hyperspectral product."""

    number: int
    """Position in the product, counted from one, as raster readers count bands."""
    aviris_number: int
    """Position among AVIRIS's 224 channels, counted from one."""
    centre_nm: float
    """Centre wavelength, nm."""
    fwhm_nm: float
    """Full width at half maximum, nm."""

    @property
    def name(self) -> str:
        """Stable name, such as ``h007``."""
        return f"h{self.number:03d}"

    @property
    def description(self) -> str:
        """What a raster reader shows as the band's name, such as ``h007 520.7 nm``."""
        return f"{self.name} {self.centre_nm:.1f} nm"


@dataclass(frozen=True)
class SourceBand:
    """One band of the Sentinel-2 MSI as delivered in L2A."""

    name: str
    """ESA's name: ``B01`` ... ``B12``, ``B8A``."""
    common_name: str
    """STAC ``eo:common_name``."""
    resolution_m: int
    """Native pixel size: 10, 20 or 60 m."""
    centre_nm: float
    """Nominal centre wavelength of Sentinel-2A, nm."""
    fwhm_nm: float
    """Nominal bandwidth of Sentinel-2A, nm."""


_AVIRIS_KEPT: Final[tuple[tuple[int, float, float], ...]] = (
    # (AVIRIS channel number, centre nm, FWHM nm)
    (11, 462.7692, 9.4025),
    (12, 472.4773, 9.37),
    (13, 482.1898, 9.3397),
    (14, 491.9066, 9.3117),
    (15, 501.6279, 9.2859),
    (16, 511.3535, 9.2624),
    (17, 521.0836, 9.2412),
    (18, 530.818, 9.2222),
    (19, 540.5568, 9.2055),
    (20, 550.3, 9.1911),
    (21, 560.0477, 9.1789),
    (22, 569.7996, 9.1689),
    (23, 579.556, 9.1613),
    (24, 589.3168, 9.1559),
    (25, 599.0819, 9.1527),
    (26, 608.8515, 9.1518),
    (27, 618.6254, 9.1532),
    (28, 628.4037, 9.1568),
    (29, 638.1865, 9.1627),
    (30, 647.9736, 9.1708),
    (31, 657.7651, 9.1812),
    (32, 667.561, 9.1939),
    (33, 655.2923, 9.9085),
    (34, 665.0994, 9.8487),
    (35, 674.9012, 9.7987),
    (36, 684.6979, 9.7585),
    (37, 694.4894, 9.728),
    (38, 704.2756, 9.7073),
    (39, 714.0566, 9.6964),
    (40, 723.8325, 9.6952),
    (41, 733.6031, 9.7038),
    (42, 743.3685, 9.7222),
    (43, 753.1287, 9.7503),
    (44, 762.8837, 9.7883),
    (45, 772.6335, 9.8359),
    (46, 782.3781, 9.8934),
    (47, 792.1174, 9.9606),
    (48, 801.8516, 10.0375),
    (49, 811.5805, 10.1243),
    (50, 821.3043, 10.2208),
    (51, 831.0228, 10.3271),
    (52, 840.7361, 10.4431),
    (53, 850.4442, 10.5689),
    (54, 860.1471, 10.7045),
    (55, 869.8448, 10.8498),
    (56, 879.5372, 11.0049),
    (57, 889.2245, 11.1698),
    (58, 898.9066, 11.3444),
    (59, 908.5834, 11.5289),
    (60, 918.2551, 11.723),
    (61, 927.9214, 11.927),
    (62, 937.5827, 10.7815),
    (63, 947.2387, 9.7618),
    (64, 956.8895, 9.7601),
    (65, 966.5351, 9.7593),
    (66, 976.1755, 9.7596),
    (67, 985.8106, 9.7608),
    (68, 995.4406, 9.7631),
    (69, 1005.065, 9.7664),
    (70, 1014.685, 9.7706),
    (71, 1024.299, 9.7759),
    (72, 1033.908, 9.7822),
    (73, 1043.512, 9.7894),
    (74, 1053.111, 9.7977),
    (75, 1062.704, 9.807),
    (76, 1072.293, 9.8172),
    (77, 1081.876, 9.8285),
    (78, 1091.454, 9.8408),
    (79, 1101.026, 9.854),
    (80, 1110.594, 9.8683),
    (81, 1120.156, 9.8836),
    (82, 1129.713, 9.8998),
    (83, 1139.265, 9.9171),
    (84, 1148.811, 9.9354),
    (85, 1158.353, 9.9546),
    (86, 1167.889, 9.9749),
    (87, 1177.42, 9.9962),
    (88, 1186.946, 10.0184),
    (89, 1196.466, 10.0417),
    (90, 1205.982, 10.066),
    (91, 1215.492, 10.0913),
    (92, 1224.997, 10.1175),
    (93, 1234.496, 10.1448),
    (94, 1243.991, 10.1731),
    (95, 1253.48, 10.2024),
    (96, 1262.964, 10.2326),
    (97, 1253.373, 10.8383),
    (98, 1263.346, 10.8327),
    (99, 1273.318, 10.8272),
    (100, 1283.291, 10.8219),
    (101, 1293.262, 10.8167),
    (102, 1303.234, 10.8117),
    (103, 1313.206, 10.8067),
    (117, 1452.782, 10.7524),
    (118, 1462.75, 10.7496),
    (119, 1472.718, 10.7469),
    (120, 1482.685, 10.7443),
    (121, 1492.652, 10.7419),
    (122, 1502.619, 10.7396),
    (123, 1512.586, 10.7374),
    (124, 1522.552, 10.7354),
    (125, 1532.518, 10.7335),
    (126, 1542.484, 10.7317),
    (127, 1552.45, 10.7301),
    (128, 1562.416, 10.7287),
    (129, 1572.381, 10.7273),
    (130, 1582.346, 10.7261),
    (131, 1592.311, 10.7251),
    (132, 1602.275, 10.7241),
    (133, 1612.24, 10.7233),
    (134, 1622.204, 10.7227),
    (135, 1632.167, 10.7222),
    (136, 1642.131, 10.7218),
    (137, 1652.094, 10.7216),
    (138, 1662.057, 10.7215),
    (139, 1672.02, 10.7215),
    (140, 1681.983, 10.7217),
    (141, 1691.945, 10.722),
    (142, 1701.907, 10.7225),
    (143, 1711.869, 10.7231),
    (144, 1721.831, 10.7238),
    (145, 1731.792, 10.7247),
    (146, 1741.753, 10.7256),
    (147, 1751.714, 10.7268),
    (148, 1761.675, 10.7281),
    (149, 1771.635, 10.7295),
    (150, 1781.596, 10.731),
    (151, 1791.556, 10.7327),
    (171, 1968.175, 11.0653),
    (172, 1978.214, 11.0534),
    (173, 1988.25, 11.0412),
    (174, 1998.284, 11.0288),
    (175, 2008.315, 11.0159),
    (176, 2018.345, 11.0028),
    (177, 2028.372, 10.9893),
    (178, 2038.396, 10.9756),
    (179, 2048.419, 10.9615),
    (180, 2058.439, 10.9471),
    (181, 2068.456, 10.9323),
    (182, 2078.472, 10.9173),
    (183, 2088.485, 10.9019),
    (184, 2098.496, 10.8863),
    (185, 2108.504, 10.8703),
    (186, 2118.51, 10.854),
    (187, 2128.514, 10.8373),
    (188, 2138.516, 10.8204),
    (189, 2148.515, 10.8031),
    (190, 2158.512, 10.7856),
    (191, 2168.507, 10.7677),
    (192, 2178.499, 10.7494),
    (193, 2188.489, 10.7309),
    (194, 2198.477, 10.7121),
    (195, 2208.462, 10.6929),
    (196, 2218.445, 10.6734),
    (197, 2228.426, 10.6537),
    (198, 2238.405, 10.6335),
    (199, 2248.381, 10.6131),
    (200, 2258.354, 10.5924),
    (201, 2268.326, 10.5713),
    (202, 2278.295, 10.5499),
    (203, 2288.262, 10.5282),
    (204, 2298.227, 10.5062),
    (205, 2308.189, 10.4839),
    (206, 2318.149, 10.4612),
    (207, 2328.107, 10.4383),
    (208, 2338.062, 10.415),
    (209, 2348.016, 10.3914),
    (210, 2357.967, 10.3675),
    (211, 2367.915, 10.3433),
    (212, 2377.861, 10.3187),
    (213, 2387.805, 10.2939),
    (214, 2397.747, 10.2687),
)

CHANNELS: Final[tuple[Channel, ...]] = tuple(
    Channel(number=i, aviris_number=number, centre_nm=centre, fwhm_nm=fwhm)
    for i, (number, centre, fwhm) in enumerate(_AVIRIS_KEPT, start=1)
)
"""The 172 channels, in product order. Detector overlaps make the centres neither uniform nor strictly increasing."""

CENTRE_NM: Final[NDArray[np.float64]] = np.array([channel.centre_nm for channel in CHANNELS])
"""(172,) float64 centre wavelengths, nm."""

FWHM_NM: Final[NDArray[np.float64]] = np.array([channel.fwhm_nm for channel in CHANNELS])
"""(172,) float64 full widths at half maximum, nm."""

CENTRE_NM.setflags(write=False)
FWHM_NM.setflags(write=False)

SOURCE_BANDS: Final[tuple[SourceBand, ...]] = (
    SourceBand("B01", "coastal", 60, 442.7, 21.0),
    SourceBand("B02", "blue", 10, 492.4, 66.0),
    SourceBand("B03", "green", 10, 559.8, 36.0),
    SourceBand("B04", "red", 10, 664.6, 31.0),
    SourceBand("B05", "rededge071", 20, 704.1, 15.0),
    SourceBand("B06", "rededge075", 20, 740.5, 15.0),
    SourceBand("B07", "rededge078", 20, 782.8, 20.0),
    SourceBand("B08", "nir", 10, 832.8, 106.0),
    SourceBand("B8A", "nir08", 20, 864.7, 21.0),
    SourceBand("B09", "nir09", 60, 945.1, 20.0),
    SourceBand("B11", "swir16", 20, 1613.7, 91.0),
    SourceBand("B12", "swir22", 20, 2202.4, 175.0),
)
"""The twelve L2A bands in wavelength order (B10 is absent in L2A). This is the order of every (12, ...) array."""

SOURCE_BAND_NAMES: Final[tuple[str, ...]] = tuple(band.name for band in SOURCE_BANDS)

BANDS_BY_RESOLUTION: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        resolution: tuple(band.name for band in SOURCE_BANDS if band.resolution_m == resolution)
        for resolution in (10, 20, 60)
    }
)
"""Band names at 10 m (B02 B03 B04 B08), 20 m (B05 B06 B07 B8A B11 B12) and 60 m (B01 B09), in wavelength order."""

PLATFORMS: Final[tuple[str, ...]] = ("sentinel-2a", "sentinel-2b", "sentinel-2c")
"""Platform names as STAC writes them; a scene of any other platform is refused."""


@dataclass(frozen=True)
class SpectralGroup:
    """A wavelength range that people speak of, used for grouped uncertainty and grouped errors."""

    name: str
    title: str
    low_nm: float
    """Inclusive lower edge, nm."""
    high_nm: float
    """Exclusive upper edge, nm."""

    @property
    def channels(self) -> NDArray[np.intp]:
        """Zero-based indices of the product's channels inside the range."""
        return np.flatnonzero((CENTRE_NM >= self.low_nm) & (CENTRE_NM < self.high_nm))


SPECTRAL_GROUPS: Final[tuple[SpectralGroup, ...]] = (
    SpectralGroup("blue", "blue 0.46-0.52 um", 460.0, 520.0),
    SpectralGroup("green", "green 0.52-0.60 um", 520.0, 600.0),
    SpectralGroup("red", "red 0.60-0.69 um", 600.0, 690.0),
    SpectralGroup("red_edge", "red edge 0.69-0.79 um", 690.0, 790.0),
    SpectralGroup("nir", "near infrared 0.79-0.96 um", 790.0, 960.0),
    SpectralGroup("nir_gap", "0.96-1.35 um, unseen by the sensor", 960.0, 1350.0),
    SpectralGroup("swir1", "short-wave infrared 1.40-1.80 um", 1350.0, 1850.0),
    SpectralGroup("swir2", "short-wave infrared 1.95-2.40 um", 1850.0, 2500.0),
)
"""Named spectral groups; together they hold every channel exactly once."""
