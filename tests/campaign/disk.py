"""A small real file system: a tmpfs in a mount namespace of its own, so that nothing of the machine is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNTED = "mount -t tmpfs -o size={size}m tmpfs /mnt && mkdir /mnt/disk && echo ready && exec sleep 3600"


class SmallDisk:
    """A file system of some megabytes, reached through the process that holds it."""

    def __init__(self, holder: int) -> None:
        self._holder = holder
        self.folder = Path(f"/proc/{holder}/root/mnt/disk")

    def used(self) -> int:
        """Megabytes in use, rounded up."""
        found = os.statvfs(self.folder)
        return -(-(found.f_blocks - found.f_bavail) * found.f_frsize >> 20)

    def resize(self, megabytes: int) -> None:
        """Give it another size, as an operator does; not less than is used."""
        subprocess.run(
            ["nsenter", f"--target={self._holder}", "--mount", *_user(), "mount", "--options-mode=ignore", "-o",
             f"remount,size={megabytes}m", "/mnt"], check=True,
        )  # fmt: skip


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount a file system of so many megabytes for a while; needs a kernel that allows mount namespaces."""
    separate = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    holder = subprocess.Popen(
        [*separate, "sh", "-c", _MOUNTED.format(size=megabytes)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with holder:
        try:
            ready = holder.stdout.readline().strip()
            assert ready == "ready", f"no small file system could be mounted: {holder.communicate()[1]}"
            yield SmallDisk(holder.pid)
        finally:
            holder.kill()


def _user() -> list[str]:
    return [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
