"""Log lines for machines: each is one JSON object that names the scene and the run it is about."""

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.logs import PREFECT_VARIABLES, JsonLines, about

RUN = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def log():
    """A logger and the lines that it wrote."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(json.loads(self.format(record)))

    handler = Keep()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("explains2a-test-logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, lines
    logger.removeHandler(handler)


def test_a_line_names_scene_and_run(log, monkeypatch):
    logger, lines = log
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", RUN)
    with about(scene=7), about(region="mine"):
        logger.info("two\nlines of %s", "text")
    logger.info("after")
    inside, after = lines
    assert (inside["scene"], inside["region"], inside["flow_run_id"]) == (7, "mine", RUN)
    assert inside["message"] == "two\nlines of text"
    assert "scene" not in after


def test_what_prefect_says_of_a_record_wins_over_the_environment(log, monkeypatch):
    logger, lines = log
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", RUN)
    logger.info("a", extra={"flow_run_id": "other", "task_run_name": "compare"})
    assert (lines[0]["flow_run_id"], lines[0]["task_run_name"]) == ("other", "compare")


def test_an_error_comes_with_its_class_and_trace_in_the_same_line(log):
    logger, lines = log
    try:
        int("not so")
    except ValueError:
        logger.exception("failed")
    assert lines[0]["error"]["type"] == "ValueError"
    assert "not so" in lines[0]["error"]["traceback"]


def test_a_pool_s_threads_speak_of_the_only_scene_in_work_and_of_none_where_there_are_two(log):
    logger, lines = log
    with ThreadPoolExecutor(1) as pool:
        with about(scene=7), about(region="mine"):
            pool.submit(logger.info, "read").result()
        with ThreadPoolExecutor(1) as other, about(scene=8):
            held = other.submit(_inside, logger, pool)
            held.result()
    assert lines[0]["scene"] == 7
    assert "scene" not in lines[1]


def _inside(logger, pool):
    with about(scene=9):
        pool.submit(logger.info, "whose").result()


def test_prefect_s_own_processes_write_the_same_lines():
    script = (
        "import logging\n"
        "from prefect.logging import get_logger\n"
        "from prefect.logging.configuration import setup_logging\n"
        "from infra.logs import about\n"
        "setup_logging()\n"
        "with about(scene=3):\n"
        "    get_logger('worker').info('[bold]long[/bold] ' + 'x' * 500)\n"
        "    logging.getLogger('elsewhere').warning('two\\nlines')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **PREFECT_VARIABLES, "PREFECT__FLOW_RUN_ID": RUN},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    first, second = (json.loads(line) for line in ran.stderr.splitlines())
    assert first["logger"] == "prefect.worker"
    assert first["message"] == "[bold]long[/bold] " + "x" * 500
    assert second["message"] == "two\nlines"
    assert all((line["scene"], line["flow_run_id"]) == (3, RUN) for line in (first, second))


@pytest.mark.usefixtures("operator_settings")
def test_the_command_writes_json_where_the_settings_say_so(monkeypatch):
    monkeypatch.setenv("EXPLAINS2A_LOG_FORMAT", "json")
    command = [sys.executable, "-m", "flows.cli", "--verbose"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for verb in (["watch"], ["process", "1"]):
        ran = subprocess.run([*command, *verb], env=env, capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert any(line["message"].startswith(("published", "scene 1 rejected")) for line in lines)
    assert all(line["scene"] == 1 for line in lines if line["logger"].startswith(("flows", "catalog.publishing")))
