"""Decoding of chosen frames of a video from only the packets (compressed pieces) that these frames need.

Reading all packets once, without decoding, gives the time of every frame. A second reading feeds
the decoder only the packets that the chosen frames need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import av.error
import numpy as np

from vidclf.video import packets
from vidclf.video.frame_reader import FrameReader, VideoTimeline, average_framerate
from vidclf.video.frame_transform import Transform
from vidclf.video.packets import PacketIndex, PacketRange
from vidclf.video.remote_file import RangedFile, merged_ranges
from vidclf.video.source import Source, codec_name, has_complete_index, open_video

KEEP_PACKETS_BYTES = 64 * 1024**2
"""Size of the compressed video in bytes up to which its packets stay in memory, so that the file is read only once."""


class PlannedReader(FrameReader):
    """Reader for a video whose packets give the time of every frame: it decodes only the packets that are needed."""

    def __init__(self, source: Source, stream: Any, index: PacketIndex, transform: Transform) -> None:
        """`source`: the opened video file.

        `stream`: its open video stream, which decodes the packets that `index` has kept. `transform`: scales and
        crops each frame.
        """
        order = np.argsort(index.pts_ticks[index.is_shown])
        times_ticks = index.pts_ticks[index.is_shown][order]
        timeline = VideoTimeline(
            times_ticks=times_ticks,
            is_keyframe=index.is_keyframe[index.is_shown][order],
            end_ticks=index.end_ticks,
            time_base=stream.time_base,
            duration_s=float((index.end_ticks - int(times_ticks[0])) * stream.time_base),
            framerate=average_framerate(stream),
            video_codec=codec_name(stream),
        )
        super().__init__(timeline, transform)
        self._source = source
        self._stream = stream
        self._index = index

    def read(self, indices: list[int]) -> bool:
        """Decode the frames at `indices` and keep them; returns whether all of them could be decoded undamaged.

        A damaged packet ends the decoding and a corrupt frame is not kept, so that frames are missing.
        `SequentialReader` gets past both.
        """
        wanted_ticks = self.timeline.times_ticks[indices]
        missing = dict(zip(wanted_ticks.tolist(), indices, strict=True))
        ranges = packets.needed_ranges(self._index, wanted_ticks)
        with self._packets(ranges) as (all_packets, stream), suppress(av.error.InvalidDataError):
            for frame in decoded_frames(all_packets, stream.codec_context, ranges, missing.keys()):
                if frame.pts in missing and not frame.is_corrupt:
                    self._collect(missing.pop(frame.pts), frame)
        return not missing

    @contextmanager
    def _packets(self, ranges: list[PacketRange]) -> Iterator[tuple[Iterable[Any], Any]]:
        """Yield all packets of the video, and the stream that decodes them.

        The packets are those kept in memory, or else the file is opened and read again.
        """
        if self._index.kept is not None:
            yield self._index.kept, self._stream
        else:
            with open_video(self._source) as (container, stream), _fetching_only(self._source, self._index, ranges):
                yield container.demux(stream), stream


@contextmanager
def open_planned(source: Source, transform: Transform) -> Iterator[PlannedReader | None]:
    """Open a video for decoding only the needed packets; yields None if its packets do not give all frame times."""
    with open_video(source) as (container, stream):
        index = read_index(source, container, stream)
        if index is None or stream.time_base is None:
            yield None
        else:
            yield PlannedReader(source, stream, index, transform)


def read_index(source: Source, container: Any, stream: Any) -> PacketIndex | None:
    """Index the packets of an open video; returns None if frame times are missing or ambiguous (see `packets.scan`).

    The packets of a remote file are not downloaded if the header of the file describes them completely.
    """
    is_in_header = has_complete_index(source, container, stream)
    if isinstance(source, RangedFile) and is_in_header:
        with source.fetching_only([]):
            index = packets.scan(container, stream)
    else:
        index = packets.scan(container, stream, KEEP_PACKETS_BYTES)
    if index is None or not is_in_header:
        return index
    # FFmpeg marks more packets as keyframes than the header does: it also looks at their content, which is
    # not fetched from a remote file. The frames of a video must not depend on where the file is, so the
    # header decides.
    is_keyframe = {entry.pos: entry.is_keyframe for entry in stream.index_entries}
    if index.positions.tolist() != list(is_keyframe):
        return None if isinstance(source, RangedFile) else index
    is_from_header = isinstance(source, RangedFile)
    return replace(index, is_keyframe=np.array(list(is_keyframe.values())), is_from_header=is_from_header)


def _fetching_only(source: Source, index: PacketIndex, ranges: list[PacketRange]) -> AbstractContextManager[None]:
    """Context in which only the packets in `ranges` of a remote file are downloaded, if their positions are known."""
    if not isinstance(source, RangedFile) or not index.is_from_header:
        return nullcontext()
    slices = [slice(packet_range.first, packet_range.last + 1) for packet_range in ranges]
    starts = np.concatenate([index.positions[packets_slice] for packets_slice in slices])
    ends = starts + np.concatenate([index.sizes[packets_slice] for packets_slice in slices])
    return source.fetching_only(merged_ranges(list(zip(starts.tolist(), ends.tolist(), strict=True))))


def decoded_frames(
    all_packets: Iterable[Any], codec: Any, ranges: list[PacketRange], wanted_ticks: Set[int]
) -> Iterator[Any]:
    """Yield the frames that the decoder `codec` returns when it is fed only the packets in `ranges`.

    The other packets are skipped, but they may still be read. Reading costs a hundredth of decoding, and
    seeking does not land on the right group of pictures in every container.
    """
    remaining = iter(ranges)
    current = next(remaining, None)
    position, skip_mode = -1, ""
    for packet in all_packets:
        if current is None:
            return
        if packet.size == 0:
            continue
        position += 1
        if position < current.first:
            continue
        # A frame that no other frame refers to needs no decoding unless it is wanted itself.
        needed_mode = "DEFAULT" if packet.pts in wanted_ticks else "NONREF"
        if needed_mode != skip_mode:
            codec.skip_frame = skip_mode = needed_mode
        yield from codec.decode(packet)
        if position == current.last:
            codec.skip_frame = skip_mode = "DEFAULT"
            yield from codec.decode(None)
            codec.flush_buffers()
            current = next(remaining, None)
