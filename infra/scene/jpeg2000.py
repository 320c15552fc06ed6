"""Is a JPEG 2000 file whole? Its boxes tell, without decoding a pixel.

Source: ISO/IEC 15444-1, annex I.4 (box definition).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SIGNATURE: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_HEADER: Final = 8
_LONG_HEADER: Final = 16
_TO_THE_END: Final = 0
_LONG: Final = 1


def missing_bytes(path: Path) -> int:
    """Return how many bytes a JPEG 2000 file lacks by its own boxes.

    Args:
        path: Any file.

    Returns:
        Bytes by which the last box reaches beyond the file; 0 for a whole file and for files of other formats.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return 0
        position = len(_SIGNATURE)
        while position < size:
            file.seek(position)
            header = file.read(_LONG_HEADER)
            length = int.from_bytes(header[:4], "big")
            if length == _TO_THE_END:
                return 0
            if length == _LONG:
                length = int.from_bytes(header[_HEADER:_LONG_HEADER], "big")
            if len(header) < _HEADER or length < _HEADER:
                return _HEADER  # a header that is cut off, or none at all: something follows that is no box
            position += length
    return position - size
