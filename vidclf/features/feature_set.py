"""Reading all features in an extract output into memory, with a check that all were made alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.runs.state import check_finished


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """All features in one output directory of extract, in memory. Each list has one entry per video; videos are sorted
    by location.

    The random draws of training depend on this order. It stays the same when an archive moves to another root
    directory; an order by video id would change.
    """

    spec: FeatureSpec
    """all settings that decide the features"""
    video_ids: list[str]
    video_uris: list[str]
    labels: list[str | None]
    sublabels: list[str | None]
    groups: list[str]
    """the source (recording) of each video; videos of one source must stay in one split"""
    splits: list[str | None]
    """the split (such as train or val) that the manifest states; None if it states none"""
    content_digests: list[str]
    """equal for files that are the same byte for byte (`vidclf/video/digest.py`)"""
    features: list[npt.NDArray[np.float16]]
    """one array [frames, features] per video"""

    def take(self, rows: Sequence[int]) -> FeatureSet:
        """Return the set of the videos with these indices, in this order."""
        names = [field.name for field in fields(self) if field.name != "spec"]
        columns: dict[str, Any] = {name: [getattr(self, name)[row] for row in rows] for name in names}
        return replace(self, **columns)


def read_features(features: str) -> FeatureSet:
    """Read all features of a finished extract output into memory (73 × 1280 × 2 bytes per video: 0.19 GB per thousand
    videos).

    Labels, sources, splits and locations are those of the run's newest manifest.

    Raises ConfigError if the directory holds no features, has pending videos or several rows of a video, is empty, has
    values that are not finite, or mixes feature keys.
    """
    spec = read_spec(features)
    state = check_finished(features, "--features", "jobs/extract.py")
    text_columns = ("video_uri", "video_id", "label", "sublabel", "group", "split", "content_digest")
    rows: list[tuple[Any, ...]] = []
    newest = NewestManifest(features)
    for table in storage.iter_tables(Run(features).shards(), [*text_columns, "feature_key", "features"]):
        keys = set(table["feature_key"].unique().to_pylist())
        if keys != {spec.key}:
            raise ConfigError(f"--features {features}: must hold one feature key {spec.key}, holds {sorted(keys)}")
        table = newest.join(table)
        values = [table[name].to_pylist() for name in text_columns]
        rows += zip(*values, [features_TD(row) for row in table["features"]], strict=True)
    if not rows:
        raise ConfigError(f"--features {features}: holds no video ({state.num_quarantined} are quarantined)")
    not_finite = [str(row[0]) for row in rows if not np.isfinite(row[-1]).all()]
    if not_finite:
        raise ConfigError(
            f"--features {features}: every value must be finite, is not for {len(not_finite)} videos (one is "
            f"{not_finite[0]}); an earlier version wrote them: extract these features again"
        )
    rows.sort(key=lambda row: row[0])
    uris, ids, labels, sublabels, groups, splits, digests, arrays = (list(column) for column in zip(*rows, strict=True))
    return FeatureSet(
        spec=spec,
        video_ids=ids,
        video_uris=uris,
        labels=labels,
        sublabels=sublabels,
        groups=groups,
        splits=splits,
        content_digests=digests,
        features=arrays,
    )
