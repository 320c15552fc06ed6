"""The compose file: who runs, what is pinned, what waits for what, and where secrets stand."""

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.dockerfile import stages
from tests.unit.deploy.variables import own_variables, unknown_variables

FOLDER = Path(__file__).parents[3] / "infra/deploy/compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
CUDA = yaml.safe_load((FOLDER / "compose.cuda.yaml").read_text())
SERVICES = COMPOSE["services"]
each_service = pytest.mark.parametrize("name", SERVICES)


@each_service
def test_every_service_is_restricted(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@each_service
def test_every_service_has_limits_and_writes_to_named_volumes_or_memory(name):
    service = SERVICES[name]
    assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            assert volume.split(":")[0] in COMPOSE["volumes"]
        else:
            assert volume.get("read_only") or volume["source"] in COMPOSE["volumes"]


@each_service
def test_every_image_is_pinned_and_every_build_is_a_stage(name):
    for service in (SERVICES[name], CUDA["services"].get(name, {"image": SERVICES[name]["image"]})):
        assert re.fullmatch(r"[a-z0-9/-]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"])
        if "build" in service:
            build = service["build"]
            dockerfile = (FOLDER / build["context"]).resolve() / build["dockerfile"]
            assert build["target"] in stages(dockerfile)
            assert service["image"] == f"explains2a/{build['target']}:0.1.0"


@each_service
def test_who_waits_waits_for_health_or_completion(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        waited = SERVICES[other]
        if how["condition"] == "service_completed_successfully":
            assert waited["restart"] == "no"
        elif how["condition"] == "service_healthy":
            own = waited["image"].startswith("explains2a/")  # whose image says what health is
            assert own or "test" in waited["healthcheck"]


@each_service
def test_variables_are_settings_and_none_is_secret(name):
    given = SERVICES[name].get("environment", {})
    assert unknown_variables(given) == []
    for variable, value in given.items():
        assert variable.endswith("_FILE") or not re.search(r"PASSWORD|KEY|CONNECTION_URL|DATABASE_URL", variable)
        assert not re.search(r"://[^/]*:[^/]*@", str(value))


@each_service
def test_secrets_are_files_that_the_maker_makes(name, tmp_path):
    from infra.deploy.compose.make_secrets import make_secrets

    made = make_secrets(tmp_path)
    assert {f"./secrets/{one}" for one in made} == {entry["file"] for entry in COMPOSE["secrets"].values()}
    for secret in SERVICES[name].get("secrets", []):
        source = secret if isinstance(secret, str) else secret["source"]
        assert source in COMPOSE["secrets"]
        if not isinstance(secret, str) and "explains2a/" in secret["target"]:
            variable = secret["target"].removeprefix("/run/secrets/explains2a/")
            assert unknown_variables([variable]) == []


def test_a_setting_that_does_not_exist_would_be_found():
    assert unknown_variables(["EXPLAINS2A_STORAGE__URL", "EXPLAINS2A_STORAGE__URI"]) == ["EXPLAINS2A_STORAGE__URI"]
    assert unknown_variables(["PREFECT_API_URL", "PREFECT_API_URI"]) == ["PREFECT_API_URI"]
    assert {"EXPLAINS2A_DATABASE_URL", "EXPLAINS2A_STORAGE__SECRET_KEY", "EXPLAINS2A_API__PORT"} <= own_variables()


def test_variables_of_the_images_are_settings():
    for stage in stages(FOLDER.parent / "Dockerfile").values():
        names = re.findall(r"(\w+)=", " ".join(stage.all("ENV")))
        assert unknown_variables(names) == []


def test_nothing_listens_beyond_this_host():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_databases_and_store_cannot_reach_out():
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "store"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_nothing_secret_is_ever_committed():
    assert "/secrets/" in (FOLDER / ".gitignore").read_text().splitlines()
    assert "**/secrets" in (FOLDER.parent / "Dockerfile.dockerignore").read_text().splitlines()


def test_the_settings_beside_the_compose_file_are_accepted(tmp_path, monkeypatch):
    from infra.settings import load_settings

    (tmp_path / "explains2a.toml").write_text((FOLDER / "settings/explains2a.toml").read_text())
    (tmp_path / "regions.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "properties": {}, "geometry":'
        '{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}]}'
    )
    monkeypatch.setenv("EXPLAINS2A_CONFIG", str(tmp_path / "explains2a.toml"))
    for variable, value in SERVICES["catalog"]["environment"].items():
        monkeypatch.setenv(variable, value)
    assert load_settings().storage.url == "s3://explains2a/products"
