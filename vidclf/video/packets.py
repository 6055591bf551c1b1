"""Index of a video's packets (compressed pieces): frame times without decoding, and which packets a frame needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class PacketIndex:
    """Table of the P packets (compressed pieces) of a video stream in decoding order; each array has shape [P]."""

    pts_ticks: npt.NDArray[np.int64]
    """presentation time of the packet's frame, in ticks of the stream's time base"""
    is_keyframe: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    """false for a frame that the file's edit list cuts from display; other frames may still need it for decoding"""
    end_ticks: int
    """time at which the last shown frame ends, in ticks"""
    positions: npt.NDArray[np.int64]
    """offset of each packet's first byte in the file; -1 if the file does not state the offset"""
    sizes: npt.NDArray[np.int64]
    """size of each packet in bytes"""
    is_from_header: bool = False
    """whether the table comes from the file's header alone, without reading the packets"""
    kept: list[Any] | None = None
    """the packets themselves, so that they can be decoded without reading the file again; None if they are too large"""


@dataclass(frozen=True)
class PacketRange:
    """Run of consecutive packets, numbers `first` to `last` (inclusive), to be fed to a freshly reset decoder."""

    first: int
    last: int


_PACKET = np.dtype(
    [
        ("pts_ticks", np.int64),
        ("duration_ticks", np.int64),
        ("position", np.int64),
        ("size_bytes", np.int64),
        ("is_keyframe", np.bool_),
        ("is_shown", np.bool_),
    ]
)
"""NumPy type of one packet's entry while `scan` builds the index."""


def scan(container: Any, stream: Any, keep_bytes: int = 0) -> PacketIndex | None:
    """Index every packet of `stream`; returns None if the packets do not give the times of all frames.

    Returns None if presentation times are missing or repeated, or if FFmpeg made them up in decoding order (AVI). The
    index keeps the packets if all of them together have at most `keep_bytes` bytes.
    """
    entries: list[tuple[int, int, int, int, bool, bool]] = []
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
        position = -1 if packet.pos is None else packet.pos
        is_shown = not packet.is_discard
        entries.append((packet.pts, packet.duration or 0, position, packet.size, packet.is_keyframe, is_shown))
    table = np.array(entries, dtype=_PACKET)
    pts_ticks, is_shown_P = table["pts_ticks"].copy(), table["is_shown"].copy()
    if not is_shown_P.any() or len(np.unique(pts_ticks)) != len(pts_ticks):
        return None
    # AVI stores no presentation times. If frames are reordered, times that increase in decoding order are
    # FFmpeg's guess and belong to other frames.
    if container.format.name == "avi" and stream.codec_context.has_b_frames and np.all(np.diff(pts_ticks) > 0):
        return None
    times_ticks = np.sort(pts_ticks[is_shown_P])
    last_shown = int(np.flatnonzero(pts_ticks == times_ticks[-1])[0])
    return PacketIndex(
        pts_ticks=pts_ticks,
        is_keyframe=table["is_keyframe"].copy(),
        is_shown=is_shown_P,
        end_ticks=end_of(times_ticks, int(table["duration_ticks"][last_shown])),
        positions=table["position"].copy(),
        sizes=table["size_bytes"].copy(),
        kept=kept if num_bytes <= keep_bytes else None,
    )


def end_of(times_ticks: npt.NDArray[np.int64], last_duration_ticks: int) -> int:
    """Return the time at which the last frame ends, in ticks.

    It ends after its own duration if that is known, else after the median distance of frames, else after one tick.
    """
    if last_duration_ticks <= 0 and len(times_ticks) > 1:
        last_duration_ticks = int(np.median(np.diff(times_ticks)))
    return int(times_ticks[-1]) + max(last_duration_ticks, 1)


def needed_ranges(index: PacketIndex, wanted_ticks: npt.NDArray[np.int64]) -> list[PacketRange]:
    """Return the ranges of packets that must be decoded to get the frames at the times `wanted_ticks`.

    The packets are as few as possible, in decoding order. A frame needs the packets of its group of pictures, from the
    keyframe (decodable alone) to its own packet. A leading picture is shown before the keyframe that it follows, for
    example at the beginning of an open group. A leading picture also refers to the previous group, so its range begins
    one keyframe earlier. Ranges that touch are merged, because the decoder need not be reset between them.
    """
    keyframes = np.flatnonzero(index.is_keyframe)
    ranges: list[PacketRange] = []
    for packet in np.flatnonzero(np.isin(index.pts_ticks, wanted_ticks)):
        group = int(np.searchsorted(keyframes, packet, side="right")) - 1
        if group >= 0 and index.pts_ticks[packet] < index.pts_ticks[keyframes[group]]:
            group -= 1
        first = int(keyframes[group]) if group >= 0 else 0
        if ranges and first <= ranges[-1].last + 1:
            ranges[-1] = PacketRange(ranges[-1].first, max(ranges[-1].last, int(packet)))
        else:
            ranges.append(PacketRange(first, int(packet)))
    return ranges
