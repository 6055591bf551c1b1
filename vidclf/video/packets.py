"""Index of a video's packets (compressed pieces): frame times without decoding, and which packets a frame needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt

from vidclf.video import access_units, clock
from vidclf.video.access_units import CompletePictures
from vidclf.video.clock import ClosedClock, PacketTimes

_CLOCK_MAY_RESTART = 0x200
"""FFmpeg's flag AVFMT_TS_DISCONT of a container whose clock may start again in the middle of a file."""


@dataclass(frozen=True, kw_only=True)
class PacketTable:
    """The P packets (compressed pieces) of a video stream in decoding order; each array has shape [P]."""

    pts_ticks: npt.NDArray[np.int64]
    """presentation time of the packet's frame, in ticks of the stream's time base, after jumps of the clock were
    closed; it does not count if the packet has none"""
    has_pts: npt.NDArray[np.bool_]
    """whether the packet has a presentation time that can be true"""
    is_keyframe: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    """false for a frame that the file's edit list cuts from display"""
    complete_from: npt.NDArray[np.int64]
    """number of the first packet whose picture is complete if decoding begins with this packet; counts for keyframes"""
    positions: npt.NDArray[np.int64]
    """offset of each packet's first byte in the file; -1 if the file does not state the offset"""
    sizes: npt.NDArray[np.int64]
    """size of each packet in bytes"""
    kept: list[Any] | None
    """the packets themselves, so that they can be decoded without reading the file again; None if they are too large"""
    has_content: bool
    """false if the table was made without the content of the packets"""
    is_second_field: npt.NDArray[np.bool_] | None
    """which packets of the file are joined to the one before them in this table, if it was made without content and
    the file begins with two fields of one picture; else None"""
    are_times_guessed: bool
    """whether FFmpeg made up the presentation times, in decoding order, so that they belong to other frames"""
    time_jumps: int
    """number of jumps of the clock that were closed; if there are any, `pts_ticks` differ from the file's times"""
    last_duration_ticks: int
    """time for which the frame that is shown last is shown; 0 if it is not known"""
    time_base: Fraction
    """length of a tick in seconds"""
    slot_ticks: npt.NDArray[np.int64] | None = None
    """times of the frames in order of presentation, of a file that states one time per packet but not for which frame;
    increasing; None for other files"""


@dataclass(frozen=True, kw_only=True)
class PacketIndex:
    """Table of the P packets (compressed pieces) of a video stream in decoding order; each array has shape [P]."""

    pts_ticks: npt.NDArray[np.int64]
    """presentation time of the packet's frame, in ticks of the stream's time base, after jumps of the clock were
    closed"""
    is_keyframe: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    """false for a frame that the file's edit list cuts from display; other frames may still need it for decoding"""
    complete_from: npt.NDArray[np.int64]
    """number of the first packet whose picture is complete if decoding begins with this packet; counts for keyframes"""
    end_ticks: int
    """time at which the last shown frame ends, in ticks"""
    positions: npt.NDArray[np.int64]
    """offset of each packet's first byte in the file; -1 if the file does not state the offset"""
    sizes: npt.NDArray[np.int64]
    """size of each packet in bytes"""
    is_from_header: bool = False
    """whether the table comes from the file's header alone, without reading the packets"""


@dataclass(frozen=True)
class PacketRange:
    """Run of consecutive packets, numbers `first` to `last` (inclusive), to be fed to a freshly reset decoder."""

    first: int
    last: int


_PACKET = np.dtype(
    [
        ("pts_ticks", np.int64),
        ("dts_ticks", np.int64),
        ("has_pts", np.bool_),
        ("has_dts", np.bool_),
        ("duration_ticks", np.int64),
        ("position", np.int64),
        ("size_bytes", np.int64),
        ("is_keyframe", np.bool_),
        ("is_shown", np.bool_),
    ]
)
"""NumPy type of one packet's entry while `scan` builds the table."""


def demuxed(container: Any, stream: Any, *, has_content: bool = True) -> Iterator[Any]:
    """Yield the packets of `stream` that hold data, up to the end of what can be read of the file.

    A file that is damaged in the middle ends there, as for FFmpeg's own program, if a packet came before. Fields of one
    picture are joined, unless the table of the packets is made without their content (`has_content`).
    """
    reader = access_units.reader_of(stream) if has_content else None
    packets = _demuxed(container, stream)
    return packets if reader is None else access_units.joined(packets, reader)


