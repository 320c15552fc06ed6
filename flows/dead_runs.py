"""Runs that died without a word before they claimed their scene: nobody else would ever notice them.

A worker reports a process that dies; a machine that dies reports nothing: its runs stay pending or running for ever.
Once they hold a claim, the lease tells; once they have sent a sign of life, the alarm for zombies does. Between being
handed to a worker and both of these, only their silence does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.states import Crashed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

SILENT_AFTER: Final = timedelta(minutes=10)
"""A run that has not changed its state for so long, nor sent a sign of life, is dead; starting takes seconds."""


def ended(run: FlowRun) -> bool:
    """Say whether a run whose scene nobody has claimed is over; one that died without a word is marked crashed.

    Args:
        run: As the server hands it out.
    """
    state = run.state
    if state is None or state.is_scheduled():
        return False
    if state.is_final():
        return True
    now = datetime.now(UTC)
    if now - state.timestamp < SILENT_AFTER:
        return False
    with get_client(sync_client=True) as client:
        if _gave_a_sign(client, run, now):
            return False
        word = f"no sign of life for {SILENT_AFTER.seconds // 60} minutes, and its scene is not claimed"
        client.set_flow_run_state(run.id, Crashed(message=word), force=True)
    return True


def _gave_a_sign(client: SyncPrefectClient, run: FlowRun, now: datetime) -> bool:
    """Say whether the run's process was heard of: it may be waiting for this machine's place."""
    wanted = EventFilter(
        occurred=EventOccurredFilter(since=now - SILENT_AFTER, until=now),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    return bool(client.read_events(filter=wanted, limit=1).events)
