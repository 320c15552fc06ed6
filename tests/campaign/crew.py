"""Workers without Prefect: real processes that make what is due, started again whenever they end or are killed."""

from __future__ import annotations

import subprocess
import threading
from types import TracebackType
from typing import Self

from tests.campaign.house import House

_PAUSE_S = 3.0


class Crew:
    """So many `explains2a process --due`, each in an endless loop, while open as a context manager.

    They share nothing but the ledger's claims. Most of a campaign's scenes are made by them: a flow run of Prefect
    spends some ten seconds of a core on starting, five times what a scene of this size takes.
    """

    def __init__(self, place: House, workers: int) -> None:
        self._place, self._stopping = place, threading.Event()
        self._current: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(workers)]

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [one.pid for one in list(self._current.values()) if one.poll() is None]

    def _work(self, number: int) -> None:
        while not self._stopping.is_set():
            self._current[number] = started = self._place.start("process", "--due")
            started.wait()
            self._stopping.wait(_PAUSE_S)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if error is not None:
            for one in self._current.values():
                one.kill()
        for thread in self._threads:
            thread.join()
