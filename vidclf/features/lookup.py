"""Features of one video at a time, found by video id in the shards of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.schema import VIDEO_ID

SHARDS_KEPT = 8
"""Shards in memory at a time: runs of one job have the same videos in the same shard, those of two jobs in
a few near it; 128 videos × 73 × 1280 × 2 bytes = 24 MB each."""


class FeatureLookup:
    """The features of a run by video id."""

    def __init__(self, files: Sequence[str]) -> None:
        """From the run's shards, of which only the ids are read now."""
        self._files = list(files)
        ids = [storage.read_table(path, [VIDEO_ID])[VIDEO_ID].combine_chunks() for path in self._files]
        self._ids = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
        self._file_of = np.repeat(np.arange(len(ids)), [len(part) for part in ids])
        self._kept: dict[int, pa.Table] = {}

    def __call__(self, video_ids: pa.Array) -> pa.Table:
        """`video_id` and `features` of some videos, in their order. KeyError where the run lacks one."""
        places = pc.index_in(video_ids, self._ids)
        if places.null_count:
            raise KeyError(f"{self._files[:1]} and its run lack {video_ids.filter(pc.is_null(places))[0]}")
        shards = [self._shard(int(file)) for file in np.unique(self._file_of[places.to_numpy()])]
        found = pa.concat_tables(shards)
        return found.take(pc.index_in(video_ids, found[VIDEO_ID].combine_chunks()))

    def _shard(self, file: int) -> pa.Table:
        shard = self._kept.pop(file, None)
        if shard is None:
            shard = storage.read_table(self._files[file], [VIDEO_ID, "features"])
        # The one used last is last, and the first goes.
        self._kept[file] = shard
        while len(self._kept) > SHARDS_KEPT:
            del self._kept[next(iter(self._kept))]
        return shard
