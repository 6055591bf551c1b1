"""Which videos are held out from an ensemble: decided by the ensemble's own record of its splits, not by a manifest.

A video is never test if training or validation had it, its content under another name, a near duplicate of it, or a
video of its source (the recording that it was cut from). The rule holds through chains: a video that shares a source
with a copy of a training video is no test video either. Reports, comparisons, the server and the benchmarks all decide
here.

Shape suffixes: N videos, D features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vidclf import schema
from vidclf.ensemble.split_record import SplitRecord
from vidclf.features.feature_set import FeatureSet
from vidclf.features.near_duplicates import Means, nearest, unit_vectors, video_means

USED = ("train", "val")
"""Splits whose videos are never test. A video that is related to both counts as `train`."""

REASONS = {
    "recorded": "recorded with that split",
    "content": "content of a video with that split",
    "near_duplicate": "near duplicate of one",
    "source": "source of one or of a copy of one",
}
"""Reasons for which the record gives a video another split than the manifest, with words for reports. The first that
holds is stated."""

UNIDENTIFIED = "neither the names nor the contents of the test videos are known, so that the record cannot be compared"

MeansOf = Callable[[Collection[str]], Means]
"""Function that returns the mean features of those of the given videos (by id) whose features are at hand."""

Link = tuple[int, int]
"""Two related videos: row in the record and row in the decided table."""


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """How the splits of an evaluation were decided, and what they show."""

    doubt: str
    """why the test videos are not known to be held out; empty if they are"""
    num_moved: int
    """videos that have another split by the ensemble's record than in the manifest"""
    num_no_test: int
    """those of them that are test videos in the manifest, but not by the record"""
    reasons: dict[str, int]
    """number of moved videos for each of `REASONS`"""
    num_unsearched: int
    """test videos that are not in the record and were not compared with it for near duplicates, because their features
    are not at hand"""

    @property
    def moved_words(self) -> str:
        """A sentence about the moved videos; empty if there are none."""
        if not self.num_moved:
            return ""
        parts = ", ".join(f"{REASONS[reason]}: {count}" for reason, count in self.reasons.items())
        return (
            f"{_videos(self.num_moved)} {'has' if self.num_moved == 1 else 'have'} another split by the ensemble's own "
            f"record than in the manifest, {self.num_no_test} of them no longer test ({parts})"
        )

    @property
    def unsearched_words(self) -> str:
        """A sentence about the test videos that were not searched for near duplicates; empty if there are none."""
        if not self.num_unsearched:
            return ""
        return (
            f"{_videos(self.num_unsearched)} of the test split {'is' if self.num_unsearched == 1 else 'are'} new to "
            "the record and not compared with it for near duplicates, because their features are not at hand (classify "
            "--save-features keeps them)"
        )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The splits of videos by an ensemble's record. Each list has one entry per video."""

    video_ids: list[str]
    stated: list[str | None]
    """split in the manifest; None if it states none"""
    splits: list[str | None]
    """split by the record; that of the manifest for a video that the record does not know and that is unrelated"""
    reasons: list[str]
    """one of `REASONS` if the two differ, else empty"""
    is_identified: list[bool]
    """whether the record holds the video, or its content digest is known and was compared"""
    is_searched: list[bool]
    """whether near duplicates of the video in train and val would have been found"""
    doubt: str
    """`SplitRecord.doubt`"""

    def facts(self, video_ids: Collection[str]) -> SplitFacts:
        """Counts over those of the videos whose ids are in `video_ids`."""
        wanted = set(video_ids)
        chosen = [index for index, video_id in enumerate(self.video_ids) if video_id in wanted]
        moved = [index for index in chosen if self.reasons[index]]
        test = [index for index in chosen if self.splits[index] == "test"]
        counts = Counter(self.reasons[index] for index in moved)
        has_unidentified = not all(self.is_identified[index] for index in test)
        return SplitFacts(
            doubt=self.doubt or (UNIDENTIFIED if has_unidentified else ""),
            num_moved=len(moved),
            num_no_test=sum(self.stated[index] == "test" for index in moved),
            reasons={reason: counts[reason] for reason in REASONS if counts[reason]},
            num_unsearched=sum(not self.is_searched[index] for index in test) if not self.doubt else 0,
        )

    def in_split(self, split: str) -> list[str]:
        """Ids of the videos that are in `split` by the record or in the manifest; all of them for `all`."""
        rows = zip(self.video_ids, self.stated, self.splits, strict=True)
        return [video_id for video_id, stated, decided in rows if split in ("all", stated, decided)]

    def corrected(self, manifest: pa.Table) -> pa.Table:
        """The decided table with the splits of the record in the column `split`."""
        place = manifest.column_names.index("split")
        return manifest.set_column(place, manifest.schema.field(place), pa.array(self.splits, pa.string()))


