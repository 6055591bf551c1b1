"""Opening a video by its location, and naming what is wrong where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.error
from pyarrow import fs

from vidclf import storage
from vidclf.config import ConfigError
from vidclf.schema import RejectReason

_SNIFF_BYTES = 4096


class VideoRejected(Exception):
    """A video that yields no frames; `reason` is from the closed list, the message says more."""

    def __init__(self, reason: RejectReason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextmanager
def open_video(uri: str) -> Iterator[tuple[Any, Any]]:
    """The container and its main video stream: the largest that is no attached picture.

    Raises VideoRejected where there is no such file or stream, and PyAV's errors otherwise.
    """
    filesystem, path = _existing(uri)
    source: Any = path
    if not isinstance(filesystem, fs.LocalFileSystem):
        source = filesystem.open_input_file(path)
    with av.open(source, metadata_errors="ignore") as container:
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


def rejection(uri: str, error: Exception) -> VideoRejected:
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
    head, size_bytes = _head(uri)
    if not _looks_like_a_video(head):
        return VideoRejected(RejectReason.NOT_A_VIDEO, f"no known container signature ({message})")
    if _mp4_is_cut(uri, head, size_bytes):
        return VideoRejected(RejectReason.TRUNCATED, f"the file ends inside a box at {size_bytes} bytes ({message})")
    if isinstance(error, av.error.EOFError):
        return VideoRejected(RejectReason.TRUNCATED, message)
    return VideoRejected(RejectReason.DECODE_ERROR, message)


def no_frames(uri: str, damage: list[str]) -> VideoRejected:
    """The reason for a video that opens and yields no frame; `damage` is what decoding met."""
    head, size_bytes = _head(uri)
    if _mp4_is_cut(uri, head, size_bytes):
        return VideoRejected(RejectReason.TRUNCATED, f"the file ends inside a box at {size_bytes} bytes")
    if damage:
        message = f"none of its packets could be decoded: {len(damage)} damaged, the first with {damage[0]!r}"
        return VideoRejected(RejectReason.DECODE_ERROR, message)
    return VideoRejected(RejectReason.TOO_FEW_FRAMES, "no frame could be decoded")


def _existing(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, path = storage.resolve(uri)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise VideoRejected(RejectReason.NOT_FOUND, "no such file")
        if info.type != fs.FileType.File:
            raise VideoRejected(RejectReason.NOT_A_VIDEO, "not a regular file")
        if info.size == 0:
            raise VideoRejected(RejectReason.EMPTY_FILE, "0 bytes")
    except PermissionError as error:
        raise VideoRejected(RejectReason.PERMISSION_DENIED, str(error)) from error
    except ConfigError as error:
        raise VideoRejected(RejectReason.READ_ERROR, str(error)) from error
    return filesystem, path


def _head(uri: str) -> tuple[bytes, int]:
    filesystem, path = storage.resolve(uri)
    with filesystem.open_input_file(path) as stream:
        return stream.read(_SNIFF_BYTES), stream.size()


def _looks_like_a_video(head: bytes) -> bool:
    """Signatures of the containers that archives hold: ISO BMFF, Matroska, AVI, TS, FLV, ASF, PS, Ogg."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba", b"OggS"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _mp4_is_cut(uri: str, head: bytes, size_bytes: int) -> bool:
    """Whether a top-level box of an ISO base media file (ISO/IEC 14496-12) reaches past the file's end."""
    if head[4:8] != b"ftyp":
        return False
    filesystem, path = storage.resolve(uri)
    position = 0
    with filesystem.open_input_file(path) as stream:
        while position < size_bytes:
            if size_bytes - position < 8:
                return True
            stream.seek(position)
            header = stream.read(16)
            box_bytes = int.from_bytes(header[:4], "big")
            if box_bytes == 1:
                box_bytes = int.from_bytes(header[8:16], "big")
            if box_bytes == 0:
                return False
            if box_bytes < 8:
                return False
            position += box_bytes
    return position > size_bytes
