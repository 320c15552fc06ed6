"""The operator's verbs on what was published, as they are typed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from catalog.publishing import published_item
from flows.assembly import assemble
from flows.cli import app
from flows.names import ProductKeys
from flows.retention import retire_versions
from tests.unit.catalog import products

COLLECTION = "explains2a-l3-hsi"
ITEM = "S2A_20240617T113321_29UPU_R080_site"


@pytest.fixture
def assembly(tmp_path, monkeypatch):
    """A system with one item in three versions whose files exist."""
    monkeypatch.setenv("EXPLAINS2A_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with assemble() as opened:
        for version in (1, 2, 3):
            revision = f"{version:016x}"
            again = products.discovery(0, baseline=f"05.{version:02d}", source_item_id=f"again-{version}")
            (found,) = opened.ledger.discover([again], actor="watch")
            keys = ProductKeys("", f"29UPU/2024/06/{ITEM}/{revision}-{version:08x}")
            key = keys.file("qa.tif")
            opened.store.put(key, b"pixels", content_type="image/tiff")
            files = tuple(
                replace(file, href=opened.store.href(key), size=6) if file.key == "qa" else file
                for file in products.files(revision)
            )
            made = products.item(ITEM, revision, assets=files)
            claim = products.take(opened.ledger, found.scene_id, revision)
            products.put_online(opened.database, opened.ledger, claim, made, opened.settings)
        yield opened


def run(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def stored(assembly):
    return sorted(each.key.split("/")[4][:16] for each in assembly.store.list())


def test_deprecate_says_what_it_would_do_then_does_it_once(assembly):
    assert "would deprecate" in run("deprecate", ITEM, "--reason", "clouds", "--dry-run").output
    assert published_item(assembly.database, COLLECTION, ITEM)["properties"]["deprecated"] is False
    assert f"deprecated {ITEM} version 3" in " ".join(run("deprecate", ITEM, "--reason", "clouds").output.split())
    assert published_item(assembly.database, COLLECTION, ITEM)["properties"]["deprecated"] is True
    assert "already" in run("deprecate", ITEM, "--reason", "clouds").output


def test_retire_lists_then_removes_versions_and_files_but_never_the_latest(assembly):
    listed = run("retire", "--older-than-days", "0", "--dry-run")
    assert listed.output.count("would remove") == 2
    assert len(stored(assembly)) == 3
    assert "nothing to remove" in run("retire").output
    assert run("retire", "--older-than-days", "0", "--keep", "1").output.count("removed") == 1
    assert stored(assembly) == [f"{2:016x}", f"{3:016x}"]
    assert run("retire", "--older-than-days", "0").output.count("removed") == 1
    assert stored(assembly) == [f"{3:016x}"]
    assert "nothing to remove" in run("retire", "--older-than-days", "0").output


def test_files_of_other_stores_are_left_alone(assembly, caplog):
    gone = list(retire_versions(assembly, older_than=timedelta(0)))
    assert [each.version for each in gone] == [1, 2]
    assert "s3://bucket/" in caplog.text


def test_export_catalog_writes_below_the_products_then_finds_nothing_new(assembly, tmp_path):
    dry = " ".join(run("export-catalog", "--dry-run").output.split())
    assert "would write everything up to change 5: 2 items, 4 catalogs, 1 tables" in dry
    assert not (tmp_path / "home" / "products" / "stac").exists()
    assert "wrote everything" in run("export-catalog").output
    assert (tmp_path / "home" / "products" / "stac" / "catalog.json").is_file()
    assert "nothing new since change 5" in " ".join(run("export-catalog").output.split())
    elsewhere = tmp_path / "elsewhere"
    assert "wrote everything" in run("export-catalog", "--to", elsewhere.as_uri(), "--no-tables").output
    assert not list(elsewhere.rglob("*.parquet"))
    assert stored_products(assembly) == 3, "the export's files are no products"


def stored_products(assembly):
    from flows.names import attempt_of

    return sum(attempt_of(each.key) is not None for each in assembly.store.list())
