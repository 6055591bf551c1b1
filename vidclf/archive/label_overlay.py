"""Labels from a list laid over a manifest: only labels change; ids, locations, sources and splits stay.

Features are stored by video id and do not depend on labels, so no video is decoded again. The list is an export of
Label Studio (`label_studio.py`) or any list of videos with labels, and perhaps sublabels (`video_list.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidclf.archive.directory import PassedOver
from vidclf.archive.label_spelling import check_spelling
from vidclf.archive.video_list import VideoList, first_uris, read_labels
from vidclf.archive.video_names import LIST_EXTENSIONS, extension
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.schema import MANIFEST, VIDEO_ID


@dataclass(frozen=True, kw_only=True)
class Relabelled:
    """A manifest whose labels a list has changed."""

    manifest: pa.Table
    """table with the columns `schema.MANIFEST`; videos without a label have null"""
    lines: tuple[str, ...]
    """lines about the labels that changed, and about what of the list was passed over"""


def relabelled(manifest: pa.Table, location: str, *, keep_spelling: bool = False) -> Relabelled:
    """Give the videos of `manifest` the labels in the list `location`.

    A video is known by its `video_id`, otherwise by its location. A label may come with a sublabel. If the list gives
    none, a video whose label changes loses its sublabel, which belonged to the earlier label; the others keep theirs.

    `keep_spelling`: allow classes that differ only in case or spaces. Raises ConfigError if the list cannot be read, if
    it gives a video two labels or sublabels, or if it has no label of a video of the manifest.
    """
    if extension(location) not in LIST_EXTENSIONS:
        raise ConfigError(f"--labels {location}: must be a list ({', '.join(sorted(LIST_EXTENSIONS))})")
    listed = read_labels(location)
    found, unknown = _labels_by_row(manifest, listed, location)
    rows = manifest.to_pylist()
    classes = {row["label"] for row in rows} - {None}
    kinds: Counter[str] = Counter()
    for number, (label, sublabel) in found.items():
        before, sublabel_before = rows[number]["label"], rows[number]["sublabel"]
        kinds["first" if before is None else "same" if before == label else "other"] += 1
        if sublabel is not None or before != label:
            kinds["new sublabel"] += sublabel not in (None, sublabel_before)
            kinds["lost sublabel"] += sublabel is None and sublabel_before is not None
            rows[number] |= {"label": label, "sublabel": sublabel}
    if not keep_spelling:
        check_spelling(location, [row["label"] for row in rows], flag="--labels")
    lines = [
        f"labels of {location}: {counted(len(found), 'video')}, of which {kinds['other']} had another label, "
        f"{kinds['first']} had none, {kinds['same']} had the same"
    ]
    if kinds["new sublabel"]:
        lines.append(f"new sublabels: {counted(kinds['new sublabel'], 'video')}")
    if kinds["lost sublabel"]:
        lines.append(
            f"lost sublabels: {counted(kinds['lost sublabel'], 'video')}, because the label changed and the list gives "
            "no sublabel"
        )
    new = Counter(label for label, _ in found.values() if classes and label not in classes)
    if new:
        names = ", ".join(f"{label!r} ({counted(new[label], 'video')})" for label in sorted(new))
        lines.append(f"classes that no video had before: {names}")
    num_without = sum(row["label"] is None for row in rows)
    if num_without:
        lines.append(f"without a label: {counted(num_without, 'video')}; `train` leaves these out")
    lines += _passed_over(listed, unknown)
    return Relabelled(manifest=pa.Table.from_pylist(rows, schema=MANIFEST), lines=tuple(lines))


def _labels_by_row(
    manifest: pa.Table, listed: VideoList, location: str
) -> tuple[dict[int, tuple[str, str | None]], list[str]]:
    """Return the label and sublabel that the list gives each row of the manifest, by row number, and the locations of
    the labelled videos that the manifest lacks, or their ids where the list has no location.

    Rows of the list without a label are moved to `listed.unanswered`.
    """
    ids = {video: number for number, video in enumerate(manifest[VIDEO_ID].to_pylist())}
    numbers = _by_location(manifest["video_uri"].to_pylist())
    labels: dict[int, dict[str, None]] = defaultdict(dict)
    sublabels: dict[int, dict[str, None]] = defaultdict(dict)
    unknown = []
    for row in listed.rows:
        uri = row.get("video_uri")
        named = uri if uri is not None else row[VIDEO_ID]
        number = ids.get(row.get(VIDEO_ID))
        if number is None and uri is not None:
            number = numbers.get(uri, numbers.get(masked(uri)))
        if row.get("label") is None:
            listed.unanswered.append(named)
        elif number is None:
            unknown.append(masked(named))
        else:
            labels[number][row["label"]] = None
            if row.get("sublabel") is not None:
                sublabels[number][row["sublabel"]] = None
    if not labels:
        _refuse(location, listed, unknown)
    for what, values in (("label", labels), ("sublabel", sublabels)):
        several = [number for number, names in values.items() if len(names) > 1]
        if several:
            names = ", ".join(map(repr, values[several[0]]))
            uris = [masked(manifest["video_uri"][number].as_py()) for number in several]
            raise ConfigError(
                f"--labels {location}: must give a video one {what}, gives several to {first_uris(uris)} (the first "
                f"has {names}); leave one"
            )
    return {
        number: (next(iter(names)), next(iter(sublabels[number]), None)) for number, names in labels.items()
    }, unknown


def _by_location(uris: list[str]) -> dict[str, int]:
    """Return row numbers by location, and by location without credentials where that is unique."""
    shown = [masked(uri) for uri in uris]
    count = Counter(shown)
    unique = {name: number for number, name in enumerate(shown) if count[name] == 1}
    return unique | {uri: number for number, uri in enumerate(uris)}


def _refuse(location: str, listed: VideoList, unknown: list[str]) -> None:
    """Raise ConfigError for a list without any label of a video of the manifest."""
    if unknown:
        raise ConfigError(
            f"--labels {location}: must name videos of the manifest, names none of them but {first_uris(unknown)}; "
            "look whether it belongs to this archive"
        )
    if listed.unanswered:
        raise ConfigError(f"--labels {location}: none of its {counted(len(listed.unanswered), 'video')} has a label")
    raise ConfigError(f"--labels {location}: must hold labels, is empty")


def _passed_over(listed: VideoList, unknown: list[str]) -> list[str]:
    """Return lines about what the list names and the manifest does not take from it."""
    texts: list[tuple[list[str], Any]] = [
        (listed.unanswered, ("video without an answer", "videos without an answer")),
        (unknown, ("label of a video that the manifest lacks", "labels of videos that the manifest lacks")),
    ]
    return [
        f"passed over: {counted(len(uris), *words)} ({PassedOver(count=len(uris), examples=uris[:3])})"
        for uris, words in texts
        if uris
    ]
