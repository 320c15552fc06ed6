"""What deployments stand on: work pools, the queues of `gpu`, and the limit of scenes at once on this machine's device.

Run as ``python -m flows.provisioning --limit N`` with the server's address in the environment; what is there already is
brought to the same settings.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.names import device_limit
from flows.services import POOLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import SyncPrefectClient

GPU_POOL: Final = "gpu"
QUEUES: Final[Mapping[str, int]] = MappingProxyType({"realtime": 1, "backfill": 100})
"""Queues of the pool `gpu` with their priorities; a worker empties the smaller number first."""


def provision(client: SyncPrefectClient, *, limit: int) -> None:
    """Make pools, queues and limits.

    Args:
        client: Of the server.
        limit: Scenes at once on this machine; a backfill gets one place less, where there is more than one.
    """
    for pool in POOLS:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    for queue, priority in QUEUES.items():
        _queue(client, queue, priority, max(1, limit - 1) if queue == "backfill" else None)
    client.upsert_global_concurrency_limit_by_name(device_limit(), limit)


def _queue(client: SyncPrefectClient, name: str, priority: int, limit: int | None) -> None:
    try:
        client.create_work_queue(name, work_pool_name=GPU_POOL, priority=priority, concurrency_limit=limit)
    except ObjectAlreadyExists:
        queue = client.read_work_queue_by_name(name, work_pool_name=GPU_POOL)
        client.update_work_queue(queue.id, priority=priority, concurrency_limit=limit)


def main(limit: Annotated[int, typer.Option(min=1, help="Scenes at once on this machine.")] = 1) -> None:
    """Make pools, queues and limits on the server that the environment names."""
    with get_client(sync_client=True) as client:
        provision(client, limit=limit)


if __name__ == "__main__":
    typer.run(main)
