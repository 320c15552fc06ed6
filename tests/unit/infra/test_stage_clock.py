"""The clock of the stages: processor time by thread, in the stages' order."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from infra.stage_clock import StageClock, StageName


def spin(clock, name, seconds):
    with clock.stage(name):
        ends = time.thread_time() + seconds
        while time.thread_time() < ends:
            pass


def test_threads_add_up_and_waiting_costs_no_core():
    clock = StageClock()
    threads = [threading.Thread(target=spin, args=(clock, StageName.MODEL, 0.05)) for _ in range(3)]
    for thread in threads:
        thread.start()
    with clock.stage(StageName.READ):
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    spent = clock.spent()
    assert list(spent) == ["read", "model"]
    assert spent["model"].core_seconds >= 0.15
    assert spent["model"].wall_seconds >= spent["model"].core_seconds * 0.99
    assert spent["read"].wall_seconds >= 0.05 > spent["read"].core_seconds


def test_a_stage_that_fails_is_counted_too():
    clock = StageClock()
    with contextlib.suppress(OSError), clock.stage(StageName.UPLOAD):
        time.sleep(0.01)
        Path("/nowhere").stat()
    clock.add(StageName.UPLOAD, 1.5)
    assert clock.spent()["upload"].core_seconds >= 1.5
    assert clock.spent()["upload"].wall_seconds >= 0.01
