"""Decoding, CNN and head (the step from features to predictions) in one worker, for a pipeline without GPUs.

On CPUs one process that alternates between decoding and the CNN keeps its core's caches and passes its frames to no
other process. A decode worker and a CNN worker per core, with the object store between them, took a quarter more CPU
time for the same videos. With GPUs the stages are separate, because CPUs of other machines can decode for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.embed_stage import EmbedVideos
from vidclf.pipeline.job import PipelineJob
from vidclf.video.decoder_process import DecodeLimits

VIDEOS_AT_ONCE = 4
"""Number of videos per batch for the CNN and the head (the step from features to predictions).

The head's small matrix products cost almost as much as large ones.
"""


class DecodeAndEmbed:
    """Stages 2 and 3 of the pipeline (decoding, then CNN and head) in one worker. 1 row out per row in.

    In: `schema.MANIFEST`. Out: the columns of `EmbedVideos`, one table per group of `VIDEOS_AT_ONCE` videos.
    """

    def __init__(
        self,
        *,
        job: PipelineJob,
        limits: DecodeLimits,
        networks: dict[str, Any],
        precision: str,
        num_gpus: float,
        tally: Any,
        logs_events: bool = False,
    ) -> None:
        """The arguments of `DecodeVideos` and `EmbedVideos`; sampling plan and frame transforms come from `job`."""
        # The decoder process comes first, so that it starts while the CNN loads.
        self._decode = DecodeVideos(job.plan, job.transforms(), limits, tally, logs_events)
        self._embed = EmbedVideos(job, networks, precision, num_gpus, tally, logs_events)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for row in self._decode(batch):
            waiting.append(row)
            if len(waiting) == VIDEOS_AT_ONCE:
                yield self._embed(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            yield self._embed(pa.concat_tables(waiting))
