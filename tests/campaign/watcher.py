"""A watcher beside the deployed one, and the postman who lets the services have more while it looks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from catalog.session import DatabaseUnavailable
from tests.campaign.house import House
from tests.campaign.plan import Delivery

LOOK_EVERY_S = 4.0


class _Thread:
    """Something that goes on in the background while it is open as a context manager."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded)

    def work(self) -> None:
        raise NotImplementedError

    def _guarded(self) -> None:
        try:
            self.work()
        except BaseException as failure:  # noqa: BLE001 - told by whoever waits
            self.failure = failure

    def join(self) -> None:
        """Wait until the work is done."""
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._thread.join()
        if self.failure is not None and error is None:
            raise self.failure


class Watcher(_Thread):
    """Looks at both services again and again, as a second installation of the watch would."""

    def __init__(self, place: House, look: Callable[[], object] | None = None) -> None:
        super().__init__()
        self._place, self._look = place, look
        self.counts: Counter[str] = Counter()

    def work(self) -> None:
        while not self.stopping.wait(LOOK_EVERY_S):
            try:
                if self._look is not None:
                    self._look()
                    continue
                report = self._place.look()
            except DatabaseUnavailable:
                self.counts["looks without a database"] += 1
                continue
            self.counts["looks"] += 1
            self.counts["answers that failed"] += len(report.unavailable)
            self.counts.update(report.outcomes)


class Postman(_Thread):
    """Lets the services have a few more deliveries at a time, with refusals (429) in between."""

    def __init__(self, place: House, deliveries: Iterable[Delivery], *, at_once: int, every_s: float) -> None:
        super().__init__()
        self._place, self._deliveries = place, list(deliveries)
        self._at_once, self._every_s = at_once, every_s
        self.refusals = 0

    def work(self) -> None:
        for start in range(0, len(self._deliveries), self._at_once):
            for one in self._deliveries[start : start + self._at_once]:
                one.offer(self._place)
            if start % (4 * self._at_once) == 0:
                archive = self._place.first if start % (8 * self._at_once) == 0 else self._place.second
                archive.refusals += [(429, {"Retry-After": "1"})] * 2
                self.refusals += 2
            if self.stopping.wait(self._every_s):
                return
