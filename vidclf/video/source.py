"""Opening a video by its location, and naming what is wrong where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import av
import av.error
from pyarrow import fs

from vidclf import storage
from vidclf.errors import ConfigError
from vidclf.schema import RejectReason
from vidclf.video import remote_file
from vidclf.video.rejection import VideoRejected
from vidclf.video.remote_file import RangedFile

NO_LIMIT = 2**63

_SNIFF_BYTES = 4096

_CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf"
"""FFmpeg's names of what may be opened: a playlist or a script under a video's name would have FFmpeg
open whatever it names, on this machine and others."""

_UNPARSED_CODECS = ("h264", "hevc", "vp9", "libdav1d", "av1")

Source = str | RangedFile
"""A local path, which FFmpeg reads itself, or a remote file."""


@contextmanager
def locate(uri: str, max_bytes: int = NO_LIMIT) -> Iterator[Source]:
    """The video at `uri`, found and of a size to be read.

    Raises VideoRejected: not_found, permission_denied, not_a_video, empty_file, too_large, read_error.
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
        yield path
    else:
        with remote_file.open_ranged(uri, max_bytes) as file:
            yield file


@contextmanager
def open_video(source: Source) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream: the largest that is no attached picture.

    Raises VideoRejected where there is no such stream, and PyAV's errors otherwise.
    """
    if isinstance(source, RangedFile):
        source.seek(0)
    with av.open(source, metadata_errors="ignore", options={"format_whitelist": _CONTAINERS}) as container:
        # An attached picture (cover art) is a video stream to FFmpeg, but not the video.
        attached = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & attached]
        if not streams:
            raise VideoRejected(RejectReason.NO_VIDEO_STREAM, "the container holds no video stream")
        # Without a decoder PyAV gives a stream no codec context, and so no size either.
        decodable = [stream for stream in streams if stream.codec_context is not None]
        if not decodable:
            raise VideoRejected(RejectReason.UNSUPPORTED_CODEC, "no decoder for the video stream's codec")
        stream = max(decodable, key=lambda s: (s.width or 0) * (s.height or 0))
        # One thread a decoder and one decoder a core: threads inside it cost more than they gain.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        yield container, stream


def tells_all_in_header(source: Source, container: Any, stream: Any) -> bool:
    """Whether every packet's place and time is known before any is read: an ISO base media file
    (MP4, MOV) with one index, not in fragments, of a codec whose packets FFmpeg takes as they are."""
    if "mp4" not in container.format.name or stream.codec_context.name not in _UNPARSED_CODECS or not stream.frames:
        return False
    with _opened(source) as file:
        return all(kind != b"moof" for kind, _ in _top_level_boxes(file, _head(file)[1]))


def rejection(source: Source, error: Exception) -> VideoRejected:
    """The reason that an error of PyAV or of reading stands for, by what the file looks like."""
    message = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, PermissionError):
        return VideoRejected(RejectReason.PERMISSION_DENIED, message)
    if isinstance(error, FileNotFoundError):
        return VideoRejected(RejectReason.NOT_FOUND, message)
    if isinstance(error, av.error.DecoderNotFoundError):
        return VideoRejected(RejectReason.UNSUPPORTED_CODEC, message)
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
        return VideoRejected(RejectReason.READ_ERROR, message)
    try:
        with _opened(source) as file:
            head, size_bytes = _head(file)
            is_cut = _mp4_is_cut(file, head, size_bytes)
    except OSError as unreadable:
        return VideoRejected(RejectReason.READ_ERROR, f"{message}; then {unreadable}")
    if not _looks_like_a_video(head):
        return VideoRejected(RejectReason.NOT_A_VIDEO, f"no known container signature ({message})")
    if is_cut:
        return VideoRejected(RejectReason.TRUNCATED, f"the file ends inside a box at {size_bytes} bytes ({message})")
    if isinstance(error, av.error.EOFError):
        return VideoRejected(RejectReason.TRUNCATED, message)
    return VideoRejected(RejectReason.DECODE_ERROR, message)


def no_frames(source: Source, damage: list[str]) -> VideoRejected:
    """The reason for a video that opens and yields no frame; `damage` is what decoding met."""
    with _opened(source) as file:
        head, size_bytes = _head(file)
        if _mp4_is_cut(file, head, size_bytes):
            return VideoRejected(RejectReason.TRUNCATED, f"the file ends inside a box at {size_bytes} bytes")
    if damage:
        message = f"none of its packets could be decoded: {len(damage)} damaged, the first with {damage[0]!r}"
        return VideoRejected(RejectReason.DECODE_ERROR, message)
    return VideoRejected(RejectReason.TOO_FEW_FRAMES, "no frame could be decoded")


@contextmanager
def _opened(source: Source) -> Iterator[IO[bytes] | RangedFile]:
    if isinstance(source, RangedFile):
        # FFmpeg may be in the middle of it and does not expect to be moved.
        position = source.tell()
        yield source
        source.seek(position)
    else:
        with open(source, "rb") as file:
            yield file


def _head(file: IO[bytes] | RangedFile) -> tuple[bytes, int]:
    """The first bytes, and the number of all."""
    size_bytes = file.seek(0, 2)
    file.seek(0)
    return file.read(_SNIFF_BYTES), size_bytes


def _looks_like_a_video(head: bytes) -> bool:
    """Signatures of the containers that archives hold: ISO BMFF, Matroska, AVI, TS, FLV, ASF, PS, Ogg."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba", b"OggS"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _mp4_is_cut(file: IO[bytes] | RangedFile, head: bytes, size_bytes: int) -> bool:
    """Whether a top-level box of an ISO base media file reaches past the file's end."""
    if head[4:8] != b"ftyp":
        return False
    *_, (_, end) = _top_level_boxes(file, size_bytes)
    return end is None or end > size_bytes


def _top_level_boxes(file: IO[bytes] | RangedFile, size_bytes: int) -> Iterator[tuple[bytes, int | None]]:
    """Type and end of each box (ISO/IEC 14496-12); the end is None where the file ends in a header.
    A box of size 0 reaches to the end, and what is smaller than its own header ends the walk."""
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
