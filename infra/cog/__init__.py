"""Cloud-optimised GeoTIFFs written in one pass, block by block, straight into a store.

A file is band-planar, but its tiles lie block-major: all bands of a block side by side, so one pixel's spectrum and one
band's window are both cheap, and any TIFF reader sees plain band-planar data. Overviews are made on the way.
"""

from infra.cog.errors import BlockMisplaced, BlockRepeated, BlocksMissing, CogError, InvalidProfile, WriterClosed
from infra.cog.lane import Lane
from infra.cog.profile import CogBand, CogProfile, Level
from infra.cog.writer import CogSummary, CogWriter

__all__ = [
    "BlockMisplaced",
    "BlockRepeated",
    "BlocksMissing",
    "CogBand",
    "CogError",
    "CogProfile",
    "CogSummary",
    "CogWriter",
    "InvalidProfile",
    "Lane",
    "Level",
    "WriterClosed",
]