def decide(videos: pa.Table, record: SplitRecord, means_of: MeansOf | None = None) -> Decision:
    """Decide the splits of `videos` by the record of an ensemble.

    `videos` has the columns `video_id`, `group` (the source), `split` and `content_digest`; the last two may be null. A
    video in train or val of the record keeps that split. Every other video takes the split train or val of a related
    video, and otherwise the split in the record or else in `videos`. `means_of` finds the features of the videos that
    are not in the record; without it they are not compared for near duplicates.
    """
    sides = _Sides.of(record.rows, videos)
    splits, is_recorded = sides.splits([]), sides.is_recorded
    candidates = {
        video_id: index
        for index, video_id in enumerate(sides.video_ids)
        if splits[index] not in USED and not is_recorded[index]
    }
    searched: set[int] = set()
    links: list[Link] = []
    if candidates and means_of is not None and len(record.means_ND):
        ids, means_ND = means_of(candidates)
        searched = {candidates[video_id] for video_id in ids}
        links = [(row, candidates[ids[video]]) for row, video in _near_used(record, means_ND)] if ids else []
        splits = sides.splits(links)
    return Decision(
        video_ids=sides.video_ids,
        stated=sides.stated,
        splits=splits,
        reasons=sides.reasons(splits, {video for _, video in links}),
        is_identified=[
            sides.record_of[index] is not None or bool(digest) for index, digest in enumerate(sides.digests)
        ],
        is_searched=[recorded or index in searched for index, recorded in enumerate(is_recorded)],
        doubt=record.doubt,
    )


def used_contents(record: SplitRecord) -> dict[str, str]:
    """The split train or val by content digest, of the videos that were used in training or validation."""
    used: dict[str, str] = {}
    for row in record.rows.select(["split", "content_digest"]).to_pylist():
        if row["split"] in USED and row["content_digest"] and used.get(row["content_digest"]) != USED[0]:
            used[row["content_digest"]] = row["split"]
    return used


