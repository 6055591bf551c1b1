"""The progress line in a log."""

from __future__ import annotations

from vidclf.progress import ProgressLine


def test_the_line_says_rate_and_time_left_of_this_run() -> None:
    line = ProgressLine("videos", total=100, unit="videos", initial=20)
    assert line.line(40, "truncated 1", elapsed_s=10) == "videos: 40/100 videos, 2.00/s, 30 s left (truncated 1)"
    assert line.line(20, "", elapsed_s=10) == "videos: 20/100 videos, 0.00/s, time left unknown"
