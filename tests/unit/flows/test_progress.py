"""What people are told while a scene is produced."""

from __future__ import annotations

import pytest

from flows.progress import Progress


def test_speed_share_and_time_left_follow_from_what_is_done():
    progress = Progress(pixels=30_000_000, of_pixels=120_000_000, seconds=100.0, bytes_written=2_500_000_000)
    assert progress.fraction == 0.25
    assert progress.mpx_per_s == pytest.approx(0.3)
    assert progress.seconds_left == pytest.approx(300)
    assert str(progress) == "30.0 of 120.0 Mpx, 0.30 Mpx/s, 5 min left, 2,500 MB written"


@pytest.mark.parametrize(
    ("seconds", "said"), [(10, "30 s left"), (60, "3 min left"), (7200, "6.0 h left"), (0, "0 s left")]
)
def test_the_time_left_is_told_in_its_own_unit(seconds, said):
    assert said in str(Progress(1, 4, seconds, 0))


def test_nothing_done_yet_is_no_error():
    assert "unknown left" in str(Progress(0, 100, 0.0, 0))
