"""Opening a video by its location, and finding the reject reason if it cannot be opened or decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import IO, Any

import av
import av.error
from pyarrow import fs

from vidclf import storage
from vidclf.container_signature import SIGNATURE_BYTES, looks_like_a_video, unopened_format
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video import completeness, remote_file
from vidclf.video.completeness import (
    asf_duration_s,
    cut_message,
    ends_in_zeros,
    has_hole,
    is_fragmented,
    top_level_boxes,
)
from vidclf.video.cropping import Cropping, StreamPlace, find_cropping
from vidclf.video.encryption import Encryption, find_encryption, names_a_drm_system
from vidclf.video.heif_items import find_items
from vidclf.video.rejection import VideoRejected
from vidclf.video.remote_file import RangedFile

NO_LIMIT = 2**63
"""A file size in bytes that no file exceeds; it stands for "any size is allowed"."""

_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,"
    "gif,apng,rm,swf,dv,h264,hevc,ivf,obu,av1,yuv4mpegpipe"
)
"""Video file formats that may be opened, by their FFmpeg names.

A playlist or a script under the name of a video would otherwise make FFmpeg open every file that it names, on this
machine and on others.
"""

_RESYNC_BYTES = 2**31 - 1
"""Bytes of an MPEG-2 transport stream that may be unreadable before packets follow again; the largest value of FFmpeg.

By default FFmpeg gives up after 64 KiB, which is less than the hole that an unfinished download leaves.
"""

_UNPARSED_CODECS = ("h264", "hevc", "vp9", "av1")
"""Video codecs, by FFmpeg name, whose packets FFmpeg takes from an MP4 file without parsing their content."""

_COMPOSED_ITEMS = (b"grid", b"iovl")
"""Types of the items of a HEIF or AVIF file that are made of other items: of tiles, or of layers."""

_RATE_STATED_BY_CODEC = ("h264", "hevc", "dv")
"""Formats, by FFmpeg name, whose frame rate only the coded frames state."""


@dataclass(frozen=True)
class LocalFile:
    """A video file of this machine. Only this module uses its path, by which FFmpeg opens it."""

    path: str

    def open(self) -> IO[bytes]:
        """Open the file for reading bytes. Raises OSError if that fails."""
        return open(self.path, "rb")

    def size_and_time(self) -> tuple[int, datetime]:
        """Return the size in bytes and the time of the last change. Raises OSError if the file is gone."""
        status = os.stat(self.path)
        # Whole microseconds, which is the resolution of the shards' column.
        return status.st_size, datetime.fromtimestamp(0, UTC) + timedelta(microseconds=status.st_mtime_ns // 1000)


Source = LocalFile | RangedFile
"""The file of a video: what is left of the video's location for the modules that read it."""


@contextmanager
def locate(uri: str, max_bytes: int = NO_LIMIT) -> Iterator[Source]:
    """Check that the video at `uri` exists and has at most `max_bytes`, and yield its file.

    Raises VideoRejected with not_found, permission_denied, not_a_video, empty_file, too_large or read_error.
    """
    try:
        filesystem, path = storage.resolve(uri)
        is_local = isinstance(filesystem, fs.LocalFileSystem)
        if is_local:
            entry = filesystem.get_file_info(path)
            remote_file.check_is_file(entry)
            remote_file.check_size(entry.size, max_bytes)
    except PermissionError as error:
        raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
    except ConfigError as error:
        raise VideoRejected(RejectReason.READ_ERROR, str(error)) from error
    if is_local:
        yield LocalFile(path)
    else:
        with remote_file.open_ranged(uri, max_bytes) as file:
            yield file


