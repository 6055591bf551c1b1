"""What a video's packets tell without decoding: frame times, and what must be decoded for a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class PacketIndex:
    """The packets of a video stream in decoding order, one entry each."""

    pts_ticks: npt.NDArray[np.int64]
    is_keyframe: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    """false where an edit list cuts the frame, which may still be needed to decode others"""
    end_ticks: int
    """end of the frame that is shown last"""
    positions: npt.NDArray[np.int64]
    """first byte of each packet in the file, -1 where the container does not say"""
    sizes: npt.NDArray[np.int64]
    is_from_header: bool = False
    """the packets themselves were not read"""
    kept: list[Any] | None = None
    """the packets themselves, to decode without reading the file again; None if there were too many"""


@dataclass(frozen=True)
class PacketRange:
    """Packets `first` to `last` (inclusive), to be fed to a decoder that starts afresh."""

    first: int
    last: int


def scan(container: Any, stream: Any, keep_bytes: int = 0) -> PacketIndex | None:
    """Read every packet of `stream`; None where the packets do not tell which frame is shown when:
    presentation times are missing, repeated, or (AVI) made up by FFmpeg in decoding order.

    The packets are kept if all of them together take no more than `keep_bytes`.
    """
    pts: list[int] = []
    durations: list[int] = []
    places: list[tuple[int, int]] = []
    is_keyframe: list[bool] = []
    is_shown: list[bool] = []
    kept: list[Any] = []
    num_bytes = 0
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts is None:
            return None
        num_bytes += packet.size
        if num_bytes <= keep_bytes:
            kept.append(packet)
        else:
            kept.clear()
        pts.append(packet.pts)
        places.append((-1 if packet.pos is None else packet.pos, packet.size))
        durations.append(packet.duration or 0)
        is_keyframe.append(packet.is_keyframe)
        is_shown.append(not packet.is_discard)
    pts_ticks, shown = np.array(pts, dtype=np.int64), np.array(is_shown, dtype=np.bool_)
    if not shown.any() or len(np.unique(pts_ticks)) != len(pts_ticks):
        return None
    # AVI stores no presentation times. Where frames are reordered, times that rise in decoding
    # order are FFmpeg's guess, and belong to other frames.
    if container.format.name == "avi" and stream.codec_context.has_b_frames and np.all(np.diff(pts_ticks) > 0):
        return None
    times = np.sort(pts_ticks[shown])
    last = int(np.flatnonzero(pts_ticks == times[-1])[0])
    return PacketIndex(
        pts_ticks=pts_ticks,
        is_keyframe=np.array(is_keyframe, dtype=np.bool_),
        is_shown=shown,
        end_ticks=end_of(times, durations[last]),
        positions=np.array([position for position, _ in places], dtype=np.int64),
        sizes=np.array([size for _, size in places], dtype=np.int64),
        kept=kept if num_bytes <= keep_bytes else None,
    )


def end_of(times_ticks: npt.NDArray[np.int64], duration_of_last: int) -> int:
    """End of the last frame: by its own duration, else by the median one, else by one tick."""
    if duration_of_last <= 0 and len(times_ticks) > 1:
        duration_of_last = int(np.median(np.diff(times_ticks)))
    return int(times_ticks[-1]) + max(duration_of_last, 1)


def runs(index: PacketIndex, wanted_ticks: npt.NDArray[np.int64]) -> list[PacketRange]:
    """The fewest packets from which the frames at `wanted_ticks` can be decoded, in order.

    A frame needs its group of pictures from the keyframe on up to its own packet. A leading picture
    (shown before the keyframe it follows, as at an open group's beginning) also refers to the group
    before, so its run begins one keyframe earlier. Runs that touch are one: the decoder need not
    start afresh between them.
    """
    keyframes = np.flatnonzero(index.is_keyframe)
    result: list[PacketRange] = []
    for packet in np.flatnonzero(np.isin(index.pts_ticks, wanted_ticks)):
        group = int(np.searchsorted(keyframes, packet, side="right")) - 1
        if group >= 0 and index.pts_ticks[packet] < index.pts_ticks[keyframes[group]]:
            group -= 1
        first = int(keyframes[group]) if group >= 0 else 0
        if result and first <= result[-1].last + 1:
            result[-1] = PacketRange(result[-1].first, max(result[-1].last, int(packet)))
        else:
            result.append(PacketRange(first, int(packet)))
    return result
