"""Reading all features in an extract output, with a check that all were made alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.features.columns import features_TD
from vidclf.features.frame_file import FrameFileWriter
from vidclf.features.spec import FeatureSpec, read_spec
from vidclf.features.video_frames import VideoFrames
from vidclf.runs.layout import Run
from vidclf.runs.newest_manifest import NewestManifest
from vidclf.runs.state import check_finished


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """All features in one output directory of extract. Each list has one entry per video, sorted by location.

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
    features: Sequence[npt.NDArray[np.float16]]
    """one array [frames, features] per video; from `read_features` a `VideoFrames`, whose frames stay on the disk"""

    def take(self, rows: Sequence[int]) -> FeatureSet:
        """Return the set of the videos with these indices, in this order."""
        names = [field.name for field in fields(self) if field.name not in ("spec", "features")]
        columns: dict[str, Any] = {name: [getattr(self, name)[row] for row in rows] for name in names}
        return replace(self, features=VideoFrames.of(self.features).select(rows), **columns)


def read_features(features: str) -> FeatureSet:
    """Read all features of a finished extract output.

    The frames are copied to a file on the local disk (73 × 1280 × 2 bytes per video: 0.19 GB per thousand videos),
    which is mapped into memory and deleted with the last use of the set. So a set may be larger than the memory.

    Labels, sources, splits and locations are those of the run's newest manifest.

    Raises ConfigError if the directory holds no features, has pending videos or several rows of a video, is empty, has
    values that are not finite, or mixes feature keys, and if the temporary directory has no room for the file.
    """
    spec = read_spec(features)
    state = check_finished(features, "--features", "jobs/extract.py")
    text_columns = ("video_uri", "video_id", "label", "sublabel", "group", "split", "content_digest")
    shards = Run(features).shards()
    if not shards:
        raise ConfigError(f"--features {features}: holds no video ({state.num_quarantined} are quarantined)")
    rows: list[tuple[Any, ...]] = []
    newest = NewestManifest(features)
    writer = FrameFileWriter(f"--features {features}")
    try:
        for table in storage.iter_tables(shards, [*text_columns, "feature_key", "features"]):
            keys = set(table["feature_key"].unique().to_pylist())
            if keys != {spec.key}:
                raise ConfigError(f"--features {features}: must hold one feature key {spec.key}, holds {sorted(keys)}")
            table = newest.join(table)
            values = [table[name].to_pylist() for name in text_columns]
            places = [_added(writer, features_TD(row)) for row in table["features"]]
            rows += zip(*values, places, strict=True)
            writer.check_space(len(rows), state.num_ok)
        _check_finite(features, rows)
        file = writer.finish(shards)
    except BaseException:
        writer.close()
        raise
    rows.sort(key=lambda row: row[0])
    uris, ids, labels, sublabels, groups, splits, digests, places = (list(column) for column in zip(*rows, strict=True))
    return FeatureSet(
        spec=spec,
        video_ids=ids,
        video_uris=uris,
        labels=labels,
        sublabels=sublabels,
        groups=groups,
        splits=splits,
        content_digests=digests,
        features=VideoFrames.in_file(file, [place.start for place in places], [place.length for place in places]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where the features of a video are in the file of frames."""

    start: int
    """number of the first frame"""
    length: int
    """number of frames"""
    is_finite: bool
    """whether all values are finite"""


def _added(writer: FrameFileWriter, rows_TD: npt.NDArray[np.float16]) -> _Place:
    """Write the features of a video to the file of frames; returns their place in it."""
    return _Place(start=writer.add(rows_TD), length=len(rows_TD), is_finite=bool(np.isfinite(rows_TD).all()))


def _check_finite(features: str, rows: list[tuple[Any, ...]]) -> None:
    """Raise ConfigError if values of a video are not finite. A row begins with the location of its video, and ends with
    its place in the file of frames."""
    not_finite = [str(row[0]) for row in rows if not row[-1].is_finite]
    if not_finite:
        raise ConfigError(
            f"--features {features}: every value must be finite, is not for {len(not_finite)} videos (one is "
            f"{not_finite[0]}); an earlier version wrote them: extract these features again"
        )
