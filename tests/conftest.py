"""Fixtures of the whole suite: real scenes, an operator's settings, real servers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.seaweed import Seaweed

# One thread per test process: two cores are shared by servers, workers and the tests themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real data beside the checkout, where present; nothing in the suite needs it to pass."""


@pytest.fixture(scope="session", autouse=True)
def _prefect_home(tmp_path_factory):
    """Keep Prefect's own files out of the user's home."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))


@pytest.fixture(scope="session")
def demo_scenes(tmp_path_factory):
    """The six real patches of the demonstration, with the rejected and the doubled scene."""
    from infra.demo import build_demo

    return build_demo(tmp_path_factory.mktemp("demo-scenes"))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory):
    """A real S3 server with one bucket, ``products``."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed")).start()
    server.make_bucket("products")
    yield server
    server.stop()


@pytest.fixture
def operator_settings(tmp_path, demo_scenes, monkeypatch):
    """Settings as an operator would write them, over the demonstration's scenes, in a fresh home."""
    from infra.settings import CONFIG_VARIABLE, load_settings

    config = tmp_path / "explains2a.toml"
    config.write_text(
        f"home = {json.dumps(str(tmp_path / 'home'))}\n"
        f"regions_file = {json.dumps(str(demo_scenes.regions_file))}\n"
        "[processing]\nfirst_look_back_days = 36500\nlease_seconds = 5\nheartbeat_seconds = 1\n"
        f"[[sources]]\nkind = 'folder'\nname = 'patches'\npath = {json.dumps(str(demo_scenes.items))}\n"
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    monkeypatch.chdir(tmp_path)
    return load_settings()
