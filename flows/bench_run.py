"""The measured process of `bench pipeline`: one scene through the real production, told as JSON lines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flows.processing import Outcome

_STATUS: Final = Path("/proc/self/status")


def run_job(job: dict[str, Any]) -> None:
    """Process the one scene of a job.

    Args:
        job: ``settings`` (overrides of the operator's settings; storage credentials stay the operator's).
    """
    from flows.assembly import assemble
    from flows.processing import process_scene
    from flows.watching import watch_sources
    from infra.settings import load_settings

    with assemble(load_settings(**job["settings"])) as assembly:
        watch_sources(assembly, actor="bench")
        [scene_id] = assembly.ledger.due_ids()
        model = assembly.model
        _tell("begin", model=f"{model.card.name} {model.card.version} ({model.card.digest[:8]})")
        outcome = process_scene(
            assembly,
            scene_id,
            actor="bench",
            on_stage=lambda stage: _tell("stage", name=str(stage)),
            progress=_tell_progress,
        )
        _tell(
            "end", state=outcome.state, reason=outcome.reason, stages=_core_seconds(outcome),
            seconds=dict(outcome.seconds), files=dict(outcome.files), peak_rss_bytes=_peak_rss_bytes(),
        )  # fmt: skip


def _core_seconds(outcome: Outcome) -> dict[str, float]:
    """Return processor seconds by stage, where the production counts them."""
    return {name: spent.core_seconds for name, spent in getattr(outcome, "stages", {}).items()}


def _tell_progress(stands: Any) -> None:
    """Tell the fraction that is done: the production gives it bare, or with speed and bytes around it."""
    _tell("progress", done=float(getattr(stands, "fraction", stands)))


def _tell(event: str, **facts: Any) -> None:
    line = {"event": event, "at": time.monotonic(), "core_seconds": time.process_time(), **facts}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _peak_rss_bytes() -> int:
    """Return this process's own high-water mark; `getrusage` would count its parent's memory before the start."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
