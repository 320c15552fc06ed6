"""How the process gets its memory from the system: large arrays made and dropped by many threads."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Final

logger = logging.getLogger(__name__)

_ARENA_MAX: Final = -8
"""glibc's M_ARENA_MAX (malloc.h)."""


@cache
def share_one_heap() -> bool:
    """Let all threads allocate from one heap.

    glibc gives every thread an arena of its own, and what one thread's arena freed no other can use: with two cells in
    the model at once that alone kept 0.1 GB more resident, and cost twice the system time for pages given back and
    asked for again. Arrays are few and large, so threads do not wait for each other.

    Returns:
        Whether the C library could be told; elsewhere than on glibc nothing changes.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 1))
    except (OSError, AttributeError):
        logger.debug("this C library has no mallopt; its allocator is left as it is")
        return False


def give_back_memory() -> None:
    """Return what the heap holds without need to the system, such as before other work begins."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        logger.debug("this C library has no malloc_trim; its allocator gives memory back when it likes")
