"""The measured process of `bench pipeline`: one scene through the real production, told as JSON lines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flows.progress import Progress

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
        stages = {name: spent.core_seconds for name, spent in outcome.stages.items()}
        _tell(
            "end", state=outcome.state, reason=outcome.reason, stages=stages,
            seconds=dict(outcome.seconds), files=dict(outcome.files), peak_rss_bytes=_peak_rss_bytes(),
            requests=assembly.store.requests(),
        )  # fmt: skip


def _tell_progress(stands: Progress) -> None:
    _tell("progress", done=stands.fraction)


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
