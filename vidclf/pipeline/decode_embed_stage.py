"""Decoding and the CNN in one worker, for a pipeline without GPUs.

Where both run on CPUs, a process that takes them in turn keeps its core's caches and hands its frames to
nobody: a decoder and a CNN worker a core, with the object store between them, took a quarter more CPU
time for the same videos. With GPUs the stages are apart, because CPUs elsewhere can decode for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vidclf.pipeline.decode_stage import DecodeVideos
from vidclf.pipeline.embed_stage import EmbedVideos

VIDEOS_AT_ONCE = 4
"""Videos that the CNN and the head see together: a head's products of few rows cost nearly as much as of many."""


class DecodeAndEmbed:
    """In: `schema.MANIFEST`. Out: as `EmbedVideos`, in groups of videos."""

    def __init__(self, decode: dict[str, Any], embed: dict[str, Any]) -> None:
        """The arguments of `DecodeVideos` and of `EmbedVideos`."""
        # Decoding first, whose process starts while the CNN is waited for.
        self._decode = DecodeVideos(**decode)
        self._embed = EmbedVideos(**embed)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for row in self._decode(batch):
            waiting.append(row)
            if len(waiting) == VIDEOS_AT_ONCE:
                yield self._embed(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            yield self._embed(pa.concat_tables(waiting))
