"""The limit of the domain has a floor that belongs to the prior, and a wide class pays for its width."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from model.mixture import closed_form
from model.parameters import read_weights
from model.training.calibration import domain_floor


@pytest.fixture(scope="module")
def parameters():
    return read_weights()[0]


def with_classes(parameters, chosen):
    """The parameters with some classes of the prior alone."""
    platforms = {}
    for name, sensor in parameters.sensors.items():
        p = sensor.prior
        weight = p.weight[chosen] / p.weight[chosen].sum()
        prior = replace(p, weight=weight, mean=p.mean[chosen], covariance=p.covariance[chosen], noise=p.noise[chosen])
        platforms[name] = replace(sensor, prior=prior)
    return replace(parameters, sensors=platforms)


def test_of_one_class_the_floor_is_that_of_chi_square(parameters):
    for j in range(3):
        assert domain_floor(with_classes(parameters, [j])) == pytest.approx(chi2.ppf(0.999, 11), rel=0.04)


def test_the_floor_of_all_classes_holds_what_the_widest_gives(parameters):
    sensor = parameters.sensors["sentinel-2a"]
    form = closed_form(sensor.prior, sensor.responses @ parameters.basis.components.T)
    assert form.width.min() == 0.0
    floor = domain_floor(parameters)
    assert floor > chi2.ppf(0.999, 11)
    assert floor < chi2.ppf(0.999, 11) + form.width.max()
    assert floor == domain_floor(parameters)


def test_a_classs_width_is_the_determinant_of_what_it_gives(parameters):
    sensor = parameters.sensors["sentinel-2b"]
    A = sensor.responses @ parameters.basis.components.T
    form = closed_form(sensor.prior, A)
    inside = zip(sensor.prior.covariance, sensor.prior.noise, strict=True)
    logs = [np.linalg.slogdet((A @ C @ A.T + np.diag(R))[1:, 1:])[1] for C, R in inside]
    assert np.allclose(form.width, np.array(logs) - min(logs))
