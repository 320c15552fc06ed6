"""Which errors Prefect may try again: those that say of themselves that they may pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

# Every flow has a timeout; its tasks have none of their own. The flow's is an alarm, which interrupts any call; one
# inside it Prefect could only enforce by an exception thrown into the thread at any instruction.
RETRIES = 3
RETRY_SECONDS = [10.0, 60.0, 300.0]


def is_transient(error: BaseException | None) -> bool:
    """Say whether the same work may succeed later; errors without the mark are defects and never do."""
    return bool(getattr(error, "transient", False))


async def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether to try a task again (`retry_condition_fn`)."""
    failed = await state.aresult(raise_on_failure=False)
    return is_transient(failed if isinstance(failed, BaseException) else None)
