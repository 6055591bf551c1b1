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
import numpy as np
import numpy.typing as npt

from vidclf.video.h264 import H264Reader, Slice

NEVER = 2**62
"""Number of a packet that no stream has."""

HEAD_BYTES = 4096
"""Bytes of a packet that surely hold the header of its first slice."""

_SAME_STEP = 1.25
"""Largest ratio of two times from one field to the next: whole ticks make them differ. To the next picture it is 2."""


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


def may_have_fields(stream: Any) -> bool:
    """Return whether fields may be packets of their own, by what the container states of a video stream; True if it
    states no parameters of the stream."""
    reader = reader_of(stream)
    return reader is not None and (reader.may_have_fields or not reader.has_parameters)


def begins_with_fields(stream: Any, first: bytes, second: bytes) -> bool:
    """Return whether the first two packets of a video stream are the two fields of one picture.

    `first` and `second` are the beginnings of these packets, of `HEAD_BYTES` each if the packets are longer.
    """
    reader = reader_of(stream)
    if reader is None:
        return False
    fields = reader.lone_field(first), reader.lone_field(second)
    return fields[0] is not None and fields[1] is not None and _are_one_picture(fields[0], fields[1])


def second_fields(pts_ticks: npt.NDArray[np.int64], is_shown: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which of the P packets of a stream that begins with two fields are the second field of a picture.

    The arrays have shape [P] and are in decoding order. The content of the packets is not known, so the times decide:
    the second field comes half a picture after the first one, and no picture comes so soon after another.
    """
    is_second = np.zeros(len(pts_ticks), np.bool_)
    steps = np.diff(pts_ticks)
    may_join = (steps > 0) & (steps <= _SAME_STEP * steps[0]) & is_shown[1:] & is_shown[:-1]
    for place in np.flatnonzero(may_join).tolist():
        is_second[place + 1] = not is_second[place]
    return is_second


def joined_by_table(packets: Iterable[Any], is_second: npt.NDArray[np.bool_]) -> Iterator[Any]:
    """Yield the packets, where each one for which `is_second` [P] is true is joined to the one before it."""
    held: Any = None
    for packet, is_joined in zip(packets, is_second.tolist(), strict=False):
        if is_joined:
            yield _joined(held, packet)
            held = None
            continue
        if held is not None:
            yield held
        held = packet
    if held is not None:
        yield held


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
