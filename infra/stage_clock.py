"""What each stage of a product's way costs: processor seconds of the threads that work on it, and wall time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class StageName(StrEnum):
    """The stages of a production, in the order in which a pixel passes them."""

    READ = "read"
    """Decoding the source's files, and reflectance."""
    MODEL = "model"
    """Estimating cells; on an accelerator only what its host does."""
    QUANTISE = "quantise"
    """Quality mask, true colour, the preview's material, and cutting into blocks."""
    COMPRESS = "compress"
    """Checksums, overviews and ZSTD."""
    UPLOAD = "upload"
    """Handing compressed blocks to the store, and what its client does with them."""
    VERIFY = "verify"
    """Reading every file back."""


@dataclass(frozen=True)
class StageTime:
    """What one stage took so far."""

    core_seconds: float = 0.0
    """Processor time of its threads, s."""
    wall_seconds: float = 0.0
    """Time it was busy or waiting, added up over its threads, s; more than the clock on the wall where they overlap."""


class StageClock:
    """Adds up the time of stages that run in several threads at once."""

    def __init__(self) -> None:
        """Start with nothing spent."""
        self._spent: dict[str, StageTime] = {}
        self._lock = Lock()

    @contextlib.contextmanager
    def stage(self, name: StageName) -> Iterator[None]:
        """Count what the present thread does inside the block for a stage."""
        began, worked = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.add(name, time.thread_time() - worked, time.monotonic() - began)

    def add(self, name: StageName, core_seconds: float, wall_seconds: float = 0.0) -> None:
        """Count work that was measured elsewhere.

        Args:
            name: The stage.
            core_seconds: Processor time, s.
            wall_seconds: Time on the wall, s; 0 for a helper whose caller is counted already.
        """
        with self._lock:
            spent = self._spent.get(name, StageTime())
            self._spent[name] = StageTime(spent.core_seconds + core_seconds, spent.wall_seconds + wall_seconds)

    def spent(self) -> Mapping[str, StageTime]:
        """Return what every stage took, in the stages' order; those never entered are left out."""
        with self._lock:
            return {name.value: self._spent[name] for name in StageName if name in self._spent}
