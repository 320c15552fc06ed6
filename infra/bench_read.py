"""What reading costs, in requests and bytes: a pixel's spectrum, three bands for a picture, one band.

Three readers: this project's (`infra.compact`), GDAL as it comes, and GDAL with the options that the product guide
names. GDAL runs in processes of its own, because some of its settings hold for a whole process.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import rasterio
from rasterio.windows import Window as RasterWindow

from infra.cog import CogBand, CogProfile
from infra.compact import BlockFile, ProductMissing, Window
from infra.compact.sources import http_client, locate
from infra.machine import describe_machine
from infra.range_server import RangeServer
from infra.tile_layout import full_tile, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection


FILES: Final = ("hsi", "compact")
BLOCKS: Final = (96, 128, 192, 256, 384, 512)

RGB_EDGE: Final = 512
"""Edge of the window that is read in three bands, pixels; less where the file is smaller."""

BAND_EDGE: Final = 1024
"""Edge of the window that is read in one band, pixels; less where the file is smaller."""

_CONTENT_EDGE: Final = 768
"""Edge of the piece of a file whose blocks stand for a full tile's, pixels."""

_REPEATS: Final = 5
_STEPS: Final = ("open", "pixel", "rgb", "band")

PLAIN_GDAL: Final = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""GDAL as it comes, apart from not listing folders, which web servers refuse anyway."""


def tuned_gdal(head_bytes: int) -> dict[str, str]:
    """Return GDAL's options for reading spectra from a file whose head takes so many bytes.

    Opening fetches the whole head at once, so that the index, whose entries of one block lie a row of numbers apart for
    every band, costs no further request. Larger pieces then fetch a block of all bands in two or three.
    """
    return PLAIN_GDAL | {
        "GDAL_INGESTED_BYTES_AT_OPEN": str(head_bytes + (8 << 10)),
        "CPL_VSIL_CURL_CHUNK_SIZE": str(2 << 20),
        "CPL_VSIL_CURL_CACHE_SIZE": str(128 << 20),
    }


@dataclass(frozen=True)
class Read:
    """One thing to read."""

    name: str
    window: Window
    bands: tuple[int, ...]
    """Zero-based."""


def reads_of(width: int, height: int, count: int, block: int) -> tuple[Read, ...]:
    """Return the three reads in a file of `count` bands: around its middle, windows beginning on its blocks' edges."""

    def around(edge: int) -> Window:
        column, row = (min(size // 2 // block * block, max(0, size - edge)) for size in (width, height))
        return Window(column, row, min(edge, width), min(edge, height))

    rgb = (min(18, count - 1), min(9, count - 1), 0)  # red, green and blue of the 172 bands
    return (
        Read("pixel", Window(width // 2, height // 2, 1, 1), tuple(range(count))),
        Read("rgb", around(RGB_EDGE), tuple(sorted(set(rgb)))),
        Read("band", around(BAND_EDGE), (count // 2,)),
    )


def bench_read(
    target: str,
    *,
    folder: Path,
    blocks: Sequence[int] = (),
    progress: Callable[[str], object] = lambda _text: None,
) -> dict[str, Any]:
    """Measure what reading a product costs.

    Args:
        target: A product's folder, one of its files, or a web address of either. Local files are served by range on
            127.0.0.1, where every reader's requests are counted; of a web address only this project's reader's are.
        folder: An existing folder for test files, which are removed.
        blocks: Block edges to compare: for each, a full tile's layout is made of the file's own content (local only).
        progress: Told what is being done.

    Returns:
        ``files``: per file its sizes, milliseconds from disk, requests and bytes over HTTP per reader, for opening and
        for each read after it; ``blocks``: the same per block edge; ``ratios`` where both files are there.

    Raises:
        ReadingError: nothing readable is there.
    """
    found = _files(target)
    figures: dict[str, Any] = {"target": target, "machine": describe_machine(), "files": {}, "blocks": []}
    for name, address in found.items():
        progress(f"reading {name}")
        figures["files"][name] = _measure(address)
        if isinstance(address, Path):
            for block in blocks:
                progress(f"laying out {name} as a full tile in blocks of {block}")
                figures["blocks"].append({"file": name, **_as_full_tile(address, block, folder)})
    sizes = {name: file["file_bytes"] for name, file in figures["files"].items() if "file_bytes" in file}
    if set(FILES) <= set(sizes):
        raw = figures["files"]["hsi"]["raw_bytes"]
        figures["ratios"] = {
            "raw_to_hsi": round(raw / sizes["hsi"], 2),
            "raw_to_compact": round(raw / sizes["compact"], 2),
            "hsi_to_compact": round(sizes["hsi"] / sizes["compact"], 2),
        }
    return figures


def reading_table(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """Write the figures as rows: file, reader, and requests and megabytes of opening and of each read after it."""
    measured = [(f"{name}, as it is", file["http"]) for name, file in figures["files"].items()]
    measured += [(f"{tile['file']}, full tile in {tile['block']}", tile["http"]) for tile in figures["blocks"]]
    return [
        (file, reader, *(f"{counts[step]['requests']}, {counts[step]['bytes'] / 1e6:.2f} MB" for step in _STEPS))
        for file, readers in measured
        for reader, counts in readers.items()
    ]


def _reads(file: BlockFile) -> tuple[Read, ...]:
    info = file.info
    return reads_of(info.width, info.height, info.count, info.block[0])


def _files(target: str) -> dict[str, Path | str]:
    """Name the files behind a target: those of a folder, or the one it names."""
    remote = target.startswith(("http://", "https://"))
    if target.partition("?")[0].endswith((".tif", ".tiff")):
        path: Path | str = target if remote else Path(target)
        return {Path(target.partition("?")[0]).stem: path}
    if remote:
        return {name: f"{target.rstrip('/')}/{name}.tif" for name in FILES}
    there: dict[str, Path | str] = {
        path.stem: path for path in (Path(target) / f"{name}.tif" for name in FILES) if path.is_file()
    }
    if not there:
        raise ProductMissing(f"{target} holds none of {', '.join(f'{name}.tif' for name in FILES)}")
    return there


def _measure(address: Path | str) -> dict[str, Any]:
    if isinstance(address, str):
        return {"http": {"own": _own(address, None)}}
    with http_client() as client, closing(BlockFile(locate(address, None, client))) as file:
        info, reads = file.info, _reads(file)
        local = {read.name: _milliseconds(file, read) for read in reads}
    with rasterio.open(address) as dataset:
        levels = len(dataset.overviews(1))
        where = {"ovr": levels - 1} if levels else {}
        head = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, **where) or 0)
    return {
        "file_bytes": address.stat().st_size,
        "raw_bytes": info.width * info.height * info.count * np.dtype(info.dtype).itemsize,
        "size": [info.width, info.height, info.count],
        "block": info.block[0],
        "head_bytes": head,
        "local_ms": local,
        "http": _over_http(address, head, reads),
    }


def _over_http(path: Path, head_bytes: int, reads: Sequence[Read]) -> dict[str, Any]:
    """Count the requests of every reader, each against a server of its own."""
    with RangeServer(path.parent) as server:
        own = _own(server.url(path.name), server)
    return {
        "own": own,
        "gdal": _gdal(path, PLAIN_GDAL, reads),
        "gdal_tuned": _gdal(path, tuned_gdal(head_bytes), reads),
    }


def _own(url: str, server: RangeServer | None) -> dict[str, Any]:
    """Count this project's reader: by the server, or by its own client where the server is somebody else's."""
    asked: list[int] = []
    with http_client() as client:
        client.event_hooks["response"].append(lambda response: asked.append(int(response.headers["Content-Length"])))

        def total() -> tuple[int, int]:
            sizes = [size for _name, _start, size in server.asked()] if server else asked
            return len(sizes), sum(sizes)

        with closing(BlockFile(locate(url, None, client))) as file:
            opened = total()
            reads = _reads(file)
        figures = {"open": _counted((0, 0), opened)}
        for read in reads:  # each by a reader that has just opened the file
            with closing(BlockFile(locate(url, None, client))) as file:
                before, began = total(), time.perf_counter()
                file.read(read.window, read.bands)
                spent = time.perf_counter() - began
                figures[read.name] = _counted(before, total()) | {"ms": round(spent * 1000, 1)}
    return figures


def _gdal(path: Path, options: dict[str, str], reads: Sequence[Read]) -> dict[str, Any]:
    """Count GDAL's requests in a process of its own; every read finds a server of its own, so no cache helps it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_gdal_reads, args=(theirs, options), daemon=True)
    worker.start()
    theirs.close()
    figures: dict[str, Any] = {}
    try:
        for read in reads:
            with RangeServer(path.parent) as server:
                ours.send((f"/vsicurl/{server.url(path.name)}", read))
                ours.recv()
                opened = _totals(server)
                ours.send("read")
                spent = ours.recv()
                figures.setdefault("open", _counted((0, 0), opened))
                figures[read.name] = _counted(opened, _totals(server)) | {"ms": round(spent * 1000, 1)}
        ours.send(None)
    finally:
        ours.close()
        worker.join()
    return figures


def _gdal_reads(connection: Connection, options: dict[str, str]) -> None:
    """Open files and read; the other side looks at the server in between."""
    with rasterio.Env(**options):
        while task := connection.recv():
            url, read = task
            with rasterio.open(url) as dataset:
                connection.send("open")
                connection.recv()
                began = time.perf_counter()
                dataset.read([band + 1 for band in read.bands], window=RasterWindow(*read.window))
                connection.send(time.perf_counter() - began)


def _totals(server: RangeServer) -> tuple[int, int]:
    asked = server.asked()
    return len(asked), sum(size for _name, _start, size in asked)


def _counted(before: tuple[int, int], after: tuple[int, int]) -> dict[str, Any]:
    return {"requests": after[0] - before[0], "bytes": after[1] - before[1]}


def _milliseconds(file: BlockFile, read: Read) -> float:
    """Return the median time of a read from disk (page cache), each on another block where there are several."""
    seconds = []
    info, edge = file.info, file.info.block[0]
    for repeat in range(_REPEATS):
        column = min(read.window.column + repeat * edge, info.width - read.window.width)
        began = time.perf_counter()
        file.read(read.window._replace(column=column), read.bands)
        seconds.append(time.perf_counter() - began)
    return round(float(np.median(seconds)) * 1000, 2)


def _as_full_tile(path: Path, block: int, folder: Path) -> dict[str, Any]:
    """Lay a file's content out as a full tile with another block edge and read from that."""
    with rasterio.open(path) as source:
        width, height = min(_CONTENT_EDGE, source.width), min(_CONTENT_EDGE, source.height)
        middle = RasterWindow((source.width - width) // 2, (source.height - height) // 2, width, height)
        content = source.read(window=middle)
        bands = tuple(
            CogBand(text or "", scale, 0.0, "1", _nm(source, n, "CENTRAL_WAVELENGTH_UM"), _nm(source, n, "FWHM_UM"))
            for n, (text, scale) in enumerate(zip(source.descriptions, source.scales, strict=True), start=1)
        )
        given = CogProfile(
            width, height, source.dtypes[0], f"EPSG:{source.crs.to_epsg()}", tuple(source.transform)[:6],
            None if source.nodata is None else int(source.nodata), bands, block, "mean",
        )  # fmt: skip
    profile = full_tile(given, block)
    with tempfile.TemporaryDirectory(prefix="bench-read-", dir=folder) as name:
        tile = Path(name) / path.name
        reads = reads_of(profile.width, profile.height, len(bands), block)
        layout = lay_out(tile, content, profile, [(read.window, read.bands) for read in reads])
        return {
            "block": block,
            "content": [width, height],
            "head_bytes": layout.head_bytes,
            "block_bytes": round(layout.block_bytes),
            "file_bytes": layout.file_bytes,
            "http": _over_http(tile, layout.head_bytes, reads),
        }


def _nm(source: Any, band: int, name: str) -> float | None:
    text = source.tags(band, ns="IMAGERY").get(name)
    return None if text is None else float(text) * 1000
