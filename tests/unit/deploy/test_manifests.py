"""Kubernetes manifests against the schemas of Kubernetes and of Prefect, and against what we ask of every pod."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.unit.deploy.variables import unknown_variables

FOLDER = Path(__file__).parents[3] / "infra/deploy/kubernetes"
KUBERNETES = "1.33"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
POOL = json.loads((FOLDER / "gpu-pool.json").read_text())


def documents() -> Iterator[dict[str, Any]]:
    for path in FILES:
        yield from yaml.safe_load_all(path.read_text())


def named(kind: str, name: str) -> dict[str, Any]:
    return next(d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name)


def job() -> dict[str, Any]:
    """The job of one scene as the pool's template makes it when a run asks for nothing of its own."""
    from prefect.utilities.templating import apply_values

    values = {name: field["default"] for name, field in POOL["variables"]["properties"].items() if "default" in field}
    values |= {"name": "t34jck", "labels": {"run": "1"}, "command": ["prefect", "flow-run", "execute"], "env": []}
    return apply_values(POOL["job_configuration"]["job_manifest"], values)


def pods() -> list[tuple[str, dict[str, Any]]]:
    kinds = {"Deployment", "Job"}
    found = [(d["metadata"]["name"], d["spec"]["template"]["spec"]) for d in documents() if d["kind"] in kinds]
    return [*found, ("scene", job()["spec"]["template"]["spec"])]


each_pod = pytest.mark.parametrize("pod", [pod for _, pod in pods()], ids=[name for name, _ in pods()])


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_manifest_is_what_kubernetes_expects(path):
    for document in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_kustomization_names_every_file_but_the_example():
    assert sorted([*KUSTOMIZATION["resources"], "secrets.example.yaml"]) == [path.name for path in FILES]


@each_pod
def test_no_pod_may_become_root_or_write_its_image(pod):
    rights = pod["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert rights["runAsUser"] == 10001
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip


@each_pod
def test_every_pod_has_requests_limits_and_room_to_write(pod):
    for container in pod["containers"]:
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys()
        assert {"/tmp", "/srv/explains2a"} <= {mount["mountPath"] for mount in container["volumeMounts"]}
    mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_only_the_job_starter_holds_a_token_of_kubernetes():
    for name, pod in pods():
        assert pod["automountServiceAccountToken"] is (name == "worker-gpu")
        assert pod["serviceAccountName"] == ("explains2a-job-starter" if name == "worker-gpu" else "explains2a")


@each_pod
def test_secrets_come_as_files_of_secrets_that_the_example_explains(pod):
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "secrets")
    example = named("Secret", volume["secret"]["secretName"])
    assert unknown_variables(example["stringData"]) == []
    for container in pod["containers"]:
        assert not any("secretKeyRef" in json.dumps(entry) for entry in container.get("env") or [])
        assert {"name": "secrets", "mountPath": "/run/secrets/explains2a", "readOnly": True} in container[
            "volumeMounts"
        ]


def test_every_variable_in_the_manifests_is_a_setting():
    given = dict(named("ConfigMap", "explains2a-environment")["data"])
    for _, pod in pods():
        for container in pod["containers"]:
            given |= {entry["name"]: entry["value"] for entry in container.get("env") or []}
    assert unknown_variables(given) == []


def test_the_settings_file_of_the_manifests_is_accepted(tmp_path, monkeypatch):
    from infra.settings import load_settings

    for name, text in named("ConfigMap", "explains2a-settings")["data"].items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("EXPLAINS2A_CONFIG", str(tmp_path / "explains2a.toml"))
    settings = load_settings()
    assert [region.id for region in settings.regions] == ["open-pit"]
    assert settings.storage.url.startswith("s3://")


def test_services_disruption_budgets_and_policies_select_pods_that_exist():
    labels = {d["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for d in documents()
              if d["kind"] in {"Deployment", "Job"}}  # fmt: skip
    for document in documents():
        spec = document.get("spec", {})
        chosen = spec.get("selector") if document["kind"] == "Service" else None
        if document["kind"] == "PodDisruptionBudget":
            chosen = spec["selector"]["matchLabels"]
        if document["kind"] == "NetworkPolicy":
            chosen = spec["podSelector"].get("matchLabels")
        if chosen and "app.kubernetes.io/name" in chosen:
            assert chosen["app.kubernetes.io/name"] in labels, document["metadata"]["name"]


def test_a_database_outage_does_not_restart_the_catalog():
    container = named("Deployment", "catalog")["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert "httpGet" not in container["livenessProbe"]


def test_images_are_pinned_to_the_version_of_the_project():
    from importlib.metadata import version

    for name, pod in pods():
        for container in pod["containers"]:
            assert container["image"].endswith(f":{version('explains2a')}"), name
    assert {image["newTag"] for image in KUSTOMIZATION["images"]} == {version("explains2a")}


def test_the_scene_job_is_what_kubernetes_expects_and_asks_for_one_gpu():
    made = job()
    kubernetes_validate.validate(made, KUBERNETES, strict=True)
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert made["spec"]["backoffLimit"] == 0  # the ledger decides what is tried again


def test_the_pool_template_keeps_what_prefects_own_has():
    import prefect.server.api.collections_data as data

    bundled = Path(data.__path__[0]) / "views/aggregate-worker-metadata.json"
    workers = {kind: w for group in json.loads(bundled.read_text()).values() for kind, w in group.items()}
    own = workers["kubernetes"]["default_base_job_configuration"]
    assert own["variables"]["properties"].keys() - POOL["variables"]["properties"].keys() == {"cluster_config"}
    assert own["job_configuration"].keys() - POOL["job_configuration"].keys() == {"cluster_config"}
    container = POOL["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]
    expected = own["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]
    assert {name: container[name] for name in ("name", "env", "image", "args")} == {
        name: expected[name] for name in ("name", "env", "image", "args")
    }


def test_prefect_accepts_the_pool_template():
    from prefect.client.schemas.actions import DeploymentCreate
    from prefect.server.schemas.core import WorkPool

    WorkPool(name="gpu", type="kubernetes", base_job_template=POOL, default_queue_id="0" * 32)
    deployment = DeploymentCreate(name="process", flow_id="0" * 32, job_variables={"gpus": 1})
    deployment.check_valid_configuration(POOL)
    with pytest.raises(Exception, match="gpus"):
        DeploymentCreate(name="process", flow_id="0" * 32, job_variables={"gpus": 0}).check_valid_configuration(POOL)


def test_every_field_of_the_template_is_described_for_operators():
    fields = POOL["variables"]["properties"]
    assert all(field.get("title") and field.get("description") for field in fields.values())


def test_the_job_starter_may_do_nothing_but_start_and_watch_jobs():
    rules = named("Role", "explains2a-job-starter")["rules"]
    writes = {
        (tuple(rule["resources"]), verb) for rule in rules for verb in rule["verbs"]
        if verb not in {"get", "list", "watch"}
    }  # fmt: skip
    assert writes == {(("jobs",), verb) for verb in ("create", "patch", "delete")}
    assert not any(d["kind"].startswith("ClusterRole") for d in documents())
