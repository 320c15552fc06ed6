"""Automations as files: alarms of the Prefect server, applied by name so that applying twice changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from prefect.events.schemas.automations import AutomationCore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


class UnknownBlock(LookupError):
    """The server has no such notification block."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Applied:
    """What became, or would become, of one automation."""

    name: str
    done: str
    """``created``, ``updated`` or ``unchanged``."""


def automations() -> Iterator[dict[str, Any]]:
    """Read the automations that come with the project, in the order of their files' names."""
    for file in sorted(files("infra").joinpath("automations").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".json"):
            yield json.loads(file.read_text(encoding="utf-8"))


def apply_automations(client: SyncPrefectClient, *, notify: str = "", dry_run: bool = False) -> list[Applied]:
    """Bring the server's automations to what the files say; others are left alone.

    Args:
        client: Of the server.
        notify: A notification block, ``type/name`` as in the UI's address, that every alarm also goes to.
        dry_run: Only compare.

    Returns:
        What was, or would be, done with each.

    Raises:
        UnknownBlock: there is no such block.
    """
    block = _block(client, notify) if notify else None
    return [_apply(client, _wanted(one, block), dry_run=dry_run) for one in automations()]


def _wanted(description: dict[str, Any], block: UUID | None) -> AutomationCore:
    if block is not None:
        note = {"type": "send-notification", "block_document_id": str(block), "subject": description["name"],
                "body": description["description"]}  # fmt: skip
        quiet = [action for action in description["actions"] if action["type"] != "do-nothing"]
        description = {**description, "actions": [*quiet, note]}
    return AutomationCore.model_validate(description)


def _apply(client: SyncPrefectClient, wanted: AutomationCore, *, dry_run: bool) -> Applied:
    there = client.read_automations_by_name(wanted.name)
    if not there:
        if not dry_run:
            client.create_automation(wanted)
        return Applied(wanted.name, "created")
    same = all(getattr(there[0], name) == getattr(wanted, name) for name in ("description", "enabled", "tags"))
    if same and _plain(there[0].trigger) == _plain(wanted.trigger) and there[0].actions == wanted.actions:
        return Applied(wanted.name, "unchanged")
    if not dry_run:
        client.update_automation(there[0].id, wanted)
    return Applied(wanted.name, "updated")


def _plain(trigger: Any) -> dict[str, Any]:
    """Return a trigger as JSON without its id, which the server gives, and with its sets in order."""
    said: dict[str, Any] = trigger.model_dump(mode="json", exclude={"id", "type"})
    return {name: sorted(value) if name in {"after", "expect", "for_each"} else value for name, value in said.items()}


def _block(client: SyncPrefectClient, name: str) -> UUID:
    kind, _, document = name.partition("/")
    for block in client.read_block_documents():
        if block.name == document and block.block_type and block.block_type.slug == kind:
            return block.id
    raise UnknownBlock(f"the server has no block {name!r}; make one in the UI under Blocks, and give it as type/name")
