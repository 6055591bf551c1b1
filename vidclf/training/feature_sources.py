"""Sources that nobody named, found by features: videos of a class that look like parts of one recording.

Two videos of a class count as parts of one recording if the cosine of their mean features, minus the mean of the class,
is at least `COSINE`. Videos with a named source are left out. On the archive of the benchmarks this finds half of the
pairs of a recording with one scene and hardly any of a film with many scenes, and two of five pairs that it finds are
true (`docs/benchmarks/statistics.md`). A wrong merge costs less than a missed source, so that new splits and folds keep
the videos of a found source together.

Shape suffixes: N videos, D features.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from vidclf.ensemble.known_sources import are_unknown
from vidclf.features.computed_frames import select
from vidclf.features.feature_set import FeatureSet
from vidclf.features.near_duplicates import unit_vectors, video_means
from vidclf.features.near_pairs import clusters_of
from vidclf.number_words import counted

COSINE = 0.85
"""Cosine of mean features, minus the mean of their class, from which two videos of a class are of one source."""

MIN_SOURCES = 3
"""Smallest number of sources that a class must keep; in a class that would keep fewer, none are found."""


@dataclass(frozen=True, kw_only=True)
class FeatureSources:
    """Sources of several videos each that were found by features."""

    clusters: list[int | None]
    """number of each video's found source; None for a video that is alone in its source, or whose source is named"""
    num_crossing: int
    """videos of val or test of whose found source another video is in train"""

    @property
    def line(self) -> str:
        """What was found and how it flatters the accuracy; empty if nothing was found."""
        num_videos = sum(cluster is not None for cluster in self.clusters)
        if not num_videos:
            return ""
        num_sources = len({cluster for cluster in self.clusters if cluster is not None})
        crossing = (
            f"{self.num_crossing} of them are in val or test with a part in train, which makes the accuracy "
            "look too good; --split assigns splits that keep them together"
            if self.num_crossing
            else "no source is in train and in another split"
        )
        return (
            f"sources by features: {num_videos} videos without a named source look like parts of "
            f"{counted(num_sources, 'recording')}; {crossing}"
        )


def found_sources(features: FeatureSet) -> FeatureSources:
    """Find the sources of videos without a named source by their features, within each class."""
    unknown = are_unknown(features.video_uris, features.groups)
    members: dict[str, list[int]] = defaultdict(list)
    for index, (label, is_unknown) in enumerate(zip(features.labels, unknown, strict=True)):
        if label is not None and is_unknown:
            members[label].append(index)
    clusters: list[int | None] = [None] * len(unknown)
    num_found = 0
    for indices in members.values():
        for cluster in _clusters(features, indices):
            for index in cluster:
                clusters[index] = num_found
            num_found += 1
    trained = {cluster for cluster, split in zip(clusters, features.splits, strict=True) if split == "train"} - {None}
    num_crossing = sum(
        cluster in trained and split in ("val", "test")
        for cluster, split in zip(clusters, features.splits, strict=True)
    )
    return FeatureSources(clusters=clusters, num_crossing=num_crossing)


def _clusters(features: FeatureSet, indices: list[int]) -> list[list[int]]:
    """The sources of several videos among the videos `indices` of one class."""
    if len(indices) <= MIN_SOURCES:
        return []
    means_ND = video_means(select(features.features, indices))
    units_ND = unit_vectors(means_ND, means_ND.mean(axis=0))
    source_N = clusters_of(units_ND, COSINE)
    num_sources = len(set(source_N.tolist()))
    if num_sources < MIN_SOURCES:
        return []
    found: dict[int, list[int]] = defaultdict(list)
    for index, source in zip(indices, source_N, strict=True):
        found[int(source)].append(index)
    return [cluster for cluster in found.values() if len(cluster) > 1]