@contextmanager
def open_video(source: Source) -> Iterator[tuple[Any, Any]]:
    """Open a video and yield its container (the open file) and its main video stream.

    The main stream is no attached picture, and not a still one if there is another. It is the file's default, and the
    largest of several. Raises VideoRejected if there is no such stream, if it is encrypted, or if there is no decoder
    for it. PyAV's other errors pass through.
    """
    if isinstance(source, RangedFile):
        source.seek(0)
    file = source.path if isinstance(source, LocalFile) else source
    options = {"format_whitelist": _CONTAINERS, "resync_size": str(_RESYNC_BYTES)}
    with av.open(file, metadata_errors="ignore", options=options) as container:
        streams = _video_streams(container)
        encryption = _encryption(source)
        if not streams:
            if encryption is not None:
                raise VideoRejected(RejectReason.ENCRYPTED, f"the video is encrypted: {encryption.kind}")
            raise VideoRejected(RejectReason.NO_VIDEO_STREAM, "the container holds no video stream")
        # PyAV gives a stream without a decoder no codec context, and hence no size.
        decodable = [stream for stream in streams if stream.codec_context is not None]
        if not decodable:
            if encryption is not None:
                raise VideoRejected(RejectReason.ENCRYPTED, f"the video is encrypted: {encryption.kind}")
            raise VideoRejected(RejectReason.UNSUPPORTED_CODEC, "no decoder for the video stream's codec")
        if encryption is not None and encryption.stream_ids:
            # A multiplex may hold a clear programme beside scrambled ones.
            decodable = [stream for stream in decodable if stream.id not in encryption.stream_ids] or decodable
        # A still picture may come first: an animated AVIF file has one for programs that show no more. Players show the
        # file's default of several streams; another one may be larger, or be a mask (alpha plane).
        default = av.stream.Disposition.default
        stream = max(
            decodable,
            key=lambda s: (s.frames != 1, bool(s.disposition & default), (s.width or 0) * (s.height or 0)),
        )
        if encryption is not None and encryption.covers(streams.index(stream), len(streams), stream.id):
            raise VideoRejected(RejectReason.ENCRYPTED, f"the video is encrypted: {encryption.kind}")
        if stream.frames == 1 and _is_composed(source, streams):
            message = "its picture is composed of several ones (tiles or layers), which are not put together"
            raise VideoRejected(RejectReason.UNSUPPORTED_CONTAINER, message)
        # One thread per decoder and one decoder per core: threads inside a decoder cost more than they gain.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        # Otherwise a decoder cuts less from the left than the video states, so that the rest begins at a round address.
        stream.codec_context.flags |= av.codec.context.Flags.unaligned
        yield container, stream


def container_cropping(source: Source, container: Any, stream: Any) -> Cropping:
    """Return the cropping that the container states for an open video stream."""
    streams = _video_streams(container)
    place = StreamPlace(stream.id, is_item=stream.frames == 1, number=streams.index(stream), num_streams=len(streams))
    with _opened(source) as file:
        return find_cropping(file, place)


def has_complete_index(source: Source, container: Any, stream: Any) -> bool:
    """Return whether the file's header gives the position and time of every packet, so that no packet need be read.

    True for an ISO base media file (MP4, MOV) with one index and no fragments, if FFmpeg does not parse the packets
    of its codec.
    """
    if "mp4" not in container.format.name or codec_name(stream) not in _UNPARSED_CODECS or not stream.frames:
        return False
    with _opened(source) as file:
        boxes = top_level_boxes(file, _head(file)[1], stops_at_fragments=True)
        return all(kind != b"moof" for kind, _ in boxes)


def missing_s(source: Source, duration_s: float, gaps_s: float, *, is_damaged: bool) -> float:
    """Return the seconds that a video lacks, at least, if its file is damaged or incomplete; else 0.

    `duration_s`: seconds from the first decoded frame to the end of the last one. `gaps_s`: seconds in wide gaps
    between its frames. `is_damaged`: whether packets or frames were passed over. The file is opened again only if it is
    incomplete, and read again only if it is a local file with gaps.
    """
    with _opened(source) as file:
        is_cut = cut_message(file) is not None or ends_in_zeros(file)
        has_index = _head(file)[0][4:8] == b"ftyp"  # its packets are found by index, so that a hole makes no gap
        lacks_inside = is_damaged
        if gaps_s > 0 and not is_damaged and not has_index and isinstance(source, LocalFile):
            lacks_inside = has_hole(file)
        asf_s = asf_duration_s(file)
        is_incomplete = is_cut or lacks_inside or is_fragmented(file)
    if not is_incomplete:
        return 0.0
    with open_video(source) as (container, stream):
        at_end_s = completeness.missing_at_end_s(container, stream, duration_s, asf_s)
    return at_end_s + (gaps_s if lacks_inside else 0.0)


def codec_name(stream: Any) -> str:
    """Return the name of a video stream's codec, such as "av1", whichever decoder decodes it ("libdav1d")."""
    return str(stream.codec_context.codec.canonical_name)


def frame_rate(stream: Any) -> Fraction | None:
    """Return the average frames per second that a video stream states; None if it states none."""
    # Raw streams have no times, so that FFmpeg assumes 25 frames per second, and for DV it counts ticks instead of
    # frames. For both, the rate that the codec states is right.
    is_assumed = stream.container.format.name in _RATE_STATED_BY_CODEC
    rate: Fraction | None = stream.guessed_rate if is_assumed else stream.average_rate
    return rate or None


