"""Which kind of video a video is: classes of picture size and of length, and codecs as they are named."""

from __future__ import annotations

from bisect import bisect_right

from vidclf.schema import Look

UNKNOWN = "unknown"

RESOLUTIONS = (
    (0, "below 240p"),
    (240, "240p"),
    (360, "360p"),
    (480, "480p"),
    (720, "720p"),
    (1080, "1080p"),
    (2160, "2160p and up"),
)
"""Least length of a picture's shorter side, in pixels, and the name of what is from there to the next."""

DURATIONS = (
    (0.0, "below 5 s"),
    (5.0, "5 to 15 s"),
    (15.0, "15 to 60 s"),
    (60.0, "1 to 5 min"),
    (300.0, "5 to 30 min"),
    (1800.0, "30 min and up"),
)
"""Least duration, in seconds, and the name of what is from there to the next."""

ORDER: dict[str, list[str]] = {
    "resolution": [name for _, name in RESOLUTIONS],
    "duration": [name for _, name in DURATIONS],
    "stage": list(Look),
}
"""The order of names that have one."""


def resolution(width: int | None, height: int | None) -> str:
    """The class of a picture's size, by its shorter side: a phone's upright 1080 × 1920 is 1080p."""
    if width is None or height is None:
        return UNKNOWN
    return RESOLUTIONS[bisect_right([least for least, _ in RESOLUTIONS], min(width, height)) - 1][1]


def duration(duration_s: float | None) -> str:
    """The class of a video's length."""
    if duration_s is None:
        return UNKNOWN
    return DURATIONS[bisect_right([least for least, _ in DURATIONS], max(duration_s, 0.0)) - 1][1]


def in_order(kind: str, names: set[str]) -> list[str]:
    """`names` in the order of their kind, else alphabetically; the unknown last."""
    known = ORDER.get(kind, sorted(names - {UNKNOWN}))
    return [name for name in [*known, UNKNOWN] if name in names]
