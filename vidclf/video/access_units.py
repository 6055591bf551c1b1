"""Whole pictures of an H.264 stream: fields that are packets of their own are joined; when pictures are complete.

An interlaced picture may be coded as two fields (PAFF), as camcorders and broadcasts do. Many files store each field as
a packet, of which the second has no time of its own or one at which no picture begins. Once the two are joined, a
packet is a picture in these files as in all others. Decoders take both forms.

A stream with intra refresh has no keyframes after the first one. Instead, one strip after the other is coded anew. A
packet that begins such a round counts as a keyframe, but only the picture at the end of the round is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av

from vidclf.video.h264 import H264Reader, Slice

NEVER = 2**62
"""Number of a packet that no stream has."""


def reader_of(stream: Any) -> H264Reader | None:
    """Return a reader for the packets of a video stream; None if its codec is not H.264."""
    if stream.codec_context.codec.canonical_name != "h264":
        return None
    return H264Reader(bytes(stream.codec_context.extradata or b""))


def joined(packets: Iterable[Any], reader: H264Reader) -> Iterator[Any]:
    """Yield the packets of an H.264 stream, where two fields of one picture that follow each other are one packet."""
    held: tuple[Any, Slice] | None = None
    is_first = True
    for packet in packets:
        # Parameters come with keyframes. Without any that allow fields, no other packet need be looked at.
        may_be_field = is_first or packet.is_keyframe or reader.may_have_fields
        field = reader.lone_field(bytes(packet)) if may_be_field else None
        is_first = False
        if held is not None and field is not None and _are_one_picture(held[1], field):
            yield _joined(held[0], packet)
            held = None
            continue
        if held is not None:
            yield held[0]
        held = None
        if field is None or packet.is_discard:  # a joined packet would be shown
            yield packet
        else:
            held = packet, field
    if held is not None:
        yield held[0]


def _are_one_picture(first: Slice, second: Slice) -> bool:
    return (
        first.frame_num == second.frame_num
        and first.is_bottom != second.is_bottom
        and (first.is_keyframe or not second.is_keyframe)
    )


def _joined(first: Any, second: Any) -> Any:
    """Return one packet with the fields `first` and `second` and the time of the first one."""
    packet = av.Packet(bytes(first) + bytes(second))
    packet.stream, packet.time_base = first.stream, first.time_base
    packet.pts = second.pts if first.pts is None else first.pts
    packet.dts = second.dts if first.dts is None else first.dts
    packet.is_keyframe = first.is_keyframe
    packet.duration = first.duration
    if first.pts is not None and second.pts is not None and second.pts > first.pts:
        packet.duration = second.pts - first.pts + second.duration
    return packet


class CompletePictures:
    """Record of the packet from which pictures are complete, for each packet from which decoding may begin."""

    def __init__(self, reader: H264Reader | None) -> None:
        """`reader` is that of an H.264 stream; None for other codecs, whose keyframes are always complete."""
        self._reader = reader
        self._awaited: dict[int, int] = {}
        self.complete_from: list[int] = []
        """for each packet the number of the first packet whose picture is complete if decoding begins there; `NEVER`
        if there is none"""

    def add(self, packet: Any) -> None:
        """Take notice of the next packet."""
        place = len(self.complete_from)
        self.complete_from.append(place)
        if self._reader is None or not (packet.is_keyframe or self._awaited):
            return
        content = bytes(packet)
        header = self._reader.first_slice(content)
        if header is None:
            return
        for begun, frame_num in list(self._awaited.items()):
            if header.is_keyframe or (header.is_reference and header.frame_num == frame_num):
                self.complete_from[begun] = place
                del self._awaited[begun]
        num_pictures = self._reader.pictures_until_complete(content) if packet.is_keyframe else 0
        if num_pictures and not header.is_keyframe:
            self.complete_from[place] = NEVER
            self._awaited[place] = (header.frame_num + num_pictures) % header.num_frame_nums
