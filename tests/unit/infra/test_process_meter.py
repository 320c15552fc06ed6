"""What is watched of another process: memory, and disk that is not its output."""

import subprocess
import sys
import time

import pytest

from infra.process_meter import ProcessMeter

HOLD = """
import os, sys
file = open(sys.argv[1], "wb")
file.write(b"x" * 1_000_000)
file.flush()
os.fsync(file.fileno())
os.unlink(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def held(path, **meters):
    """What a meter says of a process that holds a megabyte in a deleted file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with ProcessMeter(process.pid, **meters) as meter:
            time.sleep(0.2)
        process.stdin.close()
        assert process.wait() == 0
    return meter


def test_a_deleted_file_counts_while_it_is_held(tmp_path):
    meter = held(tmp_path / "spill")
    assert meter.temp_disk_bytes >= 1_000_000
    assert meter.peak_rss_bytes > 1e6


@pytest.mark.parametrize("journal", ["bench.db-wal", "bench.db-journal"])
def test_the_journal_of_a_known_database_does_not(tmp_path, journal):
    assert held(tmp_path / journal, known=[tmp_path / "bench.db"]).temp_disk_bytes == 0


def test_a_file_in_a_temporary_folder_counts(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "spill").write_bytes(b"x" * 300_000)
    assert (
        held(tmp_path / "bench.db-wal", temporary=[tmp_path / "tmp"], known=[tmp_path / "bench.db"]).temp_disk_bytes
        >= 300_000
    )
