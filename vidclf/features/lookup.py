"""Lookup of a video's features by its id in the result files of an extract job."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidclf import storage
from vidclf.schema import VIDEO_ID

MAX_CACHED_SHARDS = 8
"""Number of shards (result files with part of the videos) that are in memory at the same time.

Runs (output directories) filled by one job have the same videos in the same shard; runs of two jobs have them in a few
neighbouring shards. A shard takes 128 videos × 73 frames × 1280 features × 2 bytes = 24 MB.
"""


class FeatureLookup:
    """Callable that returns the stored features of given videos, found by video id."""

    def __init__(self, files: Sequence[str]) -> None:
        """`files` are the locations of the result files of an extract job. Only the video ids are read now, features on
        demand."""
        self._files = list(files)
        ids = [storage.read_table(path, [VIDEO_ID])[VIDEO_ID].combine_chunks() for path in self._files]
        self._ids = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
        self._file_of_row = np.repeat(np.arange(len(ids)), [len(shard_ids) for shard_ids in ids])
        self._cached: dict[int, pa.Table] = {}

    def __call__(self, video_ids: pa.Array) -> pa.Table:
        """Return a table with columns `video_id` and `features`, one row for each of `video_ids` in the same order.

        Raises KeyError if the files lack one of the videos.
        """
        positions = pc.index_in(video_ids, self._ids)
        if positions.null_count:
            raise KeyError(f"{self._files[:1]} and its run lack {video_ids.filter(pc.is_null(positions))[0]}")
        shards = [self._shard(int(file)) for file in np.unique(self._file_of_row[positions.to_numpy()])]
        rows = pa.concat_tables(shards)
        return rows.take(pc.index_in(video_ids, rows[VIDEO_ID].combine_chunks()))

    def _shard(self, file: int) -> pa.Table:
        """The table in the file with this index, from the cache or else read from disk. The least recently used table
        leaves the cache."""
        shard = self._cached.pop(file, None)
        if shard is None:
            shard = storage.read_table(self._files[file], [VIDEO_ID, "features"])
        # Dictionaries keep the order of insertion: the least recently used shard comes first and is dropped.
        self._cached[file] = shard
        while len(self._cached) > MAX_CACHED_SHARDS:
            del self._cached[next(iter(self._cached))]
        return shard
