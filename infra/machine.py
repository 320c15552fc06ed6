"""What a figure was measured on, in one line."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import numpy as np
import psutil
import rasterio


def describe_machine() -> str:
    """Return processor, cores, memory and the versions that matter for speed."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        f"GDAL {rasterio.__gdal_version__}, numpy {np.__version__}"
    )
