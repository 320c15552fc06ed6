"""The operators' pages: complete, and safe against what sources call their items."""

from datetime import UTC, date, datetime, timedelta

import pytest

from catalog.overview import Cost, Overview, Spread, Success
from catalog.tile_days import TileDays, TileScene
from flows.backfilling import Plan
from flows.reconciling import DayCount, Discrepancy, Kind, Reconciliation
from flows.reporting import age, completeness_markdown, escape, headline, overview_markdown, plan_markdown

AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_overview_tells_every_number():
    seen = Overview(
        AT, {"published": 3, "rejected": 1}, {"rejected: cloud": 1}, 2, 7200.0,
        {"sensing to product": Spread(3, 3600.0, 86400.0 * 4, 86400.0 * 5)}, (Success("29UPU", "site", AT),),
        {"all": Cost(3, 12.5, 2e6)}, {"duality-2": 3},
    )  # fmt: skip
    page = overview_markdown(seen)
    for told in ("| published | 3 |", "rejected: cloud", "**2** scenes", "2.0 h", "60 min", "4.0 d", "29UPU", "12.5",
                 "2.00", "duality-2"):  # fmt: skip
        assert told in page


def test_every_tile_and_day_is_told_with_the_reason_and_the_run():
    day = timedelta(days=1)
    scenes = (
        TileScene(3, "29UPU", "site", AT, "discovered", "", None, ""),
        TileScene(2, "29UPU", "site", AT - day, "rejected", "cloud: 91 % | [of](x) it", None, "run-2"),
        TileScene(1, "33UUP", "site", AT - day, "quarantined", "broken", "UnreadableRaster", "run-1"),
        TileScene(0, "33UUP", "site", AT - 2 * day, "published", "", None, "run-0"),
    )
    tiles = TileDays(3, (("site", "29UPU"), ("site", "33UUP"), ("site", "35VPK")), scenes)
    seen = Overview(AT, {}, {}, 0, None, {}, (), {}, {}, tiles)
    assert headline(seen) == "3 of 4 scenes of 3 days without product"
    page = overview_markdown(seen, "http://ui.example.org")
    assert "| tile | Fri 02 | Thu 01 | Wed 31 | region |" in page
    assert "| 29UPU | … | ✗ cloud | · | site |" in page
    assert "| 33UUP | · | ✗ quarantined | ✓ | site |" in page
    assert "| 35VPK | · | · | · | site |" in page
    assert "- **29UPU 2026-01-01 00:00** site, scene 2 **rejected**: cloud: 91 % \\| \\[of\\]\\(x\\) it [run](" in page
    assert "[run](http://ui.example.org/runs/flow-run/run-2)" in page
    assert "run-0" not in page
    assert "](" not in overview_markdown(Overview(AT, {}, {}, 0, None, {}, (), {}, {}, tiles)).replace("\\]\\(", "")


def test_completeness_tells_counts_reasons_and_what_is_wrong():
    report = Reconciliation(date(2026, 1, 1), date(2026, 1, 2), files_checked=7)
    report.days = [DayCount("site", date(2026, 1, 1), None, 2, 1, rejected={"cloud": 1})]
    report.found = [Discrepancy(Kind.LOST, "s3://b/[x](javascript:1)", "site", "is not in the store")]
    page = completeness_markdown(report)
    assert "| site | 2026-01-01 | ? | 2 | 0 | 1 | 1 cloud |" in page
    assert "only told" in page
    assert "[x](" not in page
    assert "agree" in completeness_markdown(Reconciliation(date(2026, 1, 1), date(2026, 1, 2)))


def test_a_plan_without_measurements_says_so():
    plan = Plan((), (4,), 3, {"site": 1}, None, None, None, ("earth / site: away",))
    page = plan_markdown(plan, date(2026, 1, 1), date(2026, 1, 2))
    assert "unknown" in page
    assert "1 to be made again, 3 known" in page
    assert "away" in page
    costed = Plan((), (4,), 3, {"site": 1}, 60.0, 120.0, 5e9, ())
    assert "5.000 GB" in plan_markdown(costed, date(2026, 1, 1), date(2026, 1, 2))


@pytest.mark.parametrize(("seconds", "said"), [(90, "2 min"), (7200, "2.0 h"), (86400 * 10, "10.0 d")])
def test_ages_are_told_in_their_own_unit(seconds, said):
    assert age(seconds) == said


def test_remote_text_is_neither_markup_nor_a_new_row():
    assert escape("a|b\n| c") == "a\\|b \\| c"
