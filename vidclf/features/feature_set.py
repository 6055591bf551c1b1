"""All features of a run in memory, checked for one feature key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.runs.layout import Run
from vidclf.runs.state import check_finished


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """The features of a run in memory, sorted by location: an order that training's random draws
    depend on, and that does not change when an archive moves to another root (video ids do)."""

    spec: FeatureSpec
    video_ids: list[str]
    video_uris: list[str]
    labels: list[str | None]
    sublabels: list[str | None]
    groups: list[str]
    splits: list[str | None]
    content_digests: list[str]
    """equal where two files are the same, byte for byte (`vidclf/archive/content.py`)"""
    features: list[npt.NDArray[np.float16]]
    """[T, D] each"""


def read_features(features: str) -> FeatureSet:
    """Read a finished features directory whole (73 × 1280 × 2 bytes a video: 0.19 GB a thousand).

    Raises ConfigError where it is none, is not finished, is empty, or mixes feature keys.
    """
    spec = read_spec(features)
    state = check_finished(features, "--features", "jobs/extract.py")
    plain = ("video_uri", "video_id", "label", "sublabel", "group", "split", "content_digest")
    columns = [*plain, "feature_key", "features"]
    rows: list[tuple[Any, ...]] = []
    for table in storage.iter_tables(Run(features).shards(), columns):
        keys = set(table["feature_key"].unique().to_pylist())
        if keys != {spec.key}:
            raise ConfigError(f"--features {features}: must hold one feature key {spec.key}, holds {sorted(keys)}")
        values = [table[name].to_pylist() for name in plain]
        rows += zip(*values, [features_TD(row) for row in table["features"]], strict=True)
    if not rows:
        raise ConfigError(f"--features {features}: holds no video ({state.num_quarantined} are quarantined)")
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
