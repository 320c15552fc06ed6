"""What the layers of an estimate say: decoded as stored, and doubt counted on its own side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.gallery import FIELDS, RELATIVE, decoded, exposures, states_doubt


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-5, 5))
def test_share_beyond_normal_is_counted_on_the_side_of_doubt(seed, shift):
    rng = np.random.default_rng(seed)
    before = {name: rng.normal(size=(16, 16)).astype(np.float32) for name in ("detail", "attribution_B02")}
    after = {name: values + np.float32(shift) for name, values in before.items()}
    everywhere = np.ones((16, 16), bool)
    found = {e.layer: e for e in exposures(after, everywhere, before, everywhere, before)}
    low, high = np.percentile(before["detail"], (5, 95))
    assert found["detail"].beyond == pytest.approx((after["detail"] > high).mean(), abs=0.01)
    both = (after["attribution_B02"] > np.percentile(before["attribution_B02"], 95)) | (
        after["attribution_B02"] < np.percentile(before["attribution_B02"], 5)
    )
    assert found["attribution_B02"].beyond == pytest.approx(both.mean(), abs=0.01)
    assert found["detail"].after - found["detail"].before == pytest.approx(shift, abs=1e-4)
    assert low < high


def test_untouched_patch_exposes_nothing(model, estimates):
    layers = decoded(model, estimates[FIELDS])
    everywhere = np.ones(next(iter(layers.values())).shape, bool)
    for found in exposures(layers, everywhere, layers, everywhere, layers):
        assert found.beyond == found.beyond_before
        assert found.beyond <= 0.11
        assert found.before == found.after


def test_layers_that_only_describe_or_grow_with_brightness_state_no_doubt():
    assert not any(
        map(states_doubt, ("attribution_B02", "measured_red", "detail_gain_B08", "sigma_red", "residual_B01"))
    )
    assert all(map(states_doubt, ("out_of_domain_score", "sigma_red" + RELATIVE, "residual_B09", "detail")))


def test_decoded_layers_match_the_stored_integers(model, estimates):
    estimate = estimates[FIELDS]
    found = decoded(model, estimate)
    for number, layer in enumerate(model.explanation_layers):
        assert np.allclose(found[layer.name], estimate.explanation[number] * layer.scale, rtol=1e-5)
    mean = estimate.hsi.mean(axis=0) * 1e-4
    assert np.allclose(found["sigma_red" + RELATIVE] * mean, found["sigma_red"], rtol=1e-4)
    assert np.allclose(found["residual_B09"][::6, ::6], np.abs(estimate.residual_60[1]) * 1e-4, atol=1e-6)
