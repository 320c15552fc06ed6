"""Watch another process while it works: memory, and disk that is not its output."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVERY_SECONDS: Final = 0.05
_DISK_EVERY: Final = 10
"""Looks at the disk once in so many samples: it takes longer."""

_DISK_BLOCK: Final = 512
"""Bytes; what ``st_blocks`` counts in."""


class ProcessMeter:
    """Samples a process until it ends or the context is left."""

    def __init__(self, pid: int, temporary: Sequence[Path] = (), known: Sequence[Path] = ()) -> None:
        """Begin nothing yet; entering the context does.

        Args:
            pid: The process.
            temporary: Folders in which everything counts as temporary.
            known: Files that are no temporary ones, nor those beside them whose names begin with theirs: a database's
                journals are deleted while they are open.
        """
        self._process = psutil.Process(pid)
        self._temporary = tuple(temporary)
        self._known = tuple(map(str, known))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process-meter", daemon=True)
        self.peak_rss_bytes = 0
        """Most resident memory seen."""
        self.temp_disk_bytes = 0
        """Most seen at once in the temporary folders, and in files deleted while the process held them open."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        while True:
            try:
                self.peak_rss_bytes = max(self.peak_rss_bytes, self._process.memory_info().rss)
            except psutil.Error:
                return  # it has ended
            if looks % _DISK_EVERY == 0:
                found = sum(map(_folder_bytes, self._temporary)) + _deleted_bytes(self._process.pid, self._known)
                self.temp_disk_bytes = max(self.temp_disk_bytes, found)
            looks += 1
            if self._stop.wait(_EVERY_SECONDS):
                return


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += path.stat().st_blocks * _DISK_BLOCK if path.is_file() else 0
    return total


def _deleted_bytes(pid: int, known: tuple[str, ...]) -> int:
    """Return what a process holds on disk under no name (Linux): temporary files are often unlinked at once."""
    total = 0
    try:
        handles = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0
    for handle in handles:
        with contextlib.suppress(OSError):
            name = str(handle.readlink())
            if not (name.startswith("/") and name.endswith(" (deleted)")):
                continue
            if not name.startswith(("/dev/", "/memfd:", *known)):
                total += handle.stat().st_blocks * _DISK_BLOCK
    return total