def _demuxed(container: Any, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    is_first = True
    while True:
        try:
            packet = next(packets, None)
        except IndexError:
            # PyAV fails behind the last packet if a stream began after the part of the file that FFmpeg probes. By then
            # every packet has come (PyAV issue 692).
            return
        except av.error.InvalidDataError:
            if is_first:
                raise
            return
        if packet is None:
            return
        if packet.size:
            is_first = False
            yield packet


def scan(
    container: Any, stream: Any, keep_bytes: int = 0, *, has_content: bool = True, has_fields: bool = False
) -> PacketTable:
    """Read every packet of `stream` without decoding it.

    The table keeps the packets if all of them together have at most `keep_bytes` bytes. Without `has_content`, the
    packets have their sizes and times, but zeros in place of their content, which is not downloaded. With
    `has_fields`, the first two packets are known to be the fields of one picture, so that the times tell the others.
    """
    complete = CompletePictures(access_units.reader_of(stream) if has_content else None)
    entries: list[tuple[int, int, bool, bool, int, int, int, bool, bool]] = []
    kept: list[Any] = []
    num_bytes = 0
    for packet in demuxed(container, stream, has_content=has_content):
        complete.add(packet)
        num_bytes += packet.size
        if num_bytes <= keep_bytes:
            kept.append(packet)
        else:
            kept.clear()
        pts, dts = packet.pts, packet.dts
        position = -1 if packet.pos is None else packet.pos
        entries.append(
            (
                pts or 0,
                dts or 0,
                pts is not None,
                dts is not None,
                packet.duration or 0,
                position,
                packet.size,
                packet.is_keyframe,
                not packet.is_discard,
            )
        )
    table = np.array(entries, dtype=_PACKET)
    complete_from = np.array(complete.complete_from, dtype=np.int64)
    is_second = None
    if has_fields:
        is_second = access_units.second_fields(table["pts_ticks"], table["is_shown"])
        table, complete_from = _of_pictures(table, is_second), np.arange(int((~is_second).sum()))
    are_times_guessed = _are_times_guessed(table, container.format.name, bool(stream.codec_context.has_b_frames))
    # AVI counts frames; ASF stores times, which may differ by more than a step.
    has_slots = are_times_guessed and container.format.name == "asf" and bool(table["has_dts"].all())
    if has_slots:
        table["pts_ticks"], table["has_pts"] = np.sort(table["dts_ticks"]), True
    time_base = stream.time_base or Fraction(1, 1000)
    may_restart = bool(container.format.flags & _CLOCK_MAY_RESTART)
    closed = _closed_clock(table, time_base, may_restart, are_times_guessed and not has_slots)
    return PacketTable(
        pts_ticks=closed.pts_ticks,
        has_pts=closed.has_pts,
        is_keyframe=table["is_keyframe"].copy(),
        is_shown=table["is_shown"].copy(),
        complete_from=complete_from,
        positions=table["position"].copy(),
        sizes=table["size_bytes"].copy(),
        kept=kept if num_bytes <= keep_bytes else None,
        has_content=has_content,
        is_second_field=is_second,
        are_times_guessed=are_times_guessed,
        time_jumps=closed.num_jumps,
        last_duration_ticks=closed.last_duration_ticks,
        time_base=time_base,
        slot_ticks=_increasing(closed.pts_ticks) if has_slots and closed.has_pts.all() else None,
    )


def _are_times_guessed(table: Any, container_name: str, is_reordered: bool) -> bool:
    """Return whether FFmpeg made up the presentation times in `table` (`_PACKET`).

    AVI and ASF store one time per packet, which FFmpeg takes for that of decoding. If frames are reordered,
    presentation times that increase in decoding order are FFmpeg's guess and belong to other frames. Those of ASF are
    always a guess, and right only where they equal the stored times and no frame is reordered.
    """
    if container_name == "asf":
        return is_reordered or bool((table["pts_ticks"] != table["dts_ticks"]).any())
    return container_name == "avi" and is_reordered and bool(np.all(np.diff(table["pts_ticks"]) > 0))


def _increasing(times_ticks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return sorted times where each repeated one lies one tick behind the time before it."""
    numbers = np.arange(len(times_ticks))
    increasing: npt.NDArray[np.int64] = np.maximum.accumulate(np.sort(times_ticks) - numbers) + numbers
    return increasing


def _of_pictures(table: Any, is_second: npt.NDArray[np.bool_]) -> Any:
    """Return the table (`_PACKET`) with a packet per picture, whose bytes reach to the end of its second field."""
    firsts = np.flatnonzero(~is_second)
    lasts = np.append(firsts[1:], len(table)) - 1
    pictures = table[firsts]
    is_pair = lasts > firsts
    ends = table["position"][lasts] + table["size_bytes"][lasts]
    pictures["size_bytes"][is_pair] = (ends - pictures["position"])[is_pair]
    pictures["duration_ticks"][is_pair] += table["duration_ticks"][lasts][is_pair]
    return pictures


def index_of(table: PacketTable) -> PacketIndex | None:
    """Return the index of the packets in `table`, or None if they do not give the times of all frames.

    Returns None if presentation times of shown frames are missing, repeated or guessed.
    """
    if not table.is_shown.any() or not table.has_pts[table.is_shown].all() or table.are_times_guessed:
        return None
    # Whether a keyframe gives a picture depends on the times of both.
    if (table.is_keyframe & ~table.has_pts)[np.argmax(table.is_shown) :].any():
        return None
    # Packets that are not shown may have the times of others: an edit list may use a part of the file twice.
    times_ticks = np.sort(table.pts_ticks[table.is_shown])
    if (np.diff(times_ticks) == 0).any():
        return None
    return PacketIndex(
        pts_ticks=table.pts_ticks,
        is_keyframe=table.is_keyframe,
        is_shown=table.is_shown,
        complete_from=table.complete_from,
        end_ticks=end_of(times_ticks, table.last_duration_ticks),
        positions=table.positions,
        sizes=table.sizes,
    )


def _closed_clock(table: Any, time_base: Fraction, may_restart: bool, are_times_guessed: bool) -> ClosedClock:
    """Close the jumps of the clock in the times of the packets in `table` (`_PACKET`)."""
    pts_ticks, has_pts, is_shown = (table[name].copy() for name in ("pts_ticks", "has_pts", "is_shown"))
    if are_times_guessed or not (has_pts & is_shown).any():
        return ClosedClock(pts_ticks=pts_ticks, has_pts=has_pts)
    return clock.close_jumps(
        PacketTimes(
            pts_ticks=pts_ticks,
            dts_ticks=table["dts_ticks"].copy(),
            has_dts=table["has_dts"].copy(),
            has_pts=has_pts,
            durations_ticks=table["duration_ticks"].copy(),
            is_keyframe=table["is_keyframe"].copy(),
            is_shown=is_shown,
            time_base=time_base,
            may_restart=may_restart,
        )
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
    one keyframe earlier. So does the range of a picture that precedes the first complete one of its group. Ranges that
    touch are merged, because the decoder need not be reset between them.
    """
    keyframes = np.flatnonzero(index.is_keyframe)
    ranges: list[PacketRange] = []
    for packet in np.flatnonzero(index.is_shown & np.isin(index.pts_ticks, wanted_ticks)):
        group = int(np.searchsorted(keyframes, packet, side="right")) - 1
        while group >= 0 and not _gives(index, int(keyframes[group]), int(packet)):
            group -= 1
        first = int(keyframes[group]) if group >= 0 else 0
        last = int(packet)
        while ranges and first <= ranges[-1].last + 1:
            joined = ranges.pop()
            first, last = min(first, joined.first), max(last, joined.last)
        ranges.append(PacketRange(first, last))
    return ranges


def _gives(index: PacketIndex, keyframe: int, packet: int) -> bool:
    """Return whether decoding that begins with `keyframe` gives the picture of `packet`."""
    complete = int(index.complete_from[keyframe])
    return complete <= packet and bool(index.pts_ticks[packet] >= index.pts_ticks[complete])
