"""Sources of videos that nobody named, found in file names and directories.

A source is the recording from which videos were cut. A wrong merge of two recordings costs a few test videos; a source
that is missed lets near copies of training videos into the test. So a name that can be read as a part of a recording is
read as one, with three limits:

- A number that a camera or a tool counts up (`IMG_0001`, `video_12`), or behind the name of the class
  (`Biking/biking_12`), shows no source, and neither does a date or a time of recording.
- What stands before running numbers in more than half of a class is taken for a counter of the collection.
- A class keeps at least `MIN_SOURCES` sources. Otherwise it could not be split, and names of its videos show none.

Running numbers of a source that has one video, as in `atlantis-00`, name that source only if another source of the
archive has several videos with numbers of the same style.
"""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from vidclf.archive.name_forms import HMDB, NUMBERED, TIMES, UCF, NameForm, form_of, is_counter, words_of
from vidclf.credentials import masked

DIRECTORIES = "a directory per source"
"""Form `CLASS/RECORDING/clip_01`: directories below the class that hold a few bare counters each."""

MIN_SOURCES = 3
"""Smallest number of sources that a class must keep: one each for train, val and test."""

MIN_DIRECTORIES = 5
"""Smallest number of directories below a class that are taken for sources; fewer are sublabels."""

MAX_CLIPS = 30
"""Largest median number of videos of such directories; sublabels hold more."""

CHANGE = "--group-pattern REGEX reads them otherwise, --group-pattern none takes none"

NONE_FOUND = (
    "sources: file names show none, so every video counts as its own; where several are cut from one recording, name "
    "it (column group, or --group-pattern REGEX), or accuracy and risk are stated too well"
)
"""Line for the summary of an archive with splits whose file names show no source."""

_ORDER = (UCF, HMDB, TIMES, DIRECTORIES, NUMBERED)


@dataclass(frozen=True)
class Found:
    """A source that the name of a video shows."""

    kind: str
    """the form that shows it: `DIRECTORIES` or one of `name_forms`"""
    name: str
    """name of the source, equal for all its videos"""


@dataclass(frozen=True, kw_only=True)
class SourceNames:
    """The sources that file names of an archive show, with lines that say what was taken and what was not."""

    found: list[Found | None]
    """per video; None if its name shows no source"""
    lines: list[str]
    """lines for the job's summary"""


