"""Lookup of features by video id in the shards of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.schema import VIDEO_ID

MAX_CACHED_SHARDS = 8
"""Number of shards in memory at the same time.

Runs of one job have the same videos in the same shard; runs of two jobs have them in a few neighbouring shards. A shard
takes 128 videos × 73 frames × 1280 features × 2 bytes = 24 MB.
"""


class FeatureLookup:
    """The features of a run, found by video id."""

    def __init__(self, files: Sequence[str]) -> None:
        """`files` are the run's shards. Only their ids are read now."""
        self._files = list(files)
        ids = [storage.read_table(path, [VIDEO_ID])[VIDEO_ID].combine_chunks() for path in self._files]
        self._ids = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
        self._file_of_row = np.repeat(np.arange(len(ids)), [len(shard_ids) for shard_ids in ids])
        self._cached: dict[int, pa.Table] = {}

    def __call__(self, video_ids: pa.Array) -> pa.Table:
        """The `video_id` and `features` of some videos, in their order. Raises KeyError if the run lacks one."""
        positions = pc.index_in(video_ids, self._ids)
        if positions.null_count:
            raise KeyError(f"{self._files[:1]} and its run lack {video_ids.filter(pc.is_null(positions))[0]}")
        shards = [self._shard(int(file)) for file in np.unique(self._file_of_row[positions.to_numpy()])]
        rows = pa.concat_tables(shards)
        return rows.take(pc.index_in(video_ids, rows[VIDEO_ID].combine_chunks()))

    def _shard(self, file: int) -> pa.Table:
        """A shard by its index, from the cache if possible."""
        shard = self._cached.pop(file, None)
        if shard is None:
            shard = storage.read_table(self._files[file], [VIDEO_ID, "features"])
        # Dictionaries keep the order of insertion: the least recently used shard comes first and is dropped.
        self._cached[file] = shard
        while len(self._cached) > MAX_CACHED_SHARDS:
            del self._cached[next(iter(self._cached))]
        return shard
