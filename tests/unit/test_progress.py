"""The progress line in a log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vidclf import progress
from vidclf.progress import ProgressLine


def test_the_line_says_rate_and_time_left_of_this_run() -> None:
    line = ProgressLine("videos", total=100, unit="videos", initial=20)
    assert line.line(40, "truncated 1", elapsed_s=10) == "videos: 40/100 videos, 2.00/s, 30 s left (truncated 1)"
    assert line.line(20, "", elapsed_s=10) == "videos: 20/100 videos, 0.00/s, time left unknown"


def test_the_time_until_the_first_unit_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    line = ProgressLine("epochs", total=120, unit="epochs")
    # The workers start for 80 seconds. Then an epoch takes half a second.
    for clock.now, done in ((80.0, 1), (90.0, 21), (95.0, 31), (100.0, 41)):
        line.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "epochs: 1/120 epochs, 0.00/s, time left unknown",
        "epochs: 21/120 epochs, 2.00/s, 50 s left",
        "epochs: 41/120 epochs, 2.00/s, 40 s left",
    ]
