"""Near-duplicate videos: how they are found, which of them are in different splits, and splits that keep them together.

A model that was trained on one copy of a video knows the other copy. If the copies are in different splits, the scores
are too high. Copies, trims and crops of a clip are found by their features. Clips that only share a source (the
recording that they were cut from) mostly look different, so sources are kept together by their names in `group`.

All pairs of videos are compared (`features/near_pairs.py`), so the time grows with the square of their number.

Shape suffixes: N videos, T frames, D features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidclf import storage
from vidclf.archive import splits
from vidclf.arrow import conform, nested_list
from vidclf.config import TrainConfig
from vidclf.config.fields import parse_fractions
from vidclf.ensemble import split_record
from vidclf.errors import ConfigError
from vidclf.features.feature_set import FeatureSet
from vidclf.features.near_duplicates import unit_vectors, video_means
from vidclf.features.near_pairs import MAX_PAIRS_IN_MEMORY, Pairs, components, joined, near_pairs
from vidclf.number_words import counted
from vidclf.schema import LEAKAGE, SPLIT_TABLE, VIDEO_ID
from vidclf.training.feature_sources import found_sources
from vidclf.training.pooled_splits import pooled_splits

LEAKAGE_FILE = "leakage.parquet"
"""File with the pairs of near duplicates in different splits; its columns are `schema.LEAKAGE`."""

MAX_LISTED_PAIRS = 1_000_000
"""Largest number of pairs in `leakage.parquet`, which lists the nearest first."""


@dataclass(frozen=True, kw_only=True)
class SplitAssignment:
    """The features of all videos with the splits that training uses, and the near-duplicate videos in different
    splits."""

    features: FeatureSet
    sources: list[str]
    """source of each video in the manifest; `features.groups` may hold the name of several sources that were joined"""
    clusters: list[int | None]
    """number of each video's cluster of near duplicates; None for a video without near duplicates"""
    leaks: pa.Table
    """pairs of near duplicates in different splits; columns as in `schema.LEAKAGE`"""
    num_leaks: int
    """number of such pairs, including pairs that `leaks` has no room for"""

    @property
    def summary(self) -> str:
        """A line for the job's log: how many pairs of near duplicates are in different splits."""
        if not self.num_leaks:
            return "leakage: no near duplicates are in different splits"
        return (
            f"leakage: {self.num_leaks} {'pair' if self.num_leaks == 1 else 'pairs'} of near duplicates "
            f"{'is' if self.num_leaks == 1 else 'are'} in different splits, see {LEAKAGE_FILE}"
        )

    def table(self) -> pa.Table:
        """The content of `splits.parquet`, the record of all videos and their splits, as a table."""
        features = self.features
        means_ND = video_means(features.features).astype(np.float16)
        table = pa.table(
            {
                VIDEO_ID: features.video_ids,
                "video_uri": features.video_uris,
                "label": pa.array(features.labels, pa.string()),
                "split": pa.array(features.splits, pa.string()),
                "group": features.groups,
                "cluster": pa.array(self.clusters, pa.int32()),
                "source": self.sources,
                "content_digest": features.content_digests,
                "mean_features": nested_list([means_ND.shape[1]] * len(means_ND), pa.array(means_ND.reshape(-1))),
            }
        )
        return conform(table, SPLIT_TABLE, "splits")

    def publish(self, directory: str) -> None:
        """Write `splits.parquet` and `leakage.parquet` to a directory; the latter even if there are no pairs."""
        split_record.write(directory, self.table())
        storage.publish_table(storage.join(directory, LEAKAGE_FILE), self.leaks)


def assign_splits(features: FeatureSet, config: TrainConfig) -> SplitAssignment:
    """The videos with the splits that training uses, and the near-duplicate videos in different splits.

    The splits are those of the manifest, or new ones if `config.split` gives fractions. New splits keep sources (videos
    cut from one recording) and clusters of near duplicates together. Sources that share a cluster are joined into one
    group, named after its alphabetically first source.

    With `--calibration cross`, validation videos are train videos: most members are trained on each of them.

    Raises ConfigError if new splits are to be assigned and videos have no label, or a class has too few sources.
    """
    if config.calibration == "cross":
        features = replace(features, splits=pooled_splits(features.splits))
    unit_ND = unit_means(features.features)
    fractions = parse_fractions(config.split, "manifest")
    if fractions is None:
        scan = _scan(unit_ND, features, config.near_duplicate_cosine)
        return SplitAssignment(
            features=features,
            sources=features.groups,
            clusters=scan.clusters,
            leaks=scan.leaks,
            num_leaks=scan.num_leaks,
        )
    if any(label is None for label in features.labels):
        raise ConfigError("--features: must hold labelled videos, to be split by label")
    # Without splits, so that no pair counts as a leak.
    unsplit = replace(features, splits=[None] * len(features.splits))
    scan = _scan(unit_ND, unsplit, config.near_duplicate_cosine)
    groups = join_groups(join_groups(features.groups, scan.clusters), found_sources(features).clusters)
    labels = [str(label) for label in features.labels]
    try:
        names = splits.assign(labels, features.sublabels, groups, fractions, config.seed)
    except ConfigError as error:
        num_sources, num_groups = len(set(features.groups)), len(set(groups))
        if num_groups == num_sources:
            raise
        raise ConfigError(
            f"{error} (near duplicates join {counted(num_sources, 'source')} into {num_groups}; "
            "a higher --near-duplicate-cosine joins fewer)"
        ) from error
    assigned = replace(
        features,
        groups=groups,
        splits=pooled_splits(names) if config.calibration == "cross" else list(names),
    )
    return SplitAssignment(
        features=assigned, sources=features.groups, clusters=scan.clusters, leaks=scan.leaks, num_leaks=0
    )


