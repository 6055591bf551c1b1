"""Forms of file names that show the source of a video: the recording from which it was cut.

Each form is a rule of a public data set or of a tool that cuts recordings. `source_names.py` decides where a form
holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UCF = "group and clip, as in UCF101"
"""Form `v_Biking_g01_c02`: the name up to the group number `g01` is the source."""

HMDB = "clip properties, as in HMDB51"
"""Form `TITLE_CLASS_h_cm_np1_le_goo_2`: the title before the properties is the source."""

TIMES = "start and end time, as in Kinetics"
"""Form `ID_000010_000020`: the id before the two times is the source."""

NUMBERED = "running numbers"
"""Form `film_001`: the name before the number is the source."""

_UCF = re.compile(r"(?P<source>.+_g\d+)_c\d+")
_HMDB = re.compile(r"(?P<source>.+)_[hulf]_(?:cm|nm)_np\d_(?:fr|ri|le|ba)_(?:bad|med|goo)_\d+")
_TIMES = re.compile(r"(?P<source>.+?)[_-](?P<start>\d+(?:\.\d+)?)[_-](?P<end>\d+(?:\.\d+)?)")
_NUMBERED = re.compile(
    r"(?P<source>.+?)"
    r"(?P<separator>[\s._#(-]+(?:(?:part|pt|clip|scene|shot|segment|seg|chunk|take|cut|cd|disc)[\s._#-]*)?"
    r"|(?<=[^\W\d_]{3})(?=0\d))"
    r"(?P<number>\d{1,6})\)?",
    re.IGNORECASE,
)
_DATE = r"(?:19|20)\d\d[-_. ]?[01]\d[-_. ]?[0-3]\d"
_MOMENT = re.compile(rf".*(?<!\d){_DATE}(?:(?:[-_. T]+(?:at[-_. ]+)?)?\d\d[-_.h]?\d\d(?:[-_.m]?\d\d)?(?:[-_.]\d+)?)?")

_YOUTUBE_ID = re.compile(r"[\w-]{11}")

GENERIC_WORDS = frozenset(
    (
        *("camera", "cam", "capture", "clip", "clips", "copy", "cut", "data", "dji", "download", "dsc", "dscf", "dscn"),
        *("file", "files", "frame", "gh", "gl", "gopr", "gp", "gx", "id", "image", "images", "img", "item", "mah"),
        *("media", "mov", "mvi", "new", "no", "nr", "num", "number", "out", "output", "part", "pxl", "rec", "record"),
        *("recording", "sam", "sample", "scene", "screen", "screencast", "screenshot", "segment", "shot", "take"),
        *("test", "train", "trim", "untitled", "val", "vid", "video", "videos", "wa", "webcam", "whatsapp"),
    )
)
"""Words, in lower case, that cameras and tools put before their counters. They name no recording."""


@dataclass(frozen=True)
class NameForm:
    """A source that a file name shows, and how it shows it."""

    kind: str
    """`UCF`, `HMDB`, `TIMES` or `NUMBERED`"""
    source: str
    """part of the name that all videos of the source share"""
    style: str = ""
    """for `NUMBERED`: separator and number of digits; names of one tool agree in it"""


def form_of(stem: str) -> NameForm | None:
    """The form of a file name without extension; None if the name shows no source.

    A date or a time of recording at the end is not a running number: `VID_20201231_235959` shows no source.
    """
    for kind, pattern in ((UCF, _UCF), (HMDB, _HMDB)):
        match = pattern.fullmatch(stem)
        if match:
            return NameForm(kind, match["source"])
    if _MOMENT.fullmatch(stem):
        return None
    match = _TIMES.fullmatch(stem)
    if match and _are_times(match["source"], match["start"], match["end"]):
        return NameForm(TIMES, match["source"])
    match = _NUMBERED.fullmatch(stem)
    if match and not _is_generic(match["source"]):
        return NameForm(NUMBERED, match["source"], f"{match['separator']}{len(match['number'])}")
    return None


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: its runs of letters."""
    return re.findall(r"[^\W\d_]+", name.lower())


def is_counter(stem: str) -> bool:
    """Whether a file name is a bare counter, such as `0001`, `clip_01` or `000010_000020`: its words name nothing."""
    return any(character.isdigit() for character in stem) and all(word in GENERIC_WORDS for word in words_of(stem))


def _are_times(source: str, start: str, end: str) -> bool:
    """Whether two numbers at the end of a name are the start and the end of a clip.

    The second must be larger. Both have the same number of digits, at least four, or decimals, or follow the id of a
    video at YouTube. So `scene_03_12` shows no times.
    """
    if float(end) <= float(start) or _is_generic(source):
        return False
    has_decimals = "." in start or "." in end
    return has_decimals or (len(start) == len(end) >= 4) or _YOUTUBE_ID.fullmatch(source) is not None


def _is_generic(source: str) -> bool:
    """Whether the part before a counter names no recording: it has generic words or single letters only.

    A number, as in `7-01` or `p7-01`, may name a recording.
    """
    words = words_of(source)
    has_number = any(character.isdigit() for character in source)
    return bool(words) and all(word in GENERIC_WORDS or (len(word) == 1 and not has_number) for word in words)
