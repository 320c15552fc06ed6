"""Let the deployments run by themselves on a real Prefect server and say what happened.

``python -m tests.tools.half_hour FOLDER`` starts everything with `explains2a up` as shipped, drops deliveries into a
folder source over the time, touches nothing else and writes FOLDER/record.json: every run with when it was planned,
picked up, started and ended, what became of every scene, and what the orchestration of each scene cost, by part.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from flows import services
from infra.settings import CONFIG_VARIABLE, load_settings
from tests.tools.deliveries import AT_START, PLAN, Deliveries

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS: Final = """home = "{home}"
regions_file = "{regions}"

[[sources]]
kind = "folder"
name = "deliveries"
path = "{items}"
"""
_NIGHTLY: Final = {"report": 9, "maintain": 14, "reconcile": 19}
"""Schedules that would not fire by themselves are moved, before it begins, to so many minutes after its begin."""

logger = logging.getLogger("half_hour")


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder; everything is kept there")
    parser.add_argument("--minutes", type=float, default=36.0)
    parser.add_argument("--keep", action="store_true", help="leave the servers running afterwards")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = options.folder.resolve()
    source = Deliveries(folder)
    config = folder / "explains2a.toml"
    config.write_text(_SETTINGS.format(home=folder / "home", regions=source.regions_file, items=source.items))
    os.environ[CONFIG_VARIABLE] = str(config)
    settings = load_settings()
    for coming in PLAN[:AT_START]:
        source.deliver(coming, datetime.now(UTC))
    running = services.up(settings, progress=logger.info)
    try:
        began = datetime.now(UTC)
        _move_nightly(running.prefect_api_url, began)
        logger.info("begin; Prefect %s, catalog %s", running.prefect_ui_url, running.catalog_url)
        _deliver_over(source, options.minutes * 60)
        ended = datetime.now(UTC)
        record = collect(running.prefect_api_url, settings.home, began, ended)
        (folder / "record.json").write_text(json.dumps(record, indent=1, default=str))
        logger.info("end; %s", json.dumps({key: record[key] for key in ("runs_by", "late", "scenes")}, default=str))
    finally:
        if not options.keep:
            services.down(settings.home)


def _deliver_over(source: Deliveries, seconds: float) -> None:
    """Deliver the rest of the plan over four fifths of the time."""
    began, rest = time.monotonic(), PLAN[AT_START:]
    for number, coming in enumerate(rest, start=1):
        time.sleep(max(0.0, began + 0.8 * seconds * number / len(rest) - time.monotonic()))
        logger.info("delivered %s (%s)", source.deliver(coming, datetime.now(UTC)), coming.kind)
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def _move_nightly(api: str, began: datetime) -> None:
    found = {one["name"]: one for one in ask(api, "deployments/filter", {})}
    for name, minutes in _NIGHTLY.items():
        (plan,) = found[name]["schedules"]
        at = began + timedelta(minutes=minutes)
        schedule = {"cron": f"{at.minute} {at.hour} * * *", "timezone": "UTC"}
        address = f"{api}/deployments/{found[name]['id']}/schedules/{plan['id']}"
        httpx.patch(address, json={"schedule": schedule}, timeout=30).raise_for_status()


def ask(api: str, path: str, body: Mapping[str, Any]) -> Any:
    """Ask the server, again while its SQLite is busy."""
    for _ in range(60):
        answer = httpx.post(f"{api}/{path}", json=dict(body), timeout=60)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            answer.raise_for_status()
            return answer.json()
        time.sleep(1)
    raise TimeoutError(path)


def collect(api: str, home: Path, began: datetime, ended: datetime) -> dict[str, Any]:
    """Read what happened from the server and the ledger."""
    from flows.assembly import assemble
    from infra.machine import describe_machine

    runs = []
    offset = 0
    while page := ask(api, "flow_runs/filter", {"limit": 200, "offset": offset, "sort": "EXPECTED_START_TIME_ASC"}):
        runs += page
        offset += len(page)
    names = {one["id"]: one["name"] for one in ask(api, "deployments/filter", {})}
    told = [_run(api, run, names) for run in runs if run["expected_start_time"] <= ended.isoformat()]
    counts: dict[str, dict[str, int]] = {}
    for run in told:
        of = counts.setdefault(run["deployment"], {})
        of[run["state"]] = of.get(run["state"], 0) + 1
    with assemble() as assembly:
        scenes = [
            {"id": row.id, "tile": row.tile, "region": row.region, "sensed": row.sensed, "state": str(row.state),
             "reason": row.reason, "attempts": row.attempts, "discovered": row.discovered_at, "changed": row.changed_at}
            for row in sorted(assembly.ledger.scenes(limit=10_000), key=lambda row: row.id)
        ]  # fmt: skip
        states = dict(assembly.ledger.counts())
    return {
        "machine": str(describe_machine()),
        "home": str(home),
        "begin": began,
        "end": ended,
        "minutes": (ended - began).total_seconds() / 60,
        "runs_by": counts,
        "late": [run["name"] for run in told if "Late" in run["states"]],
        "scenes": states,
        "runs": told,
        "scene_list": scenes,
    }


def _run(api: str, run: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    states = httpx.get(f"{api}/flow_run_states/", params={"flow_run_id": run["id"]}, timeout=60).json()
    logs = ask(api, "logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"})
    stages = {
        line["message"].removeprefix("stage: "): line["timestamp"]
        for line in logs
        if line["message"].startswith("stage: ")
    }
    return {
        "id": run["id"],
        "name": run["name"],
        "deployment": names.get(run["deployment_id"], ""),
        "auto_scheduled": run["auto_scheduled"],
        "expected": run["expected_start_time"],
        "created": run["created"],
        "state": run["state_name"],
        "end": run["end_time"],
        "states": {state["name"]: state["timestamp"] for state in states},
        "stages": stages,
        "log": [[line["timestamp"], line["level"], line["message"]] for line in logs],
    }


if __name__ == "__main__":
    main()
