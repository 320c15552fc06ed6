"""Gates reject with the measured value and the limit, and never guess what a scene does not say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.gates import SceneFacts, Verdict, evaluate_gates, first_rejection
from flows.grade import GRADES, grade
from infra.settings import GateSettings, Region

REGION = Region(
    id="mine", geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}, cloud_limit=0.3
)
GOOD = SceneFacts(valid_fraction=1.0, cloud_fraction=0.1, reported_cloud=0.2, sun_zenith=40.0)
QUALITY = {"out_of_domain_fraction": 0.02, "low_consistency_fraction": 0.0, "missing_fraction": 0.0}


def verdicts(facts, **limits):
    return {result.gate: result for result in evaluate_gates(facts, REGION, GateSettings(**limits))}


def test_a_good_scene_passes_every_gate():
    results = evaluate_gates(GOOD, REGION, GateSettings())
    assert {result.verdict for result in results} == {Verdict.PASS}
    assert first_rejection(results) is None


@pytest.mark.parametrize(
    ("change", "gate", "measured", "limit"),
    [
        ({"valid_fraction": 0.01}, "valid_fraction", 0.01, 0.05),
        ({"cloud_fraction": 0.31}, "cloud", 0.31, 0.3),
        ({"sun_zenith": 80.0}, "sun_zenith", 80.0, 75.0),
    ],
)
def test_a_rejection_carries_value_and_limit(change, gate, measured, limit):
    refusal = first_rejection(evaluate_gates(replace(GOOD, **change), REGION, GateSettings()))
    assert refusal is not None
    assert (refusal.gate, refusal.measured, refusal.limit) == (gate, measured, limit)


def test_a_scene_without_any_data_is_rejected_even_when_no_minimum_is_set():
    result = verdicts(replace(GOOD, valid_fraction=0.0), min_valid_fraction=0.0)["valid_fraction"]
    assert result.verdict is Verdict.REJECT


def test_what_a_scene_does_not_say_is_not_evaluated_and_nothing_is_invented():
    results = verdicts(replace(GOOD, cloud_fraction=None, sun_zenith=None))
    assert results["cloud"].verdict is Verdict.NOT_EVALUATED
    assert results["cloud"].measured is None
    assert "20.0%" in results["cloud"].explanation  # the tile-wide figure is told, not used
    assert results["sun_zenith"].verdict is Verdict.NOT_EVALUATED


def test_a_gate_that_was_not_evaluated_caps_the_grade_and_says_why():
    gates = evaluate_gates(replace(GOOD, cloud_fraction=None, sun_zenith=None), REGION, GateSettings())
    given_grade = grade(QUALITY, gates)
    assert given_grade.letter == "B"
    assert given_grade.reasons == ("capped at B: not evaluated: cloud, sun_zenith",)
    assert grade(QUALITY, evaluate_gates(GOOD, REGION, GateSettings())).letter == "A"


@given(st.fixed_dictionaries({name: st.floats(0, 1) for name in QUALITY}))
def test_a_worse_number_never_makes_a_better_grade(quality):
    gates = evaluate_gates(GOOD, REGION, GateSettings())
    before = GRADES.index(grade(quality, gates).letter)
    for name in quality:
        after = GRADES.index(grade({**quality, name: 1.0}, gates).letter)
        assert after >= before