def unit_means(features: Sequence[npt.NDArray[np.float16]]) -> npt.NDArray[np.float32]:
    """The mean features of each video minus the mean of all videos, scaled to length 1, as an array [N, D]."""
    means_ND = video_means(features)
    return unit_vectors(means_ND, means_ND.mean(axis=0))


def join_groups(groups: Sequence[str], clusters: Sequence[int | None]) -> list[str]:
    """The group name of each video after groups that share a cluster of near duplicates are joined.

    A joined group has the name of its alphabetically first group.
    """
    names, group_of = np.unique(np.array(groups, dtype=object), return_inverse=True)
    first_of: dict[int, int] = {}
    links = [
        (first_of.setdefault(cluster, int(group)), int(group))
        for group, cluster in zip(group_of, clusters, strict=True)
        if cluster is not None
    ]
    component_of = components(*_columns(links), len(names))
    name_of: dict[int, str] = {}
    for name, component in zip(names, component_of, strict=True):
        name_of.setdefault(int(component), str(name))
    return [name_of[int(component_of[group])] for group in group_of]


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """Result of the comparison of all videos: clusters of near duplicates, and pairs of near duplicates in different
    splits."""

    clusters: list[int | None]
    """number of each video's cluster; None for a video without near duplicates"""
    leaks: pa.Table
    """pairs in different splits; columns as in `schema.LEAKAGE`"""
    num_leaks: int
    """number of such pairs, including pairs that `leaks` has no room for"""


def _scan(unit_ND: npt.NDArray[np.float32], features: FeatureSet, cosine: float) -> _Scan:
    """Clusters of near-duplicate videos, and near duplicates in different splits, from a comparison of all pairs.

    Files with identical content are near duplicates whatever their cosine, because random sampling may have drawn
    different frames from two copies.
    """
    split_N = np.array([str(split) for split in features.splits])
    digest_N = np.array(features.content_digests)
    clusters = np.arange(len(unit_ND))
    links: list[Pairs] = []
    leaks: list[Pairs] = []
    num_leaks = 0
    for pairs in _with_same_content(unit_ND, features.content_digests, cosine):
        links.append(pairs)
        if sum(len(first) for first, _, _ in links) > MAX_PAIRS_IN_MEMORY:
            clusters, links = joined(clusters, links), []
        crossing = split_N[pairs[0]] != split_N[pairs[1]]
        if crossing.any():
            num_leaks += int(crossing.sum())
            leaks.append((pairs[0][crossing], pairs[1][crossing], pairs[2][crossing]))
            if sum(len(first) for first, _, _ in leaks) > MAX_LISTED_PAIRS:
                leaks = [_nearest(leaks)]
    clusters = joined(clusters, links)
    first, second, cosines = _nearest(leaks)
    return _Scan(
        clusters=_numbered(clusters),
        leaks=_leak_table(features, first, second, cosines, digest_N[first] == digest_N[second]),
        num_leaks=num_leaks,
    )


def _with_same_content(unit_ND: npt.NDArray[np.float32], digests: Sequence[str], cosine: float) -> Iterator[Pairs]:
    """Pairs of near duplicates: first the pairs whose features have at least this cosine, then pairs of files with
    identical content (equal `digests`) whose features are less similar."""
    yield from near_pairs(unit_ND, cosine)
    copies: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        copies[digest].append(index)
    # Pairs of the first copy with each other copy: enough to join all copies, and to list each copy in another split.
    links = [(members[0], other) for members in copies.values() for other in members[1:]]
    if links:
        first, second = _columns(links)
        cosines = np.einsum("nd,nd->n", unit_ND[first], unit_ND[second])
        is_far = cosines < cosine
        yield first[is_far], second[is_far], cosines[is_far]


def _columns(links: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pairs in `links` as two arrays: all first elements, and all second elements."""
    array = np.array(links, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _numbered(clusters: npt.NDArray[np.int64]) -> list[int | None]:
    """Clusters numbered from 0 for the output file: each video's cluster number, or None for a video that is alone in
    its cluster."""
    _, cluster_of, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    number = np.cumsum(sizes > 1) - 1
    return [int(number[cluster]) if sizes[cluster] > 1 else None for cluster in cluster_of]


def _nearest(pairs: list[Pairs]) -> Pairs:
    """The MAX_LISTED_PAIRS most similar pairs, the most similar first; equally similar pairs are sorted by the
    indices of their videos."""
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    first, second, cosines = (np.concatenate(column) for column in zip(empty, *pairs, strict=True))
    order = np.lexsort((second, first, -cosines))[:MAX_LISTED_PAIRS]
    return first[order], second[order], cosines[order]


def _leak_table(
    features: FeatureSet,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    cosines: npt.NDArray[np.float32],
    same_content: npt.NDArray[np.bool_],
) -> pa.Table:
    """The content of `leakage.parquet` as a table: a row for each pair of near duplicates in different splits, with
    both videos, their cosine and whether their files are identical."""
    columns = {
        f"{prefix}{name}": pa.array(values, pa.string()).take(pa.array(indices))
        for prefix, indices in (("", first), ("other_", second))
        for name, values in (
            (VIDEO_ID, features.video_ids),
            ("video_uri", features.video_uris),
            ("label", features.labels),
            ("split", features.splits),
        )
    }
    table = pa.table({**columns, "cosine": cosines, "same_content": same_content})
    return conform(table, LEAKAGE, "leakage")
