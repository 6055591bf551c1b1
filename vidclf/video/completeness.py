"""Parts of a video that its file promises or once held, but that no frame shows.

A file that is cut off, or that has a hole, still gives the frames around it. Such a video is not rejected as long as it
gives a frame; the column `missing_s` of its row holds the seconds that are missing at least.

Only a file that is recognised as incomplete counts: its structure ends after its last byte, its last bytes are zeros,
packets were damaged, or a hole of zeros is in a local file whose frames have gaps. A duration in a header alone proves
nothing, because the sound may be longer than the pictures. A gap alone proves nothing either: screen recordings have
frames only where the picture changes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidclf.video.container_structure import BinaryFile

_ZEROS_BYTES = 4096
"""Bytes at the end of a file that are zeros if a download was not finished; compressed video does not end like this."""

_HOLE_BYTES = 8192
"""Bytes of zeros, at a multiple of this number in the file, that count as a hole.

Formats pad their packets with zeros, but with fewer; a download leaves holes of at least twice as many.
"""

_BLOCK_BYTES = 1024**2

_WIDE_GAP = 1.5
"""Distance of two frames, relative to the median distance, from which frames between them count as missing."""

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEAD_BYTES = 8192


def cut_message(file: BinaryFile) -> str | None:
    """Return in words how the structure of a video file goes beyond its last byte; None if it does not.

    Raises OSError if the file cannot be read.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(_ASF_HEAD_BYTES)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip"):
        ends = [end for _, end in top_level_boxes(file, size_bytes, stops_at_fragments=True)]
        is_cut = bool(ends) and (ends[-1] is None or ends[-1] > size_bytes)
        return f"the file ends inside a box at {size_bytes} bytes" if is_cut else None
    promised_bytes = _promised_bytes(head, size_bytes)
    if promised_bytes > size_bytes:
        return f"the file ends at {size_bytes} bytes, and its header promises {promised_bytes} bytes"
    return None


def ends_in_zeros(file: BinaryFile) -> bool:
    """Return whether the last bytes of a file are zeros, as in a file that was reserved before it was downloaded."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, size_bytes - _ZEROS_BYTES))
    return size_bytes >= _ZEROS_BYTES and not any(file.read(_ZEROS_BYTES))


def has_hole(file: BinaryFile) -> bool:
    """Return whether a file has a hole of zeros; reads the whole file."""
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        rows = np.frombuffer(block[: len(block) // _HOLE_BYTES * _HOLE_BYTES], np.uint64)
        if not rows.reshape(-1, _HOLE_BYTES // 8).any(axis=1).all():
            return True
    return False


def is_fragmented(file: BinaryFile) -> bool:
    """Return whether an MP4-like file has fragments."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(8)[4:8] not in (b"ftyp", b"styp"):
        return False
    return any(kind == b"moof" for kind, _ in top_level_boxes(file, size_bytes, stops_at_fragments=True))


def asf_duration_s(file: BinaryFile) -> float | None:
    """Return the duration that the header of an ASF file states; None for another file and for a live recording.

    FFmpeg drops this duration if the file is shorter than its header promises.
    """
    file.seek(0)
    head = file.read(_ASF_HEAD_BYTES)
    start = head.find(_ASF_FILE_PROPERTIES)
    if not head.startswith(b"\x30\x26\xb2\x75") or not 0 <= start <= len(head) - 92 or head[start + 88] & 1:
        return None
    play_100ns, preroll_ms = (int.from_bytes(head[start + at : start + at + 8], "little") for at in (64, 80))
    return play_100ns / 10_000_000 - preroll_ms / 1000


def missing_at_end_s(container: Any, stream: Any, duration_s: float, asf_s: float | None) -> float:
    """Return the seconds that the header of an open video promises after the end of its frames, at least 0.

    `duration_s`: seconds from the first frame to the end of the last one. `asf_s`: the result of `asf_duration_s`.
    """
    promised_s = _promised_s(container, stream) if asf_s is None else asf_s
    if promised_s is None:
        return 0.0
    # Some formats count the duration from zero, and others from the first frame: at least so much is missing.
    start_s = max(0.0, float((stream.start_time or 0) * stream.time_base))
    missing_s = promised_s - start_s - duration_s
    frame_s = float(1 / stream.average_rate) if stream.average_rate else 0.0
    # The header may round to whole frames or milliseconds.
    return missing_s if missing_s >= _WIDE_GAP * frame_s and missing_s > 0.01 else 0.0


