"""The account after a drill: nothing lost, nothing twice, no orphan, catalog and store agree; one line of counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from catalog.inventory import named_versions
from catalog.scenes import Step
from catalog.states import SceneState
from flows.assembly import Assembly
from flows.reconciling import Kind, Reconciliation, Scope, reconcile
from infra.verify import hash_object
from tests.campaign.house import RESTING

_MULTIHASH = "1220"
_ALL = 10_000


class Fate(NamedTuple):
    """What must have become of one acquisition over one region."""

    state: SceneState = SceneState.PUBLISHED
    baseline: str = ""
    """Of the product that is shown; any where empty."""


@dataclass
class Account:
    """A drill in numbers."""

    title: str
    outcomes: Counter[str]
    """Acquisitions by outcome."""
    reasons: Counter[str]
    """Why acquisitions were rejected or quarantined."""
    attempts: int
    """Claims in all."""
    repaired: dict[str, int]
    """What reconciliation found and put right."""
    files: int
    bytes: int
    faults: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        said = [", ".join(f"{number} {outcome}" for outcome, number in sorted(self.outcomes.items()))]
        if self.reasons:
            said.append("because of " + ", ".join(f"{why} ({n})" for why, n in sorted(self.reasons.items())))
        said.append(f"{self.attempts} attempts; lost 0, doubled 0")
        found = ", ".join(f"{number} {kind}" for kind, number in sorted(self.repaired.items())) or "nothing"
        said.append(f"reconcile put right: {found}")
        said.append(f"{self.files} files, {self.bytes / 1e6:.1f} MB, each with its size and SHA-256")
        if self.faults:
            said.append("faults: " + ", ".join(f"{number} x {what}" for what, number in self.faults.items()))
        return f"{self.title}: " + "; ".join(said)


def account(assembly: Assembly, title: str, expected: Mapping[tuple[str, str], Fate]) -> Account:
    """Reconcile, then hold ledger, catalog, store and sources against what must have come out.

    Args:
        assembly: The system's parts; nobody works any more.
        title: What was drilled.
        expected: By acquisition and region, parts included: everything that the services ever offered.
    """
    repaired = _reconciled(assembly)
    rows = assembly.ledger.scenes(limit=_ALL)
    restless = [(row.acquisition, row.state, row.reason) for row in rows if row.state not in RESTING]
    assert not restless, f"nobody works, and these wait: {restless}"
    histories = {row.id: assembly.ledger.history(row.id) for row in rows}
    by_key = defaultdict(list)
    for row in rows:
        by_key[row.acquisition, row.region].append(row)

    lost = set(expected) - set(by_key)
    assert not lost, f"offered by a service and unknown to the ledger: {lost}"
    assert set(by_key) == set(expected), f"nobody offered {set(by_key) - set(expected)}"
    outcomes, reasons = Counter(), Counter()
    for key, scenes in by_key.items():
        (final,) = [row for row in scenes if row.state is not SceneState.SUPERSEDED]
        fate = expected[key]
        assert final.state is fate.state, f"{key}: {final.state} ({final.reason}); expected {fate.state}"
        assert not fate.baseline or final.baseline == fate.baseline, f"{key} stands at baseline {final.baseline}"
        outcomes[str(final.state)] += 1
        outcomes["older revisions superseded"] += len(scenes) - 1
        if final.state is not SceneState.PUBLISHED:
            assert final.reason, f"{key} is {final.state} without a reason"
            reasons[final.error_class or final.reason.partition(":")[0]] += 1

    size = _catalog_and_store_agree(assembly, rows, histories)
    attempts = sum(_enters(step, SceneState.CLAIMED) for steps in histories.values() for step in steps)
    return Account(title, +outcomes, reasons, attempts, repaired, *size)


def _enters(step: Step, state: SceneState) -> bool:
    """Say whether a scene came into a state; a line about another delivery leaves it where it is."""
    return step.after is state and step.before is not state


def _reconciled(assembly: Assembly) -> dict[str, int]:
    """Reconcile twice: what is safe is put right by the first, and nothing is left for the second."""
    first = _look(assembly)
    harmless = {Kind.ORPHANED, Kind.STALE, Kind.MISSING}
    assert {one.kind for one in first.found} <= harmless, first.found
    second = _look(assembly)
    assert second.found == [], second.found
    assert [day for day in second.days if day.missing or day.waiting or day.offered is None] == []
    assert second.files_checked == second.files_hashed
    assert assembly.store.clean_partial("", older_than=timedelta(0)) == []
    return first.counts()


def _look(assembly: Assembly) -> Reconciliation:
    now = datetime.now(UTC)
    scope = Scope((now - timedelta(days=30)).date(), now.date(), sample=_ALL, orphan_hours=0)
    return reconcile(assembly, scope, actor="drill")


def _catalog_and_store_agree(assembly: Assembly, rows, histories) -> tuple[int, int]:
    """Return the number of files and bytes, each of them named by one version, whole, and nothing beside them."""
    published = {row.id: row for row in rows if row.state is SceneState.PUBLISHED}
    everything = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    regions = [region.id for region in assembly.regions]
    versions = list(named_versions(assembly.database, assembly.settings.collection_id, regions, *everything))
    shown = [version for version in versions if version.latest]
    assert sorted(version.scene_id for version in shown) == sorted(published), "one latest item per published scene"
    assert len({version.item_id for version in shown}) == len(shown)
    assert {version.item_id for version in shown} == {row.item_id for row in published.values()}
    commits = [scene for scene, steps in histories.items() for step in steps if _enters(step, SceneState.PUBLISHED)]
    assert sorted(commits) == sorted(version.scene_id for version in versions), "every publication is one version"
    assert len(set(commits)) == len(commits), "no scene was published twice"

    stored = {assembly.store.href(one.key): one for one in assembly.store.list()}
    named = [file for version in versions for file in version.files]
    assert len({file.href for file in named}) == len(named), "no two versions share a file"
    assert set(stored) == {file.href for file in named}, set(stored) ^ {file.href for file in named}
    for file in named:
        digest, size = hash_object(assembly.store, stored[file.href].key)
        assert (size, _MULTIHASH + digest) == (file.size, file.checksum), file.href
    return len(named), sum(one.size for one in stored.values())
