"""Limits and order of the groups of videos."""

from __future__ import annotations

import pytest

from vidclf.reports import video_kinds


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (320, 239, "below 240p"),
        (426, 240, "240p"),
        (640, 360, "360p"),
        (1280, 720, "720p"),
        (1080, 1920, "1080p"),
        (3840, 2159, "1080p"),
        (3840, 2160, "2160p and up"),
        (None, None, "unknown"),
    ],
)
def test_resolution_goes_by_the_shorter_side(width: int | None, height: int | None, name: str) -> None:
    assert video_kinds.resolution(width, height) == name


@pytest.mark.parametrize(
    ("seconds", "name"),
    [(0.0, "below 5 s"), (4.99, "below 5 s"), (5.0, "5 to 15 s"), (1800.0, "30 min and up"), (None, "unknown")],
)
def test_duration_ranges_are_half_open(seconds: float | None, name: str) -> None:
    assert video_kinds.duration(seconds) == name


def test_names_stand_in_the_order_of_their_kind_and_the_unknown_last() -> None:
    assert video_kinds.in_order("resolution", {"unknown", "1080p", "240p"}) == ["240p", "1080p", "unknown"]
    assert video_kinds.in_order("codec", {"unknown", "vp9", "av1"}) == ["av1", "vp9", "unknown"]
