"""An opened video with the table of its packets (compressed pieces), from which the readers take what they need."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vidclf.video import access_units, packets
from vidclf.video.cropping import Cropping
from vidclf.video.frame_reader import DamagedPacket, frames_of
from vidclf.video.packets import PacketIndex, PacketRange, PacketTable
from vidclf.video.remote_file import RangedFile, merged_ranges
from vidclf.video.source import Source, container_cropping, has_complete_index, open_video

KEEP_PACKETS_BYTES = 64 * 1024**2
"""Size of the compressed video in bytes up to which its packets stay in memory, so that the file is read only once."""

HEAD_PACKETS = 300
"""Number of packets within which the first picture that can be shown is looked for."""


@dataclass(frozen=True, kw_only=True)
class IndexedVideo:
    """An opened video file, its main stream and the packets of that stream."""

    source: Source
    stream: Any
    """the open video stream, whose codec context decodes the packets that are kept in memory"""
    table: PacketTable
    index: PacketIndex | None
    """None if the packets do not give the times of all frames"""
    cropping: Cropping
    """pixels that the container cuts from the stored pictures"""

    @contextmanager
    def packets(self, ranges: list[PacketRange]) -> Iterator[tuple[Iterable[Any], Any]]:
        """Yield all packets of the video, and the codec context that decodes them.

        The packets are those kept in memory, or else the file is opened and read again. Of a remote file only the
        packets in `ranges` are downloaded, if their places in the file are known. They have the times of the
        table.
        """
        if self.table.kept is not None:
            self.stream.codec_context.flush_buffers()
            yield self._with_closed_times(self.table.kept), self.stream.codec_context
        else:
            with open_video(self.source) as (container, stream), self._fetching_only(ranges):
                all_packets = packets.demuxed(container, stream, has_content=self.table.has_content)
                if self.table.is_second_field is not None:
                    all_packets = access_units.joined_by_table(all_packets, self.table.is_second_field)
                yield self._with_closed_times(all_packets), stream.codec_context

    def _with_closed_times(self, all_packets: Iterable[Any]) -> Iterable[Any]:
        """Return the packets, with the times of the table if jumps of the clock were closed."""
        return _retimed(all_packets, self.table) if self.table.time_jumps else all_packets

    def _fetching_only(self, ranges: list[PacketRange]) -> AbstractContextManager[None]:
        """Context in which only the packets in `ranges` of a remote file are downloaded, if their places are known."""
        index = self.index
        if index is None or not isinstance(self.source, RangedFile) or not index.is_from_header:
            return nullcontext()
        slices = [slice(packet_range.first, packet_range.last + 1) for packet_range in ranges]
        starts = np.concatenate([index.positions[packets_slice] for packets_slice in slices])
        ends = starts + np.concatenate([index.sizes[packets_slice] for packets_slice in slices])
        return self.source.fetching_only(merged_ranges(list(zip(starts.tolist(), ends.tolist(), strict=True))))


@contextmanager
def open_indexed(source: Source) -> Iterator[IndexedVideo]:
    """Open a video and read the table of its packets."""
    with open_video(source) as (container, stream):
        # Before the packets: FFmpeg's reading drops the beginning of a remote file, which states the cropping.
        cropping = container_cropping(source, container, stream)
        is_in_header = has_complete_index(source, container, stream)
        if isinstance(source, RangedFile) and is_in_header:
            has_fields = _begins_with_fields(source, stream)
            with source.fetching_only([]):
                table = packets.scan(container, stream, has_content=False, has_fields=has_fields)
        else:
            table = packets.scan(container, stream, KEEP_PACKETS_BYTES)
        index = packets.index_of(table)
        if index is not None and is_in_header:
            index = _with_keyframes_of_header(index, table, stream, isinstance(source, RangedFile))
        video = IndexedVideo(source=source, stream=stream, table=table, index=index, cropping=cropping)
        if index is not None:
            video = replace(video, index=_from_first_picture(video, index))
        yield video


def _begins_with_fields(source: RangedFile, stream: Any) -> bool:
    """Return whether the first two packets of a remote MP4 file are the fields of one picture."""
    entries = list(itertools.islice(stream.index_entries, 2))
    if len(entries) < 2 or not access_units.may_have_fields(stream):
        return False
    position = source.tell()  # FFmpeg relies on it
    heads = []
    for entry in entries:
        source.seek(entry.pos)
        heads.append(source.read(min(entry.size, access_units.HEAD_BYTES)))
    source.seek(position)
    return access_units.begins_with_fields(stream, heads[0], heads[1])


def _with_keyframes_of_header(
    index: PacketIndex, table: PacketTable, stream: Any, is_remote: bool
) -> PacketIndex | None:
    """Return the index with the keyframes that the header of the file names, or None if that cannot be done.

    FFmpeg marks more packets as keyframes than the header does: it also looks at their content, which is not fetched
    from a remote file. The frames of a video must not depend on where the file is, so the header decides.
    """
    is_keyframe = {entry.pos: entry.is_keyframe for entry in stream.index_entries}
    if table.is_second_field is not None:
        is_picture = ~table.is_second_field
        is_keyframe = dict(itertools.compress(is_keyframe.items(), is_picture.tolist()))
    if index.positions.tolist() != list(is_keyframe):
        return None if is_remote else index
    return replace(index, is_keyframe=np.array(list(is_keyframe.values())), is_from_header=is_remote)


def _from_first_picture(video: IndexedVideo, index: PacketIndex) -> PacketIndex:
    """Return the index without the frames that precede the first picture that can be shown.

    A recording that was cut may begin with pictures that refer to pictures before the cut. No decoder shows them.
    """
    shown_ticks = index.pts_ticks[index.is_shown]
    if index.is_keyframe[0] and index.pts_ticks[0] <= shown_ticks.min():
        return index
    first_ticks = _first_picture_ticks(video, index)
    if first_ticks is None or first_ticks <= shown_ticks.min():
        return index
    return replace(index, is_shown=index.is_shown & (index.pts_ticks >= first_ticks))


def _first_picture_ticks(video: IndexedVideo, index: PacketIndex) -> int | None:
    """Return the time of the first undamaged picture that decoding from the beginning gives, or None if none comes."""
    head = PacketRange(0, min(HEAD_PACKETS, len(index.pts_ticks)) - 1)
    with video.packets([head]) as (all_packets, codec):
        try:
            for packet in itertools.chain(itertools.islice(all_packets, head.last + 1), [None]):
                with suppress(DamagedPacket):
                    for frame in frames_of(codec, packet):
                        if not frame.is_corrupt and frame.pts is not None:
                            return int(frame.pts)
        finally:
            codec.flush_buffers()
    return None


def _retimed(all_packets: Iterable[Any], table: PacketTable) -> Iterator[Any]:
    """Yield the packets with the presentation times that the table gives them."""
    for packet, ticks, has_pts in zip(all_packets, table.pts_ticks.tolist(), table.has_pts.tolist(), strict=False):
        packet.pts = ticks if has_pts else None
        yield packet
