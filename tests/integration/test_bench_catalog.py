"""The catalog's benchmark on a small catalog: it registers, serves, asks, and its figures are those of the answers."""

import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from catalog.api.links import linked_item
from catalog.bench import made_items, mix
from catalog.items import PREFIX
from catalog.publishing import published_item
from catalog.session import connect
from flows.cli import app
from tests.contract.stac_schemas import problems, require_schemas

pytestmark = pytest.mark.server


def test_the_bench_fills_a_catalog_and_searches_it(tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.bench._LOAD_SECONDS", 0.5)
    monkeypatch.setattr("catalog.bench._VARIANTS", 2)
    url, out = f"sqlite:///{tmp_path / 'bench.sqlite'}", tmp_path / "figures.json"
    ran = CliRunner().invoke(app, ["bench", "catalog", "--items", "300", "--db", url, "--json", str(out)])
    assert ran.exit_code == 0, ran.output
    figures = json.loads(out.read_text())
    assert figures["items"] == 300
    assert 0 < figures["p50_ms"] <= figures["p95_ms"]
    assert figures["requests_per_s"] > 0
    assert figures["items_per_s"] > 0
    assert set(figures["kinds"]) == {request.kind for request in mix(300, limit=1, fields="")}
    newest = figures["kinds"]["newest of the world"]
    assert newest["items_per_page"] > 20
    assert 0 < newest["selectivity"] <= 1
    database = connect(url)
    try:
        counts = {}
        with database.read() as session:
            for table in ("items", "item_search", "item_versions", "scenes", "changes", "assets"):
                counts[table] = session.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608 - names above
        assert counts == {**dict.fromkeys(("items", "item_search", "item_versions", "scenes", "changes"), 300),
                          "assets": 300 * 13}  # fmt: skip
        made = list(made_items(300, "explains2a-l3-hsi"))[17]
        assert published_item(database, "explains2a-l3-hsi", made["id"]) == made
        assert made["properties"][PREFIX + "grade"] in "ABCD"
        require_schemas()
        assert problems(linked_item(made, "http://127.0.0.1/")) == []
    finally:
        database.close()


def test_a_database_with_other_items_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.bench._LOAD_SECONDS", 0.1)
    monkeypatch.setattr("catalog.bench._VARIANTS", 1)
    url = f"sqlite:///{tmp_path / 'bench.sqlite'}"
    first = CliRunner().invoke(app, ["bench", "catalog", "--items", "100", "--db", url])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, ["bench", "catalog", "--items", "101", "--db", url])
    assert again.exit_code == 1
    assert "100 items" in again.output
