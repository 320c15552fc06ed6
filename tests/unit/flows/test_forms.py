"""Every deployment of prefect.yaml loads, and its form in the UI says what each entry means."""

from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parents[3]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=[one["name"] for one in DEPLOYMENTS])
def test_the_form_is_typed_and_described(deployment):
    path, _, name = deployment["entrypoint"].partition(":")
    flow = load_flow_from_entrypoint(f"{ROOT / path}:{name}")
    assert deployment["description"]
    assert flow.timeout_seconds
    assert not flow.retries
    assert not flow.persist_result
    for parameter in parameter_schema(flow).properties.values():
        assert parameter.get("description"), parameter
        assert {"type", "anyOf"} & set(parameter), parameter
