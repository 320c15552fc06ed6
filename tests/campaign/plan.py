"""What two services deliver in a campaign, in which order, and what must become of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from catalog.states import SceneState
from tests.campaign.account import Fate
from tests.campaign.house import House
from tests.campaign.scenes import WHOLE, Cut

REGIONS = {"ireland": (-10, 50, -5, 56), "south": (-10, 38, 15, 49.5), "finland": (18, 58, 33, 71)}
_OLD, _NEW = "0209", "0300"
_SHOWN = Fate()
_WEST, _EAST = (0, 0, 10, 20), (10, 0, 10, 20)


@dataclass(frozen=True)
class Delivery:
    """One item of one service."""

    cut: Cut
    second: bool = False
    """By the second service, under an id of its own."""

    def offer(self, place: House) -> None:
        """Let the service have it from now on."""
        item = place.deliver(self.cut)
        if self.second:
            item |= {"id": f"second-{item['id']}"}
        (place.second if self.second else place.first).items[item["id"]] = item


@dataclass
class Plan:
    """A campaign's deliveries, the earlier ones first, and what must come out."""

    early: list[Delivery] = field(default_factory=list)
    """By Prefect's workers."""
    later: list[Delivery] = field(default_factory=list)
    """By the crew; out of order, newer revisions of what was early among them."""
    large: Cut | None = None
    """A scene whose files go out in several parts."""
    fates: dict[tuple[str, str], Fate] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    """Acquisitions by kind."""


class _Calendar:
    """Gives every acquisition a patch, a size and times of its own."""

    def __init__(self, patches: list[Path]) -> None:
        self._patches, self._number = patches, 0
        self._now = datetime.now(UTC).replace(microsecond=0)

    def cut(self, **changes: Any) -> Cut:
        n, self._number = self._number, self._number + 1
        size = (10, 12, 15, 20)[n % 4]
        window = (n % 5, n % 3, size, size) if size < 20 else WHOLE
        sensed = self._now - timedelta(days=3) + timedelta(minutes=11 * n)
        published = self._now - timedelta(hours=44) + timedelta(minutes=20 * n)
        usual = {"patch": self._patches[n % 6], "sensed": sensed, "published": published, "window": window}
        return Cut(**usual | changes)


def region_features() -> tuple[dict[str, Any], ...]:
    """Return the three regions as features."""
    boxes = {name: [[w, s], [e, s], [e, n], [w, n], [w, s]] for name, (w, s, e, n) in REGIONS.items()}
    return tuple(
        {
            "type": "Feature", "id": name, "properties": {"cloud_limit": 0.6},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for name, ring in boxes.items()
    )  # fmt: skip


def make_plan(patches: list[Path], seed: int) -> Plan:
    """Plan 65 acquisitions: plain, doubled, twins, parts, reprocessed, corrupt and cloudy ones, and a larger one."""
    calendar, plan, chance = _Calendar(patches), Plan(), random.Random(seed)  # noqa: S311 - shuffles, guards nothing

    def add(kind: str, early: list[Delivery], later: list[Delivery], fate: Fate, parts: int = 1) -> None:
        plan.early += early
        plan.later += later
        plan.kinds[kind] = plan.kinds.get(kind, 0) + 1
        cut = (early or later)[0].cut
        for part in range(1, parts + 1):
            plan.fates[cut.acquisition + (f"_P{part}" if part > 1 else ""), _region(cut)] = fate

    for n in range(34):
        add("plain", *_halves([Delivery(calendar.cut())], early=n < 6), _SHOWN)
    for _ in range(8):
        cut = calendar.cut()
        add("from both services", [], [Delivery(cut), Delivery(cut, second=True)], _SHOWN)
    for _ in range(4):
        one = calendar.cut(datastrip="S2A_OPER_MSI_L2A_DS_2BPS_1")
        other = one.again(datastrip="S2A_OPER_MSI_L2A_DS_2BPT_2", generated=one.sensed + timedelta(hours=1))
        add("twin that shows the same", [], [Delivery(one), Delivery(other)], _SHOWN)
    for _ in range(3):
        west = calendar.cut(datastrip="S2A_OPER_MSI_L2A_DS_2BPS_1", window=_WEST)
        later = west.sensed + timedelta(hours=3)
        east = west.again(datastrip="S2A_OPER_MSI_L2A_DS_2BPT_2", window=_EAST, generated=later)
        add("twins that complete each other", [], [Delivery(west), Delivery(east)], _SHOWN, parts=2)
    newer = Fate(baseline="03.00")
    for n in range(5):
        old = calendar.cut(baseline=_OLD)
        new = old.again(baseline=_NEW, published=old.published + timedelta(hours=5))
        order = ([Delivery(old)], [Delivery(new)]) if n < 3 else ([], [Delivery(new), Delivery(old)])
        add("reprocessed", *order, newer)
    for n in range(4):
        corrupt = [Delivery(calendar.cut(corrupt=True))]
        add("corrupt", *_halves(corrupt, early=n < 1), Fate(SceneState.QUARANTINED))
    for n in range(6):
        cloudy = [Delivery(calendar.cut(cloudy=True))]
        add("cloudy", *_halves(cloudy, early=n < 2), Fate(SceneState.REJECTED))
    plan.large = calendar.cut(
        patch=patches[0], window=WHOLE, grown=2
    )  # fields, for a lake compresses into a single part
    add("large", [], [Delivery(plan.large)], _SHOWN)
    plan.later.pop()  # offered when S3 is to be killed under it
    chance.shuffle(plan.early)
    chance.shuffle(plan.later)
    return plan


def _halves(deliveries: list[Delivery], *, early: bool) -> tuple[list[Delivery], list[Delivery]]:
    return (deliveries, []) if early else ([], deliveries)


def _region(cut: Cut) -> str:
    tile = cut.acquisition.split("_")[2]
    zone, band = tile[:2], tile[2]
    if zone == "29":
        return "ireland" if band == "U" else "south"
    return "south" if zone == "33" else "finland"