def gaps_s(times_ticks: npt.NDArray[np.int64], tick_s: float) -> float:
    """Return the seconds of a video that lie in wide gaps between its frames.

    `times_ticks` [N]: increasing times of the frames, in ticks of `tick_s` seconds. A distance counts if it is more
    than 1.5 times the median distance; the median itself is not missing.
    """
    distances = np.diff(times_ticks)
    if len(distances) == 0:
        return 0.0
    median = float(np.median(distances))
    wide = distances[distances > _WIDE_GAP * median]
    return float((wide - median).sum()) * tick_s


def top_level_boxes(
    file: BinaryFile, size_bytes: int, *, stops_at_fragments: bool = False
) -> Iterator[tuple[bytes, int | None]]:
    """Yield the type and end of each top-level box (section) of an MP4-like file (ISO/IEC 14496-12).

    The end, an offset in bytes, is None if the file ends inside the box's header. A box of size 0 reaches to the end
    of the file. A box that is smaller than its own header is the last one yielded. With `stops_at_fragments` the first
    box `moof` is the last one yielded: there may be thousands of them, all over a remote file.
    """
    position = 0
    while position < size_bytes:
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            yield b"", None
            return
        box_bytes = int.from_bytes(header[:4], "big")
        if box_bytes == 1:
            box_bytes = int.from_bytes(header[8:16], "big")
        if box_bytes < 8:
            yield header[4:8], size_bytes
            return
        position += box_bytes
        yield header[4:8], position
        if stops_at_fragments and header[4:8] == b"moof":
            return


def _promised_bytes(head: bytes, size_bytes: int) -> int:
    """Return the size of the file that its header `head` states, for Matroska, AVI and ASF; else 0."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_bytes(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        # Padding to an even size may be missing, and large files state the size of their first part alone.
        return 8 + (int.from_bytes(head[4:8], "little") & ~1)
    properties = head.find(_ASF_FILE_PROPERTIES)
    if head.startswith(b"\x30\x26\xb2\x75") and properties >= 0 and len(head) >= properties + 92:
        is_broadcast = head[properties + 88] & 1
        return 0 if is_broadcast else int.from_bytes(head[properties + 40 : properties + 48], "little")
    return 0


def _matroska_bytes(head: bytes) -> int:
    """Return the size of a Matroska file that its Segment states; 0 if it states none."""
    position = 4
    for is_segment in (False, True):
        if is_segment:
            if head[position : position + 4] != b"\x18\x53\x80\x67":
                return 0
            position += 4
        if position >= len(head) or not head[position]:
            return 0
        num_bytes = 9 - head[position].bit_length()
        ones = (1 << (7 * num_bytes)) - 1
        size = int.from_bytes(head[position : position + num_bytes], "big") & ones
        position += num_bytes + (0 if size == ones else size)
        if size == ones:
            return 0
    return position


def _promised_s(container: Any, stream: Any) -> float | None:
    """Return the seconds of video that the header of an open file states; None if it states none.

    What FFmpeg estimates from the times or the bit rate of packets, as for MPEG-2 TS, is not a statement of the file.
    """
    name = container.format.name
    if "mp4" in name and stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if name == "avi" and stream.frames and stream.average_rate:  # FFmpeg shortens the duration of a cut file
        return float(stream.frames / stream.average_rate)
    if "matroska" in name and "DURATION" in stream.metadata:
        hours, minutes, seconds = stream.metadata["DURATION"].split("\0")[0].split(":")
        return timedelta(hours=int(hours), minutes=int(minutes)).total_seconds() + float(seconds)
    if ("matroska" in name or name == "flv") and container.duration is not None:
        return float(container.duration / av.time_base)
    return None
