"""What the writers of one product share: threads that compress, one that lays blocks down, and a bound on both."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from infra.stage_clock import StageClock, StageName

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

T = TypeVar("T")

IN_FLIGHT_BYTES: Final = 48 << 20
"""Raw pixels on their way from `write` to the store, over all writers of a lane; beyond it `write` waits."""

_FEWEST_BLOCKS: Final = 2
"""Blocks that may be on their way however large they are, so that the caller and the pool work at once."""


class Lane:
    """The way of blocks from their writers through compression to the store.

    Compression runs in a pool. One thread lays finished blocks down in the order in which they came, so that a file's
    bytes never depend on the number of threads, and a slow store holds up nobody but, when the lane is full, the
    caller of `CogWriter.write`. The first error closes the lane for all of its writers.
    """

    def __init__(self, pool: Executor, *, limit: int = IN_FLIGHT_BYTES, clock: StageClock | None = None) -> None:
        """Open a lane.

        Args:
            pool: Threads (not processes) that compress. Nobody who writes may run in it.
            limit: Raw pixels on their way at once, bytes.
            clock: Told what compressing and uploading cost.
        """
        self.clock = clock or StageClock()
        self._pool, self._limit = pool, limit
        self._layer = ThreadPoolExecutor(1, "upload")
        self._moved = threading.Condition()
        self._bytes = self._blocks = 0
        self._failure: BaseException | None = None
        self._interrupts: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def in_flight(self) -> int:
        """Raw bytes on their way."""
        return self._bytes

    def enter(self, size: int) -> None:
        """Wait for room for one block.

        Args:
            size: Raw bytes.

        Raises:
            BaseException: the first error of any block on this lane.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._failure is not None or self._has_room(size))
            if self._failure is not None:
                raise self._failure
            self._bytes += size
            self._blocks += 1

    def compress(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run one piece of compression in the pool."""
        return self._pool.submit(self._timed, StageName.COMPRESS, work, *arguments)

    def lay(self, work: Callable[..., object], size: int, *arguments: Any) -> None:
        """Lay a block down once all before it are; its room is free then.

        Args:
            work: Waits for the block's compression and lays it down.
            size: Raw bytes, as told to `enter`.
            arguments: Of `work`.
        """
        self._layer.submit(self._lay, work, size, arguments)

    def on_stop(self, interrupt: Callable[[], None]) -> None:
        """Call something when the lane is stopped, so that no upload is waited for any longer than it must be."""
        self._interrupts.append(interrupt)

    def stop(self, why: BaseException) -> None:
        """Lay nothing down any more and interrupt what is under way; the first reason stands."""
        self._fail(why)
        for interrupt in self._interrupts:
            interrupt()

    def last(self, work: Callable[[], T]) -> T:
        """Do something after everything that was to be laid down, and wait for it.

        Raises:
            BaseException: the first error of any block on this lane, or that of `work`.
        """

        def finish() -> T:
            if self._failure is not None:
                raise self._failure
            return self._timed(StageName.UPLOAD, work)

        return self._layer.submit(finish).result()

    def drain(self) -> None:
        """Wait until nothing is being laid down; for use after the writers were told to stop."""
        self._layer.submit(lambda: None).result()

    def close(self) -> None:
        """End the lane's own thread; the pool stays with its owner."""
        self._layer.shutdown()

    def _has_room(self, size: int) -> bool:
        return self._blocks < _FEWEST_BLOCKS or self._bytes + size <= self._limit

    def _timed(self, name: StageName, work: Callable[..., T], *arguments: Any) -> T:
        with self.clock.stage(name):
            return work(*arguments)

    def _lay(self, work: Callable[..., object], size: int, arguments: tuple[Any, ...]) -> None:
        try:
            if self._failure is None:
                self._timed(StageName.UPLOAD, work, *arguments)
        except BaseException as error:  # noqa: BLE001 - whoever writes next is told
            self._fail(error)
        finally:
            with self._moved:
                self._bytes -= size
                self._blocks -= 1
                self._moved.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._moved:
            self._failure = self._failure or error
            self._moved.notify_all()
