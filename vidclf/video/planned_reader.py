"""Decoding of chosen frames of a video from only the packets (compressed pieces) that these frames need.

Reading all packets once, without decoding, gives the time of every frame. A second reading feeds
the decoder only the packets that the chosen frames need.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from typing import Any

import av.error
from av.video.frame import PictureType

from vidclf.video import packets
from vidclf.video.expected_times import timeline_of
from vidclf.video.frame_reader import DamagedPacket, FrameReader, frames_of
from vidclf.video.frame_transform import Transform
from vidclf.video.indexed_video import IndexedVideo
from vidclf.video.packets import PacketIndex, PacketRange


class PlannedReader(FrameReader):
    """Reader for a video whose packets give the time of every frame: it decodes only the packets that are needed."""

    def __init__(self, video: IndexedVideo, index: PacketIndex, transform: Transform) -> None:
        """`video`: the opened video; `index`: the index of its packets. `transform`: scales and crops each frame."""
        super().__init__(timeline_of(video), transform)
        self._video = video
        self._index = index

    def read(self, indices: list[int]) -> bool:
        """Decode the frames at `indices` and keep them; returns whether all of them could be decoded undamaged.

        A damaged packet, a frame that does not come, and a packet that is wrongly called a keyframe end the decoding,
        so that frames are missing. `SequentialReader` gets past all of them.
        """
        wanted_ticks = self.timeline.times_ticks[indices]
        missing = dict(zip(wanted_ticks.tolist(), indices, strict=True))
        ranges = packets.needed_ranges(self._index, wanted_ticks)
        first_ticks = {int(self._index.pts_ticks[part.first]) for part in ranges if part.first > 0}
        awaited = deque(sorted(missing))
        with self._video.packets(ranges) as (all_packets, codec), suppress(av.error.InvalidDataError, DamagedPacket):
            for frame in decoded_frames(all_packets, codec, ranges, missing.keys()):
                self._notice(frame)
                if frame.pts in first_ticks and not is_decodable_alone(frame):
                    return False
                # Frames come in order of presentation. One that is overdue comes no more, so that the rest would be
                # decoded in vain.
                if frame.pts is not None and awaited and awaited[0] < frame.pts:
                    return False
                if frame.pts not in missing or frame.is_corrupt:
                    continue
                awaited.popleft()
                self._collect(missing.pop(frame.pts), frame)
        return not missing


def is_decodable_alone(frame: Any) -> bool:
    """Return whether a decoded frame refers to no other frame, as far as its decoder reveals it.

    Some containers call packets keyframes that are none. The decoders of H.263 and MPEG-4 then show a picture made of
    nothing without calling it damaged. That the picture is no keyframe is all that reveals it.
    """
    return bool(frame.key_frame) or frame.pict_type == PictureType.I


def decoded_frames(
    all_packets: Iterable[Any], codec: Any, ranges: list[PacketRange], wanted_ticks: Set[int]
) -> Iterator[Any]:
    """Yield the frames that the decoder `codec` returns when it is fed only the packets in `ranges`.

    The other packets are skipped, but they may still be read. Reading costs a hundredth of decoding, and
    seeking does not land on the right group of pictures in every container.
    """
    # FFmpeg's own decoders look at `skip_frame` before each packet. A decoder of another library (libdav1d for AV1)
    # looks at it once, when it opens, and would lose frames of the whole video.
    may_skip = not codec.name.startswith("lib")
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
        if may_skip and needed_mode != skip_mode:
            codec.skip_frame = skip_mode = needed_mode
        yield from frames_of(codec, packet)
        if position == current.last:
            if may_skip:
                codec.skip_frame = skip_mode = "DEFAULT"
            yield from frames_of(codec, None)
            codec.flush_buffers()
            current = next(remaining, None)