def held_out_rows(features: FeatureSet, record: SplitRecord) -> list[int]:
    """Indices of the videos of a feature set that are test by the record of an ensemble."""
    videos = pa.table(
        {
            schema.VIDEO_ID: features.video_ids,
            "group": features.groups,
            "split": pa.array(features.splits, pa.string()),
            "content_digest": features.content_digests,
        }
    )
    index_of = {video_id: index for index, video_id in enumerate(features.video_ids)}

    def means_of(video_ids: Collection[str]) -> Means:
        ids = list(video_ids)
        return ids, video_means([features.features[index_of[video_id]] for video_id in ids])

    splits = decide(videos, record, means_of if features.spec.key == record.feature_key else None).splits
    return [index for index, split in enumerate(splits) if split == "test"]


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Columns of a record and of the videos to decide, as lists."""

    record: list[dict[str, Any]]
    video_ids: list[str]
    groups: list[str]
    stated: list[str | None]
    digests: list[str | None]
    record_of: list[dict[str, Any] | None]
    """row of the record with the same id; None for a video that it does not hold"""

    @classmethod
    def of(cls, record: pa.Table, videos: pa.Table) -> _Sides:
        rows = record.to_pylist()
        row_of = {row[schema.VIDEO_ID]: row for row in rows}
        ids = videos[schema.VIDEO_ID].to_pylist()
        return cls(
            record=rows,
            video_ids=ids,
            groups=videos["group"].to_pylist(),
            stated=videos["split"].to_pylist(),
            digests=videos["content_digest"].to_pylist(),
            record_of=[row_of.get(video_id) for video_id in ids],
        )

    @property
    def is_recorded(self) -> list[bool]:
        """For each video, whether the record holds it with the content that it has now (as far as both are known)."""
        return [
            row is not None and (digest is None or row["content_digest"] in (None, digest))
            for row, digest in zip(self.record_of, self.digests, strict=True)
        ]

    def splits(self, near: Sequence[Link]) -> list[str | None]:
        """The split of each video, with near duplicates `near` besides those that the record holds."""
        component = self._components(near)
        num_rows = len(self.record)
        of_component: dict[int, str] = {}
        for index, row in enumerate(self.record):
            if row["split"] in USED and of_component.get(component[index]) != USED[0]:
                of_component[component[index]] = row["split"]
        found: list[str | None] = []
        for index, stated in enumerate(self.stated):
            own = self.record_of[index]
            split = own["split"] if own is not None else None
            found.append(split if split in USED else of_component.get(component[num_rows + index]) or split or stated)
        return found

    def reasons(self, splits: Sequence[str | None], near: Collection[int]) -> list[str]:
        """For each video why its split is another than stated; empty if it is not. `near` are the indices of the videos
        that are near duplicates of a video of train or val."""
        contents = {(row["split"], row["content_digest"]) for row in self.record if row["content_digest"]}
        clusters = {(row["split"], row["cluster"]) for row in self.record if row["cluster"] is not None}
        reasons = []
        for index, split in enumerate(splits):
            row = self.record_of[index]
            if split == self.stated[index]:
                reasons.append("")
            elif row is not None and row["split"] == split:
                reasons.append("recorded")
            elif (split, self.digests[index]) in contents:
                reasons.append("content")
            elif index in near or (row is not None and (split, row["cluster"]) in clusters):
                reasons.append("near_duplicate")
            else:
                reasons.append("source")
        return reasons

    def _components(self, near: Sequence[Link]) -> list[int]:
        """Number of the set of related videos of each row of the record, then of each video."""
        keys: list[tuple[tuple[str, Hashable], ...]] = [
            (
                ("id", row[schema.VIDEO_ID]),
                ("source", row["group"]),
                ("source", row["source"]),
                ("content", row["content_digest"]),
                ("cluster", row["cluster"]),
            )
            for row in self.record
        ]
        # A file that was replaced under the name of a recorded video is another video.
        keys += [
            (("id", video_id if is_recorded else None), ("source", group), ("content", digest))
            for video_id, is_recorded, group, digest in zip(
                self.video_ids, self.is_recorded, self.groups, self.digests, strict=True
            )
        ]
        first_with: dict[tuple[str, Hashable], int] = {}
        links = [(row, len(self.record) + video) for row, video in near]
        for node, names in enumerate(keys):
            links += [(first_with.setdefault(name, node), node) for name in names if name[1] not in (None, "")]
        pairs = np.array(links, np.int64).reshape(-1, 2)
        graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(keys), len(keys)))
        components: list[int] = connected_components(graph, directed=False)[1].tolist()
        return components


def _near_used(record: SplitRecord, means_ND: npt.NDArray[np.float32]) -> list[Link]:
    """Near duplicates in train and val of the record: pairs (row of the record, row of `means_ND`).

    Each video has at most one pair per split: that with the nearest video.
    """
    centre_D = record.means_ND.mean(axis=0)
    units_ND = unit_vectors(means_ND, centre_D)
    splits = np.array(record.rows["split"].to_pylist(), dtype=object)
    links: list[Link] = []
    for name in USED:
        rows = np.flatnonzero(splits == name)
        nearest_N = nearest(units_ND, unit_vectors(record.means_ND[rows], centre_D), record.near_duplicate_cosine)
        links += [(int(rows[row]), video) for video, row in enumerate(nearest_N) if row >= 0]
    return links


def _videos(count: int) -> str:
    """Number of videos as text: `1 video`, `2 videos`."""
    return f"{count} video{'s' if count != 1 else ''}"