def find_sources(rows: Sequence[Mapping[str, Any]], *, in_directories: bool) -> SourceNames:
    """Find the sources that the locations of the videos `rows` show.

    Each row has `video_uri`, and `label` and `sublabel` if they are known. `in_directories`: the sublabels are names of
    directories, so that the last of them may be a source.
    """
    stems = [posixpath.basename(masked(row["video_uri"])).rsplit(".", 1)[0] for row in rows]
    directories = _directory_sources(rows, stems) if in_directories else {}
    forms = [form_of(stem) for stem in stems]
    members: dict[str | None, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[row.get("label")].append(index)
    found: list[Found | None] = [None] * len(rows)
    notes: list[str] = []
    for label, indices in members.items():
        candidates = {index: directories[index] for index in indices if index in directories}
        for index in indices:
            form = forms[index]
            if index not in candidates and form is not None and not _names_the_class(form, rows[index]):
                candidates[index] = Found(form.kind, _full_name(form, rows[index]))
        notes += _drop_counters(label, indices, candidates, stems)
        notes += _drop_if_too_few(label, indices, candidates)
        for index, source in candidates.items():
            found[index] = source
    _drop_unconfirmed(found, forms)
    return SourceNames(found=found, lines=[*_summary(rows, stems, found), *notes])


def _full_name(form: NameForm, row: Mapping[str, Any]) -> str:
    """Name of a source. An id with times means the same recording in every class, other names only within theirs."""
    if form.kind == TIMES:
        return form.source
    return ":".join(part for part in (row.get("label"), row.get("sublabel"), form.source) if part)


def _names_the_class(form: NameForm, row: Mapping[str, Any]) -> bool:
    """Whether a running number follows the name of the class or the sublabel, as in `Biking/biking_12`."""
    if form.kind != NUMBERED:
        return False
    words = "".join(words_of(form.source))
    names = [row.get("label"), *(row.get("sublabel") or "").split("/")]
    return any(name and words == "".join(words_of(name)) != "" for name in names)


def _directory_sources(rows: Sequence[Mapping[str, Any]], stems: Sequence[str]) -> dict[int, Found]:
    """The sources that directories below the classes show, by index of the video.

    A class's lowest directories are sources if they hold bare counters only, there are `MIN_DIRECTORIES` of them, each
    holds few videos, and none has the name of a directory in another class.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    labels_of: dict[str, set[str]] = defaultdict(set)
    for index, row in enumerate(rows):
        members[row.get("label") or ""][row.get("sublabel") or ""].append(index)
        labels_of[posixpath.basename(row.get("sublabel") or "")].add(row.get("label") or "")
    found = {}
    for label, directories in members.items():
        sizes = [len(indices) for indices in directories.values()]
        are_sources = (
            "" not in directories
            and len(directories) >= MIN_DIRECTORIES
            and max(sizes) > 1
            and median(sizes) <= MAX_CLIPS
            and all(len(labels_of[posixpath.basename(name)]) == 1 for name in directories)
            and all(is_counter(stems[index]) for indices in directories.values() for index in indices)
        )
        for name, indices in directories.items() if are_sources else ():
            found.update(dict.fromkeys(indices, Found(DIRECTORIES, f"{label}:{name}")))
    return found


def _drop_counters(
    label: str | None, indices: Sequence[int], candidates: dict[int, Found], stems: Sequence[str]
) -> list[str]:
    """Remove the sources by running numbers that hold more than half of a class; returns a line for each of them."""
    sizes = Counter(source for source in candidates.values() if source.kind == NUMBERED)
    notes = []
    for source, size in sizes.items():
        if 2 * size > len(indices) and size > 1:
            of_source = [index for index in indices if candidates.get(index) == source]
            for index in of_source:
                del candidates[index]
            notes.append(
                f"not taken for one source: {size} of the {len(indices)} videos{_of_class(label)} are numbered like "
                f"{stems[of_source[0]]!r}; if they are one recording, say so with --group-pattern"
            )
    return notes


def _drop_if_too_few(label: str | None, indices: Sequence[int], candidates: dict[int, Found]) -> list[str]:
    """Remove all sources of a class that would be left with fewer than `MIN_SOURCES`; returns a line if it does."""
    num_sources = len(set(candidates.values())) + len(indices) - len(candidates)
    if num_sources >= MIN_SOURCES or num_sources == len(indices):
        return []
    candidates.clear()
    return [
        f"not taken: file names show {num_sources} {'source' if num_sources == 1 else 'sources'} for the "
        f"{len(indices)} videos{_of_class(label)}, too few to split; if that is right, say so with --group-pattern"
    ]


def _drop_unconfirmed(found: list[Found | None], forms: Sequence[NameForm | None]) -> None:
    """Remove sources of one video by running numbers, unless a source of several videos has numbers of their style."""
    sizes = Counter(source for source in found if source is not None)
    styles = {
        form.style
        for source, form in zip(found, forms, strict=True)
        if source is not None and source.kind == NUMBERED and sizes[source] > 1 and form is not None
    }
    for index, (source, form) in enumerate(zip(found, forms, strict=True)):
        if source is not None and source.kind == NUMBERED and sizes[source] == 1:
            assert form is not None  # a source by running numbers has a form
            found[index] = source if form.style in styles else None


def _summary(rows: Sequence[Mapping[str, Any]], stems: Sequence[str], found: Sequence[Found | None]) -> list[str]:
    """The line that says what was taken: forms with an example each, numbers of sources and of videos. Empty if file
    names show no source."""
    num_named = sum(source is not None for source in found)
    if not num_named:
        return []
    parts = []
    for kind in _ORDER:
        indices = [index for index, source in enumerate(found) if source is not None and source.kind == kind]
        if not indices:
            continue
        sizes = Counter(found[index] for index in indices)
        example = max(indices, key=lambda index: sizes[found[index]])
        source = found[example]
        assert source is not None  # by the choice of `indices`
        shown = posixpath.basename(posixpath.dirname(masked(rows[example]["video_uri"]))) + "/" + stems[example]
        name = shown if kind == DIRECTORIES else stems[example]
        parts.append(
            f"{len(sizes)} {'source' if len(sizes) == 1 else 'sources'} of {len(indices)} videos "
            f"by {kind} ({name!r} is of source {source.name!r}, "
            f"{sizes[source]} {'video' if sizes[source] == 1 else 'videos'})"
        )
    rest = len(rows) - num_named
    alone = (
        f"; {rest} {'other video counts' if rest == 1 else 'other videos count'} as their own source" if rest else ""
    )
    return [f"sources in file names: {', '.join(parts)}{alone}; {CHANGE}"]


def _of_class(label: str | None) -> str:
    return f" of class {label!r}" if label is not None else ""
