"""Groups for breaking accuracy down: resolution, duration, codec and stage."""

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
"""Lower limit of the shorter side of the picture, in pixels, and the name of the group up to the next limit."""

DURATIONS = (
    (0.0, "below 5 s"),
    (5.0, "5 to 15 s"),
    (15.0, "15 to 60 s"),
    (60.0, "1 to 5 min"),
    (300.0, "5 to 30 min"),
    (1800.0, "30 min and up"),
)
"""Lower limit of the duration, in seconds, and the name of the group up to the next limit."""

ORDER: dict[str, list[str]] = {
    "resolution": [name for _, name in RESOLUTIONS],
    "duration": [name for _, name in DURATIONS],
    "stage": list(Look),
}
"""Order of the names of each kind; kinds that are missing here are sorted alphabetically."""


def resolution(width: int | None, height: int | None) -> str:
    """The resolution group, by the shorter side: 1080 × 1920 from a phone held upright is 1080p."""
    if width is None or height is None:
        return UNKNOWN
    return RESOLUTIONS[bisect_right([least for least, _ in RESOLUTIONS], min(width, height)) - 1][1]


def duration(duration_s: float | None) -> str:
    """The duration group."""
    if duration_s is None:
        return UNKNOWN
    return DURATIONS[bisect_right([least for least, _ in DURATIONS], max(duration_s, 0.0)) - 1][1]


def in_order(kind: str, names: set[str]) -> list[str]:
    """`names` in the order of their kind, or alphabetically if it has none; `UNKNOWN` is last."""
    known = ORDER.get(kind, sorted(names - {UNKNOWN}))
    return [name for name in [*known, UNKNOWN] if name in names]
