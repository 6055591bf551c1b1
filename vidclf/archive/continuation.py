"""Continuation of an earlier manifest: a video keeps its id and its split, however often the archive is indexed again.

An archive grows, labels are corrected, files are moved, removed or mounted elsewhere. What is known of a video, such as
its features, is stored under its id, so the id of a known video never changes.
"""

from __future__ import annotations

import posixpath
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidclf import storage
from vidclf.credentials import masked
from vidclf.errors import ConfigError
from vidclf.schema import MANIFEST, SPLITS, VIDEO_ID

Row = dict[str, Any]
"""A row of a manifest: the values by column name."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A manifest whose known videos have the ids of an earlier manifest, with counts of the differences."""

    manifest: pa.Table
    """table with the columns `schema.MANIFEST`"""
    num_new: int
    """number of videos that the earlier manifest does not hold"""
    num_moved: int
    """number of known videos with another location than before"""
    num_gone: int
    """number of videos of the earlier manifest that are no longer listed"""

    @property
    def text(self) -> str:
        """The counts in words, for the job's summary."""
        num_known = self.manifest.num_rows - self.num_new
        return (
            f"{num_known} known ({self.num_moved} of them at a new location), {self.num_new} new, {self.num_gone} gone"
        )


def continued(manifest: pa.Table, earlier: pa.Table, root: str | None = None) -> Continuation:
    """Give the videos of `manifest` the ids that they have in the manifest `earlier`.

    `root`: old and new directory, `OLD=NEW`, of an archive that is now mounted elsewhere. A video is known by

    - its location, after `root` has been replaced,
    - otherwise by its file name and size, or its size alone, if exactly one new and one vanished video have it.

    A list has no sizes; a known video then keeps the size that it has in `earlier`.
    Every other video is new. Size and name are no proof: `vidclf/runs/relocated.py` compares the content before
    features are used again.

    Raises ConfigError if no video of `earlier` is in the old directory of `root`.
    """
    rows, before = manifest.to_pylist(), earlier.to_pylist()
    place = {row[VIDEO_ID]: masked(row["video_uri"]) for row in before}
    if root is not None:
        place = _mounted(place, root)
    known = _known_by_location(rows, place)
    gone = _without(before, known.values())
    for key in (_name_and_size, _size):
        unknown = [row for row in rows if row["video_uri"] not in known]
        found = _unique_pairs(unknown, gone, key)
        known.update(found)
        gone = _without(gone, found.values())
    taken = {row[VIDEO_ID] for row in before}
    num_moved = 0
    old_row = {row[VIDEO_ID]: row for row in before}
    for row in rows:
        if row["video_uri"] in known:
            old = old_row[known[row["video_uri"]]]
            row[VIDEO_ID] = old[VIDEO_ID]
            num_moved += masked(old["video_uri"]) != masked(row["video_uri"])
            # Lists have no sizes. The next listing of the directory still knows moved files by them.
            row["size_bytes"] = old["size_bytes"] if row["size_bytes"] is None else row["size_bytes"]
        else:
            row[VIDEO_ID] = _free_id(row, taken)
            taken.add(row[VIDEO_ID])
    return Continuation(
        manifest=pa.Table.from_pylist(rows, schema=MANIFEST),
        num_new=len(rows) - len(known),
        num_moved=num_moved,
        num_gone=len(gone),
    )


def kept_splits(manifest: pa.Table, earlier: pa.Table) -> dict[str, str]:
    """Return the split that each known source (group of videos) of `manifest` has in the manifest `earlier`.

    `manifest` must have the ids of `earlier`. A source is known by its videos, otherwise by its name. A source with
    videos of several splits goes to the first of train, val and test that one of them has: a video on which an ensemble
    was trained is never tested.
    """
    split_of_id: dict[str, str] = {}
    split_of_name: dict[str, str] = {}
    for row in earlier.select([VIDEO_ID, "group", "split"]).to_pylist():
        if row["split"] is not None:
            split_of_id[row[VIDEO_ID]] = split_of_name[row["group"]] = row["split"]
    splits: dict[str, set[str]] = defaultdict(set)
    pairs = zip(manifest[VIDEO_ID].to_pylist(), manifest["group"].to_pylist(), strict=True)
    for video, group in pairs:
        splits[group] |= {split_of_id[video]} if video in split_of_id else set()
    for group, names in splits.items():
        names |= {split_of_name[group]} if not names and group in split_of_name else set()
    return {group: min(names, key=SPLITS.index) for group, names in splits.items() if names}


def num_other_splits(manifest: pa.Table, earlier: pa.Table) -> int:
    """Return how many videos are in another split than in the manifest `earlier`."""
    before = dict(zip(earlier[VIDEO_ID].to_pylist(), earlier["split"].to_pylist(), strict=True))
    pairs = zip(manifest[VIDEO_ID].to_pylist(), manifest["split"].to_pylist(), strict=True)
    return sum(before.get(video) not in (None, split) for video, split in pairs)


def _without(rows: Iterable[Row], videos: Iterable[str]) -> list[Row]:
    """Return the rows of other videos than those with the ids `videos`."""
    left_out = set(videos)
    return [row for row in rows if row[VIDEO_ID] not in left_out]


def _mounted(place: dict[str, str], root: str) -> dict[str, str]:
    """Return `place` (location by video id) with the old directory of `root` replaced by the new one."""
    old, new = (storage.canonical(directory).rstrip("/") for directory in root.split("=", 1))
    moved = {video: new + where.removeprefix(old) for video, where in place.items() if where.startswith(f"{old}/")}
    if not moved:
        raise ConfigError(
            f"--root: no video of the earlier manifest is in {old}; one of them is {next(iter(place.values()), None)}"
        )
    return {**place, **moved}


def _known_by_location(rows: Iterable[Row], place: dict[str, str]) -> dict[str, str]:
    """Return the earlier id of each video that is at the same location as before, by location.

    `place`: location of each earlier video by its id. Locations that differ only in hidden credentials are told apart
    by the ids that the listing gave.
    """
    count = Counter(place.values())
    id_at = {where: video for video, where in place.items() if count[where] == 1}
    known = {}
    for row in rows:
        where = masked(row["video_uri"])
        video = id_at.get(where) or (row[VIDEO_ID] if place.get(row[VIDEO_ID]) == where else None)
        if video is not None:
            known[row["video_uri"]] = video
    return known


def _unique_pairs(unknown: list[Row], gone: list[Row], key: Callable[[Row], Hashable]) -> dict[str, str]:
    """Return the earlier id of each video of `unknown`, by location, whose `key` one `gone` video has and no other."""
    count = Counter(map(key, unknown)), Counter(map(key, gone))
    id_of = {key(row): row[VIDEO_ID] for row in gone if row["size_bytes"] and count[1][key(row)] == 1}
    return {row["video_uri"]: id_of[key(row)] for row in unknown if count[0][key(row)] == 1 and key(row) in id_of}


def _name_and_size(row: Row) -> Hashable:
    return posixpath.basename(masked(row["video_uri"])), row["size_bytes"]


def _size(row: Row) -> Hashable:
    size: int | None = row["size_bytes"]
    return size


def _free_id(row: Row, taken: set[str]) -> str:
    """Return the id of a new video: that of its location, or another if a video that was moved away has that one."""
    video, number = row[VIDEO_ID], 2
    while video in taken:
        video = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{masked(row['video_uri'])}#{number}"))
        number += 1
    return str(video)