def rejection(source: Source, error: Exception) -> VideoRejected:
    """Turn an error of PyAV or of reading into a VideoRejected, to be raised by the caller.

    The beginning and structure of the file help to find the reason.
    """
    message = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, av.error.DecoderNotFoundError):
        return VideoRejected(RejectReason.UNSUPPORTED_CODEC, message)
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
        return _unreadable(error, message)
    # FFmpeg's errors do not tell the state of the file: its decoders return -1 for damage, which is the number of
    # "operation not permitted". Opening and reading the file tells whether it can be read.
    try:
        with _opened(source) as file:
            head, _ = _head(file)
            cut = cut_message(file)
            is_empty_at_end = ends_in_zeros(file)
            encryption = find_encryption(file)
    except OSError as unreadable:
        return _unreadable(unreadable, f"{message}; then {unreadable}")
    if encryption is not None:
        return VideoRejected(RejectReason.ENCRYPTED, f"the video is encrypted: {encryption.kind} ({message})")
    if not any(head):
        return VideoRejected(
            RejectReason.TRUNCATED, f"the file begins with {len(head)} zeros: no copy arrived ({message})"
        )
    unopened = unopened_format(head)
    if unopened is not None:
        return VideoRejected(RejectReason.UNSUPPORTED_CONTAINER, f"{unopened} is not opened ({message})")
    if not looks_like_a_video(head):
        return VideoRejected(RejectReason.NOT_A_VIDEO, f"no known container signature ({message})")
    if cut is not None:
        return VideoRejected(RejectReason.TRUNCATED, f"{cut} ({message})")
    if is_empty_at_end:
        return VideoRejected(RejectReason.TRUNCATED, f"the last bytes of the file are zeros ({message})")
    if isinstance(error, av.error.EOFError):
        return VideoRejected(RejectReason.TRUNCATED, message)
    return VideoRejected(RejectReason.DECODE_ERROR, message)


def _unreadable(error: OSError, message: str) -> VideoRejected:
    """Return the VideoRejected for an error of the operating system or of the storage."""
    if isinstance(error, PermissionError):
        return VideoRejected(RejectReason.PERMISSION_DENIED, message)
    if isinstance(error, FileNotFoundError):
        return VideoRejected(RejectReason.NOT_FOUND, message)
    return VideoRejected(RejectReason.READ_ERROR, message)


def no_frames(source: Source, damage: list[str]) -> VideoRejected:
    """Return the VideoRejected for a video that opens but gives no frame, to be raised by the caller.

    `damage` has one message per damaged packet.
    """
    with _opened(source) as file:
        cut = cut_message(file)
        if cut is not None:
            return VideoRejected(RejectReason.TRUNCATED, cut)
        if ends_in_zeros(file):
            return VideoRejected(RejectReason.TRUNCATED, "the last bytes of the file are zeros")
        if names_a_drm_system(file):
            message = "none of its packets could be decoded, and the file names a DRM system (pssh)"
            return VideoRejected(RejectReason.ENCRYPTED, message)
    if damage:
        message = f"none of its packets could be decoded: {len(damage)} damaged, the first with {damage[0]!r}"
        return VideoRejected(RejectReason.DECODE_ERROR, message)
    return VideoRejected(RejectReason.TOO_FEW_FRAMES, "no frame could be decoded")


def _video_streams(container: Any) -> list[Any]:
    """Return the video streams of an open file, without attached pictures.

    FFmpeg presents an attached picture (cover art) as a video stream, but it is not the video.
    """
    attached = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & attached]


def _is_composed(source: Source, streams: list[Any]) -> bool:
    """Return whether the main picture of a HEIF or AVIF file is composed of pictures that the file also holds."""
    dependent = av.stream.Disposition.dependent
    if not any(stream.disposition & dependent for stream in streams):
        return False
    with _opened(source) as file:
        items = find_items(file)
    return items is not None and items.main_type in _COMPOSED_ITEMS


def _encryption(source: Source) -> Encryption | None:
    with _opened(source) as file:
        return find_encryption(file)


@contextmanager
def _opened(source: Source) -> Iterator[IO[bytes] | RangedFile]:
    """Context that yields a video file opened for reading bytes, from a local path or from a remote file."""
    if isinstance(source, RangedFile):
        # FFmpeg may be reading this file and relies on its position.
        position = source.tell()
        yield source
        source.seek(position)
    else:
        with source.open() as file:
            yield file


def _head(file: IO[bytes] | RangedFile) -> tuple[bytes, int]:
    """Return the first bytes of a file, and the file's size in bytes."""
    size_bytes = file.seek(0, 2)
    file.seek(0)
    return file.read(SIGNATURE_BYTES), size_bytes
