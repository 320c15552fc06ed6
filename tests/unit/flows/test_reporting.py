"""The operators' pages: complete, and safe against what sources call their items."""

from datetime import UTC, date, datetime

import pytest

from catalog.overview import Cost, Overview, Spread, Success
from flows.backfilling import Plan
from flows.reconciling import DayCount, Discrepancy, Kind, Reconciliation
from flows.reporting import age, completeness_markdown, escape, overview_markdown, plan_markdown

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
