"""Groups of videos for which a report states accuracies: by resolution, duration, codec, or deciding set of frames."""

from __future__ import annotations

from bisect import bisect_right

from vidclf.schema import Look

UNKNOWN = "unknown"
"""Name of the group of videos whose property is not known."""

HELD_OUT = "held out"
"""Name of the group of videos that neither of two compared ensembles used in training or validation."""

TRAINING_USES = {"train": "trained on", "val": "validated on", "test": HELD_OUT}
"""Name of the group of videos by the split that the ensembles' records give them."""

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
    "training": list(TRAINING_USES.values()),
}
"""Names of groups in the order of display, for each type of group; types that are missing here are sorted
alphabetically."""


def resolution(width: int | None, height: int | None) -> str:
    """Name of the resolution group, by the shorter side: 1080 × 1920 from a phone held upright is 1080p.

    UNKNOWN if a side is None.
    """
    if width is None or height is None:
        return UNKNOWN
    return RESOLUTIONS[bisect_right([least for least, _ in RESOLUTIONS], min(width, height)) - 1][1]


def duration(duration_s: float | None) -> str:
    """Name of the duration group of a video, such as `5 to 15 s`; UNKNOWN for None."""
    if duration_s is None:
        return UNKNOWN
    return DURATIONS[bisect_right([least for least, _ in DURATIONS], max(duration_s, 0.0)) - 1][1]


def in_order(kind: str, names: set[str]) -> list[str]:
    """Group names sorted for display, with UNKNOWN last.

    `kind` is the type of group. Some types have a fixed order, such as resolutions from small to large; the other names
    are sorted alphabetically.
    """
    known = ORDER.get(kind, sorted(names - {UNKNOWN}))
    return [name for name in [*known, UNKNOWN] if name in names]
