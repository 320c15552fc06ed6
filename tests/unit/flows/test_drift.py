"""Drift alarms: what is like the past is quiet, what is not is told, one odd scene alarms nobody."""

from datetime import UTC, datetime, timedelta

import numpy as np

from catalog.overview import DRIFT_FIELDS, Quality
from flows.drift import NEWEST, drift_picture, judge_drift
from flows.reporting import drift_markdown

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def history(values, region="site", field="out_of_domain_fraction"):
    return [
        Quality(f"i{n}", region, BEGIN + n * timedelta(days=5), dict.fromkeys(DRIFT_FIELDS) | {field: float(value)})
        for n, value in enumerate(values)
    ]


def steady(number, seed=0):
    return np.random.default_rng(seed).normal(0.1, 0.02, number)


def test_a_short_past_is_not_judged():
    (one,) = judge_drift(history([0.1] * 9 + [0.9] * NEWEST))
    assert one.low is None
    assert not one.alarm


def test_more_of_the_same_is_quiet():
    assert not any(one.alarm for seed in range(20) for one in judge_drift(history(steady(60, seed))))


def test_one_odd_scene_alarms_nobody_and_a_lasting_change_does():
    odd = [*steady(60), 0.1, 0.1, 0.1, 0.1, 0.95]
    (one,) = judge_drift(history(odd))
    assert not one.alarm
    (one,) = judge_drift(history([*steady(60), *[0.4] * NEWEST]))
    assert one.alarm
    assert one.low < 0.1 < one.high < one.now


def test_a_fall_alarms_too_and_regions_do_not_mix():
    fallen = history([*[0.99] * 30, *[0.5] * NEWEST], "fell", "within_noise_fraction")
    quiet = history([0.5] * 35, "quiet", "within_noise_fraction")
    assert [(one.region, one.alarm) for one in judge_drift([*fallen, *quiet])] == [("fell", True), ("quiet", False)]


def test_a_change_without_practical_meaning_alarms_nobody():
    (one,) = judge_drift(history([*[0.0] * 30, *[0.04] * NEWEST]))
    assert not one.alarm


def test_the_page_names_the_alarm_and_carries_a_picture():
    past = history([*steady(60), *[0.4] * NEWEST])
    page = drift_markdown(past, judge_drift(past))
    assert "**Drift:** site out of domain fraction." in page
    assert "data:image/png;base64,iVBOR" in page
    assert len(drift_picture(past, judge_drift(past))) < 100_000
    assert drift_markdown([], []) == "No product yet."
